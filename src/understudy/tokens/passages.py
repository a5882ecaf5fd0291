"""Queries and the passages that are to be found for them, each read by itself.

The candidates of a query are the distinct passages of all rows of its batch: its own, its hard negatives, and those of
the others (in-batch negatives). A passage that is right for the query too, or is the query itself, is no candidate.

Legend: `B` rows, `P` distinct passages of a batch, `M = B + P` texts, `S` positions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from understudy.data.corpus import corpus_of
from understudy.errors import DataError, TooLong
from understudy.files import read_json
from understudy.tokens.encoded import TokenizedExample, padded
from understudy.tokens.encoders import EncoderTemplate, ReadText
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.prompts import answer_text
from understudy.tokens.template import Candidates
from understudy.types import Example, Tokens


@dataclass(frozen=True)
class Embedding:
    """How vectors are made of texts and compared, with nothing left open (`recipe.EmbeddingConfig`)."""

    pooling: str = "mean"
    normalize: bool = True
    query_prefix: str = ""
    passage_prefix: str = ""
    temperature: float = 0.05

    def to_config(self) -> dict[str, Any]:
        """As it stands in a model's config."""
        return asdict(self)


@dataclass(frozen=True)
class PassageExample(TokenizedExample):
    """One query with the passages of its row; `answer_ids` holds the place of the one to find, the first.

    Attributes:
        query: as it is read.
        asked: its text.
        passages: as they are read, the right one first, hard negatives behind it.
        texts: theirs, by which passages of a batch are told apart.
        right: texts that are right for the query, the first among them.
    """

    query: ReadText = field(default_factory=lambda: ReadText([]))
    asked: str = ""
    passages: tuple[ReadText, ...] = ()
    texts: tuple[str, ...] = ()
    right: tuple[str, ...] = ()

    def first(self, count: int) -> PassageExample:
        """Itself: there is one target."""
        return self

    def short(self, longest: int) -> PassageExample:
        """Itself: a real input to try a model on."""
        return self

    def reads_as(self, other: TokenizedExample) -> bool:
        """See the base class."""
        return (
            isinstance(other, PassageExample)
            and (self.query, self.passages, self.texts) == (other.query, other.passages, other.texts)
            and super().reads_as(other)
        )

    @classmethod
    def batched(cls, rows: Sequence[TokenizedExample], pad_id: int) -> Tokens:
        """`[M, S]` of B queries and P passages behind them; `candidates` is `[B, P]`, `target_mask` `[B, 1]`."""
        read = list(_passage_rows(rows))
        columns: dict[str, int] = {}
        passages: list[ReadText] = []
        owners = list(range(len(read)))
        for number, row in enumerate(read):
            for text, passage in zip(row.texts, row.passages, strict=True):
                if text not in columns:
                    columns[text] = len(columns)
                    passages.append(passage)
                    owners.append(number)
        # The same query in two rows: what is right for one is right for both.
        right: dict[str, set[str]] = {}
        for row in read:
            right.setdefault(row.asked, {row.asked}).update(row.right)
        candidates = torch.ones(len(read), len(columns), dtype=torch.bool)
        targets = [columns[row.texts[row.answer_ids[0]]] for row in read]
        for number, (row, target) in enumerate(zip(read, targets, strict=True)):
            candidates[number, [columns[text] for text in right[row.asked] if text in columns]] = False
            candidates[number, target] = True
        texts = [*(row.query for row in read), *passages]
        ids, attention = padded([text.ids for text in texts], pad_id)
        inputs = {"input_ids": ids, "attention_mask": attention}
        if all(text.segments for text in texts):
            inputs["token_type_ids"] = padded([text.segments for text in texts], 0)[0]
        return {
            "inputs": inputs,
            "target_mask": torch.ones(len(read), 1, dtype=torch.bool),
            "target_ids": torch.tensor(targets),
            "candidates": candidates,
            "owners": torch.tensor(owners),
        }


def _passage_rows(rows: Sequence[TokenizedExample]) -> Iterator[PassageExample]:
    for row in rows:
        assert isinstance(row, PassageExample), "rows of two kinds of models in one batch"
        yield row


@dataclass
class PassageTemplate(EncoderTemplate):
    """The tokenizer of an encoder that makes vectors of queries and passages.

    Attributes:
        embedding: how.
        longest: tokens that are read of a text; 0 where nobody has said.
    """

    candidates: ClassVar[Candidates] = "passages"
    what: ClassVar[str] = "makes vectors of texts"
    embedding: Embedding = field(default_factory=Embedding)
    longest: int = 0

    def save(self, folder: Path) -> None:
        """The tokenizer, and the files by which sentence-transformers opens the folder and gives the same vectors."""
        super().save(folder)
        width = read_json(folder / "config.json").get("hidden_size")
        for name, content in _sentence_transformer(self.embedding, width, self.longest).items():
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _sentence_transformer(embedding: Embedding, width: int | None, longest: int) -> Mapping[str, Any]:
    """File → content; the names that all versions of the library read."""
    modules = ["", "1_Pooling", *(["2_Normalize"] if embedding.normalize else [])]
    kinds = ["Transformer", "Pooling", "Normalize"]
    listed = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(zip(modules, kinds, strict=False))
    ]
    pooling = {
        "word_embedding_dimension": width,
        "pooling_mode_cls_token": embedding.pooling == "cls",
        "pooling_mode_mean_tokens": embedding.pooling == "mean",
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    prompts = {"query": embedding.query_prefix, "document": embedding.passage_prefix}
    similarity = "cosine" if embedding.normalize else "dot"
    read = {"do_lower_case": False, **({"max_seq_length": longest} if longest else {})}
    return {
        "modules.json": listed,
        "1_Pooling/config.json": pooling,
        "config_sentence_transformers.json": {
            "prompts": prompts,
            "default_prompt_name": None,
            "similarity_fn_name": similarity,
        },
        "sentence_bert_config.json": read,
    }


@dataclass
class PassageTokenizer(ExampleTokenizer):
    """Queries and passages to token ids; see `ExampleTokenizer`."""

    template: PassageTemplate
    notes: dict[str, int] = field(default_factory=dict)

    def encode(
        self, example: Example, answer: str | None = None, *, token_ends: bool = False, num_forced_chars: int = 0
    ) -> PassageExample:
        """The query, the passage to find, and its hard negatives: the row's `choices` that are no answer.

        Raises:
            DataError: the passage is the query itself.
            TooLong: a text is, and `data.context_overflow` is `refuse`.
        """
        passage = (answer_text(example) if answer is None else answer).strip()
        if passage == example.question.strip():
            raise DataError(
                f"{example.id}: the passage is the query itself, so there is nothing to find",
                hint="leave the row out, or give it as an unlabelled text",
            )
        right = tuple(dict.fromkeys([passage, *(text.strip() for text in example.answers)]))
        # Among the choices of a row that a teacher answered there may be the right passage.
        others = [text.strip() for text in example.choices] if example.origin == "gold" else []
        negatives = [text for text in others if text not in right]
        texts = tuple(dict.fromkeys([passage, *negatives]))
        read = tuple(self.read_passage(text, example.id) for text in texts)
        row = self.read(example)
        ids = [*row.prompt_ids, *(token for text in read for token in text.ids)]
        return replace(row, prompt_ids=ids, passages=read, texts=texts, right=right)

    def read(self, example: Example) -> PassageExample:
        """The query alone."""
        text = self._read(self.template.embedding.query_prefix + example.question.strip(), example.id)
        return PassageExample(text.ids, [0], query=text, asked=example.question.strip())

    def read_passage(self, text: str, name: str) -> ReadText:
        """A passage; `name` is that of the row, for messages."""
        return self._read(self.template.embedding.passage_prefix + text, name)

    def _read(self, text: str, name: str) -> ReadText:
        """A text, its beginning where it is too long, which is counted."""
        read, limit = self.template.read(text), self.data.max_length
        if len(read.ids) <= limit:
            return read
        if self.data.context_overflow == "refuse":
            raise TooLong(
                f"{name}: the text takes {len(read.ids)} tokens, and max_length is {limit}",
                needed=len(read.ids),
                hint="raise data.max_length, or let data.context_overflow cut it",
            )
        self.add_note("texts cut at max_length")
        segments = (*read.segments[: limit - 1], read.segments[limit - 1]) if read.segments else ()
        return ReadText([*read.ids[: limit - 1], read.ids[-1]], segments)

    def corpus(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """The passages that are searched for some queries: those of their rows, and those of `data.corpus`.

        Where there are none at all, the texts themselves are, each being looked up among the others.

        Raises:
            DataError: there is nothing to search: one text alone.
        """
        own = (text.strip() for example in examples for text in (*example.answers, *example.choices))
        found = tuple(dict.fromkeys([*own, *corpus_of(self.data.corpus)]))
        found = found or tuple(dict.fromkeys(example.question.strip() for example in examples))
        if len(found) < 2:
            raise DataError(
                "there are no passages to search", hint="name a file of them as data.corpus, or give rows with some"
            )
        return found

    def prompt_ids(self, example: Example) -> list[int]:
        """The query."""
        return self.read(example).prompt_ids

    def prompt_text(self, example: Example) -> str:
        """The query as it is read."""
        return self.template.embedding.query_prefix + example.question.strip()

    def check(self, example: Example, *, learned: bool) -> None:
        """See the base class."""
        quiet = replace(self, notes={})
        if learned and example.labelled:
            quiet.encode(example)
        else:
            quiet.read(example)
