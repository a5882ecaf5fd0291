"""Models that choose: every target has a few candidates, and the model gives each a logit.

Legend: `B` rows, `N` targets, `C` candidates, `M` texts that are read, `S` positions.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_MULTIPLE_CHOICE_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING,
    AutoModelForMultipleChoice,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from understudy.confidence import Confidence
from understudy.errors import ModelError
from understudy.models.decoding import Generated
from understudy.models.head import base_model
from understudy.models.kinds.base import ModelKind
from understudy.models.output import CandidateOutput
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.collate import move
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.encoders import EncoderTemplate
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.labels import (
    LabelledExample,
    LabelTemplate,
    LabelTokenizer,
    TagTemplate,
    TextLabelTokenizer,
    WordLabelTokenizer,
)
from understudy.tokens.options import OptionsExample, OptionTemplate, OptionTokenizer, ReadOptionTokenizer
from understudy.tokens.template import Template
from understudy.types import Example, Gives, Tokens


class ChoosingKind(ModelKind):
    """A kind that chooses.

    Attributes:
        suffix: how `transformers` ends the names of its classes.
        mapping: configs that have such a head.
        auto: the auto class.
    """

    gives: ClassVar[Gives] = Gives.LOGPS
    makes_head: ClassVar[bool] = True
    suffix: ClassVar[str]
    mapping: ClassVar[Any]
    auto: ClassVar[Any]

    @abstractmethod
    def candidate_logits(self, model: nn.Module, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """`[N, C]` logits, and which of them stand for a candidate."""

    @abstractmethod
    def read(self, tokenizer: ExampleTokenizer, example: Example) -> TokenizedExample:
        """One row that is answered."""

    @abstractmethod
    def answer(self, tokenizer: ExampleTokenizer, example: Example, logp: Tensor) -> Generated:
        """What a model answers to an example.

        Args:
            tokenizer: of this kind.
            example: the row.
            logp: `[n, C]` log-probabilities of the row's targets.
        """

    def fits(self, architecture: PreTrainedConfig) -> bool:
        """Whether it was saved as such a model."""
        return any(name.endswith(self.suffix) for name in architecture.architectures or ())

    def has_room(self, data: DataConfig) -> bool:
        """Always: it writes no answers."""
        return True

    def auto_class(self, architecture: PreTrainedConfig, name: str) -> Any:
        """See the base class."""
        if type(architecture) not in self.mapping or architecture.is_encoder_decoder:
            raise ModelError(
                f"{name} ({architecture.model_type}) cannot be a {self.title}",
                hint=f"take an encoder (BERT, RoBERTa, DeBERTa …), or leave out `kind: {self.name}`",
            )
        return self.auto

    def output(self, model: nn.Module, tokens: Tokens, *, embeddings: bool = False) -> CandidateOutput:
        """See the base class."""
        logits, mask = self.candidate_logits(model, tokens)
        return CandidateOutput(tokens["target_ids"], tuple(tokens["target_mask"].sum(1).tolist()), logits, mask)

    @torch.no_grad()
    def probe(self, model: PreTrainedModel, inputs: dict[str, Tensor], name: str) -> float:
        """See the base class: finite logits; there is nothing behind them to be read off.

        Raises:
            ModelError: they are not.
        """
        logits = base_model(model)(**inputs, return_dict=True).logits
        if not bool(logits.isfinite().all()):
            raise ModelError(f"{name}: the model does not give finite logits", hint="are its weights those of it?")
        return 0.0

    def row_size(self, tokenizer: ExampleTokenizer, example: Example, *, answered: bool) -> tuple[int, int]:
        """See the base class: all that is read, and nothing is written."""
        return len(self.read(tokenizer, example).prompt_ids), 0

    @torch.no_grad()
    def answers(
        self,
        model: nn.Module,
        tokenizer: ExampleTokenizer,
        examples: Sequence[Example],
        *,
        batch_size: int,
        progress: Callable[[int], None] | None = None,
        confidence: bool = False,
    ) -> list[Generated]:
        """The likeliest candidate of each target; how likely it is, is known whether it is asked for or not."""
        training = model.training
        model.eval()
        rows = [self.read(tokenizer, example) for example in examples]
        order = sorted(range(len(rows)), key=lambda n: -len(rows[n].prompt_ids))
        answers: dict[int, Generated] = {}
        try:
            for start in range(0, len(order), batch_size):
                places = order[start : start + batch_size]
                answers |= self._answered(model, tokenizer, examples, rows, places)
                if progress:
                    progress(len(places))
        finally:
            model.train(training)
        return [answers[n] for n in range(len(rows))]

    def _answered(
        self,
        model: nn.Module,
        tokenizer: ExampleTokenizer,
        examples: Sequence[Example],
        rows: Sequence[TokenizedExample],
        places: Sequence[int],
    ) -> dict[int, Generated]:
        """The answers to the examples at some places."""
        begin = time.perf_counter()
        logp = self._logp(model, [rows[n] for n in places], tokenizer.template.tokenizer.pad_token_id).cpu()
        pieces = logp.split([len(rows[n].learned_ids) for n in places])
        seconds = (time.perf_counter() - begin) / len(places)
        return {
            n: replace(self.answer(tokenizer, examples[n], piece), seconds=seconds)
            for n, piece in zip(places, pieces, strict=True)
        }

    def _logp(self, model: nn.Module, rows: Sequence[TokenizedExample], pad_id: Any) -> Tensor:
        """`[N, C]` log-probabilities of the targets of some rows."""
        tokens = move(type(rows[0]).batched(rows, pad_id), base_model(model).device)
        return self.output(model, tokens).states.masked().float().log_softmax(-1)

    def read_ids(self, row: TokenizedExample) -> list[int]:
        """All that is read."""
        return row.prompt_ids

    def choice_scores(self, model: nn.Module, base: Any, rows: list[TokenizedExample], pad_id: int) -> list[float]:
        """Mean natural-log probability of each row's targets."""
        logp = self._logp(model, rows, pad_id)
        targets = torch.tensor([target for row in rows for target in row.learned_ids], device=logp.device)
        right = logp.gather(1, targets[:, None])[:, 0]
        return [float(piece.mean()) for piece in right.split([len(row.learned_ids) for row in rows])]


def scattered(scores: Tensor, candidates: Tensor) -> Tensor:
    """`[B, C]` of the scores of all candidates, `[M]` row by row; 0 where there is no candidate."""
    return scores.new_zeros(candidates.shape).masked_scatter(candidates, scores)


def option_answer(options: Sequence[str], logp: Tensor, *, own: bool) -> Generated:
    """The likeliest option.

    Args:
        options: K of them.
        logp: `[C]` theirs, with C − K columns of padding behind.
        own: whether they are the row's own, so that their scores belong to it.
    """
    scores = logp[: len(options)]
    ranked = scores.argsort(descending=True, stable=True).tolist()
    likeliest = tuple((str(options[n]), round(float(scores[n].exp()), 6)) for n in ranked[:5])
    kept = tuple(scores.tolist()) if own else None
    sure = Confidence().with_choices(scores.tolist())
    return Generated(
        likeliest[0][0],
        1,
        finished=True,
        seconds=0.0,
        confidence=sure,
        choice_scores=kept,
        candidates=likeliest,
        options=tuple(zip(map(str, options), scores.tolist(), strict=True)),
    )


class Choice(ChoosingKind):
    """BERT, RoBERTa, DeBERTa and kin with one score for a question and an option."""

    name = "choice"
    title = "model that compares options"
    pipeline_tag = "multiple-choice"
    reads_with_holes = True
    embeds_texts = True
    kept_by = "accuracy"
    # What peft calls sequence classification keeps the head, here a layer of one column, trained and saved.
    peft_task = "SEQ_CLS"
    suffix = "ForMultipleChoice"
    mapping = MODEL_FOR_MULTIPLE_CHOICE_MAPPING
    auto = AutoModelForMultipleChoice

    def template(
        self, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, architecture: PreTrainedConfig, source: str
    ) -> Template:
        """See the base class."""
        return OptionTemplate(tokenizer)

    def example_tokenizer(self, template: Template, data: DataConfig) -> ExampleTokenizer:
        """See the base class."""
        assert isinstance(template, EncoderTemplate)
        return ReadOptionTokenizer(template, data)

    def candidate_logits(self, model: nn.Module, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """See the base class; each option goes through the model as a row of one option."""
        candidates = tokens["candidates"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        scores = base_model(model)(**tokens["inputs"], return_dict=True).logits[:, 0]
        return scattered(scores, candidates), candidates

    def read(self, tokenizer: ExampleTokenizer, example: Example) -> OptionsExample:
        """See the base class."""
        assert isinstance(tokenizer, OptionTokenizer), "the tokenizer belongs to another kind of model"
        return tokenizer.read(example)

    def row_size(self, tokenizer: ExampleTokenizer, example: Example, *, answered: bool) -> tuple[int, int]:
        """See the base class: the longest option with what is read beside it."""
        assert isinstance(tokenizer, ReadOptionTokenizer), "the tokenizer belongs to another kind of model"
        return max(len(text.ids) for text in tokenizer.read(example).texts), 0

    def answer(self, tokenizer: ExampleTokenizer, example: Example, logp: Tensor) -> Generated:
        """See the base class."""
        assert isinstance(tokenizer, OptionTokenizer)
        return option_answer(tokenizer.options(example), logp[0], own=bool(example.choices))


class LabellingKind(ChoosingKind):
    """A kind whose head has a column for each of `data.labels`."""

    def config_fields(self, config: ModelConfig, architecture: PreTrainedConfig, source: str) -> dict[str, Any]:
        """See the base class: the labels, in the order of the head's columns.

        Raises:
            ModelError: there are none, or the model has a head for others.
        """
        labels = config.labels
        own = [name for _, name in sorted((architecture.id2label or {}).items(), key=lambda pair: int(pair[0]))]
        if not labels:
            raise ModelError(
                f"{source}: which labels there are has to be known before its head is built",
                hint="list them in data.labels" + (f": [{', '.join(own)}]" if own and own[0] != "LABEL_0" else ""),
            )
        unnamed = all(name.startswith("LABEL_") for name in own) and len(own) == len(labels)
        if self.fits(architecture) and own != list(labels) and not unnamed:
            raise ModelError(
                f"{source} has a head for the labels {', '.join(own[:8])}, not for data.labels {', '.join(labels[:8])}",
                hint="write data.labels in the order of the model's, or take an encoder without a head",
            )
        places = dict(enumerate(labels))
        return {"id2label": places, "label2id": {label: place for place, label in places.items()}}

    def read(self, tokenizer: ExampleTokenizer, example: Example) -> LabelledExample:
        """See the base class."""
        assert isinstance(tokenizer, LabelTokenizer), "the tokenizer belongs to another kind of model"
        return tokenizer.read(example)


class Classify(LabellingKind):
    """Encoders with a head that gives a text one of `data.labels`."""

    name = "classify"
    title = "model that classifies texts"
    pipeline_tag = "text-classification"
    reads_with_holes = True
    embeds_texts = True
    kept_by = "macro_f1"
    peft_task = "SEQ_CLS"
    suffix = "ForSequenceClassification"
    mapping = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    auto = AutoModelForSequenceClassification

    def template(
        self, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, architecture: PreTrainedConfig, source: str
    ) -> Template:
        """See the base class."""
        return LabelTemplate(tokenizer)

    def example_tokenizer(self, template: Template, data: DataConfig) -> ExampleTokenizer:
        """See the base class."""
        assert isinstance(template, EncoderTemplate)
        return TextLabelTokenizer(template, data)

    def candidate_logits(self, model: nn.Module, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """See the base class; every label is a candidate."""
        logits = base_model(model)(**tokens["inputs"], return_dict=True).logits
        return logits, torch.ones_like(logits, dtype=torch.bool)

    def answer(self, tokenizer: ExampleTokenizer, example: Example, logp: Tensor) -> Generated:
        """See the base class."""
        return option_answer(tokenizer.data.labels, logp[0], own=example.choices == tokenizer.data.labels)


class Tag(LabellingKind):
    """Encoders with a head that gives each word one of `data.labels`."""

    name = "tag"
    title = "model that tags words"
    pipeline_tag = "token-classification"
    reads_with_holes = True
    embeds_texts = True
    kept_by = "entity_f1"
    peft_task = "TOKEN_CLS"
    suffix = "ForTokenClassification"
    mapping = MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING
    auto = AutoModelForTokenClassification

    def template(
        self, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, architecture: PreTrainedConfig, source: str
    ) -> Template:
        """See the base class."""
        return TagTemplate(tokenizer)

    def example_tokenizer(self, template: Template, data: DataConfig) -> ExampleTokenizer:
        """See the base class."""
        assert isinstance(template, EncoderTemplate)
        return WordLabelTokenizer(template, data)

    def candidate_logits(self, model: nn.Module, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """See the base class; a target is a word, told by its first token."""
        logits = base_model(model)(**tokens["inputs"], return_dict=True).logits[tokens["target_mask"]]
        return logits, torch.ones_like(logits, dtype=torch.bool)

    def answer(self, tokenizer: ExampleTokenizer, example: Example, logp: Tensor) -> Generated:
        """See the base class."""
        labels = [tokenizer.data.labels[place] for place in logp.argmax(-1).tolist()]
        return Generated(" ".join(labels), len(labels), finished=True, seconds=0.0)
