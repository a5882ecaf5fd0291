"""Encoders that make a vector of each text: a query is answered with the passage whose vector is nearest.

    e(x) = pool(h_1 … h_S),  of length 1 where `normalize`          (Reimers and Gurevych, 2019)
    s(x, y) = e(x)·e(y) / τ

The candidates of a query are the passages of its batch, so cross-entropy is InfoNCE with in-batch negatives (van den
Oord et al., 2018; Henderson et al., 2017; Karpukhin et al., 2020), and a divergence compares what teacher and student
say of the same passages (Lin et al., 2021).

Legend: `B` queries, `P` passages, `M = B + P` texts, `S` positions, `d` width.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import MODEL_FOR_MASKED_LM_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel

from understudy.confidence import Confidence
from understudy.errors import ModelError
from understudy.models.decoding import Generated
from understudy.models.embedding_settings import MARK, embedding_of
from understudy.models.head import base_model
from understudy.models.kinds.base import ModelKind
from understudy.models.output import EmbeddingOutput
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.collate import move
from understudy.tokens.encoded import TokenizedExample, padded
from understudy.tokens.encoders import ReadText
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.passages import Embedding, PassageExample, PassageTemplate, PassageTokenizer
from understudy.tokens.template import Template
from understudy.types import Example, Gives, Tokens

NUM_KEPT = 10
"""Passages that are kept of a ranking."""


class Embed(ModelKind):
    """BERT, RoBERTa, MPNet, ModernBERT and kin, without a head."""

    name = "embed"
    title = "model that makes vectors of texts"
    pipeline_tag = "sentence-similarity"
    peft_task = "FEATURE_EXTRACTION"
    kept_by = "ndcg@10"
    reads_with_holes = True
    makes_head = True
    embeds_texts = True
    searches = True
    gives: ClassVar[Gives] = Gives.LOGPS

    def fits(self, architecture: PreTrainedConfig) -> bool:
        """Whether it was opened as one before."""
        return bool(getattr(architecture, MARK, None))

    def has_room(self, data: DataConfig) -> bool:
        """Always: it writes no answers."""
        return True

    def auto_class(self, architecture: PreTrainedConfig, name: str) -> Any:
        """See the base class."""
        if type(architecture) not in MODEL_FOR_MASKED_LM_MAPPING or architecture.is_encoder_decoder:
            raise ModelError(
                f"{name} ({architecture.model_type}) cannot be a {self.title}",
                hint="take an encoder (BERT, RoBERTa, MPNet …), or leave out `kind: embed`",
            )
        return AutoModel

    def config_fields(self, config: ModelConfig, architecture: PreTrainedConfig, source: str) -> dict[str, Any]:
        """See the base class: the mark, with the settings."""
        return {MARK: embedding_of(config, architecture, source).to_config()}

    def template(self, tokenizer: Any, config: ModelConfig, architecture: PreTrainedConfig, source: str) -> Template:
        """See the base class."""
        return PassageTemplate(tokenizer, embedding=embedding_of(config, architecture, source))

    def example_tokenizer(self, template: Template, data: DataConfig) -> ExampleTokenizer:
        """See the base class."""
        assert isinstance(template, PassageTemplate)
        template.longest = data.max_length
        return PassageTokenizer(template, data)

    def row_size(self, tokenizer: ExampleTokenizer, example: Example, *, answered: bool) -> tuple[int, int]:
        """See the base class: the longest text of the row."""
        assert isinstance(tokenizer, PassageTokenizer), "the tokenizer belongs to another kind of model"
        row = tokenizer.encode(example) if example.labelled else tokenizer.read(example)
        return max(len(text.ids) for text in (row.query, *row.passages)), 0

    def prepare_loaded(self, model: PreTrainedModel) -> None:
        """See the base class: the layer behind [CLS] that BERT has is not read, and not trained."""
        pooler = getattr(model, "pooler", None)
        if isinstance(pooler, nn.Module):
            pooler.requires_grad_(False)

    def output(self, model: nn.Module, tokens: Tokens, *, embeddings: bool = False) -> EmbeddingOutput:
        """See the base class; N = B targets, C = P passages."""
        mask = tokens["candidates"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        vectors = vectors_of(model, tokens["inputs"])
        queries, passages = vectors.split([len(mask), mask.shape[1]])
        logits = queries @ passages.mT / settings_of(model).temperature
        return EmbeddingOutput(tokens["target_ids"], (1,) * len(mask), logits, mask, vectors)

    @torch.no_grad()
    def probe(self, model: PreTrainedModel, inputs: dict[str, Tensor], name: str) -> float:
        """See the base class: finite vectors; there is no head behind them to be read off.

        Raises:
            ModelError: they are not.
        """
        if not bool(vectors_of(model, inputs).isfinite().all()):
            raise ModelError(f"{name}: the model does not give finite vectors", hint="are its weights those of it?")
        return 0.0

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
        """The nearest passage of the corpus; the ranking's beginning is in `candidates`. No query finds itself."""
        assert isinstance(tokenizer, PassageTokenizer), "the tokenizer belongs to another kind of model"
        corpus = tokenizer.corpus(examples)
        pad: Any = tokenizer.template.tokenizer.pad_token_id
        training = model.training
        model.eval()
        try:
            passages = _passage_vectors(model, tokenizer, corpus, batch_size)
            places = {text: place for place, text in enumerate(corpus)}
            answers: list[Generated] = []
            for start in range(0, len(examples), batch_size):
                chunk = examples[start : start + batch_size]
                begin = time.perf_counter()
                rows = [tokenizer.read(example) for example in chunk]
                queries = embed(model, [row.query for row in rows], pad_id=pad, batch_size=batch_size)
                logits = queries @ passages.mT / tokenizer.template.embedding.temperature
                for number, row in enumerate(rows):
                    if row.asked in places:
                        logits[number, places[row.asked]] = -torch.inf
                seconds = (time.perf_counter() - begin) / len(chunk)
                answers += [_ranked(corpus, scores, seconds) for scores in logits]
                if progress:
                    progress(len(chunk))
        finally:
            model.train(training)
        return answers

    def read_ids(self, row: TokenizedExample) -> list[int]:
        """All that is read."""
        return row.prompt_ids

    def choice_scores(self, model: nn.Module, base: Any, rows: list[TokenizedExample], pad_id: int) -> list[float]:
        """Natural-log probability of each row's passage among those of the rows that are given together."""
        tokens = move(PassageExample.batched(rows, pad_id), base.device)
        logp = self.output(model, tokens).states.masked().float().log_softmax(-1)
        return logp.gather(1, tokens["target_ids"][:, None])[:, 0].tolist()


def settings_of(model: nn.Module) -> Embedding:
    """The settings that stand in a model's config."""
    return Embedding(**getattr(base_model(model).config, MARK))


def vectors_of(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """`[M, d]` vectors of the texts in `inputs`, in float32 where weights are in half precision."""
    settings = settings_of(model)
    states = base_model(model)(**inputs, return_dict=True).last_hidden_state
    states = states if states.dtype == torch.float64 else states.float()
    if settings.pooling == "cls":
        pooled = states[:, 0]
    else:
        mask = inputs["attention_mask"][:, :, None].to(states.dtype)
        pooled = (states * mask).sum(1) / mask.sum(1)
    return normalize(pooled, dim=-1) if settings.normalize else pooled


@torch.no_grad()
def embed(model: nn.Module, texts: Sequence[ReadText], *, pad_id: int, batch_size: int) -> Tensor:
    """`[M, d]` vectors of texts, on the processor, in their order.

    Args:
        model: of this kind, in evaluation mode.
        texts: as they are read.
        pad_id: what pads.
        batch_size: texts at once.
    """
    device = base_model(model).device
    order = sorted(range(len(texts)), key=lambda n: -len(texts[n].ids))
    vectors: dict[int, Tensor] = {}
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        ids, mask = (side.to(device) for side in padded([texts[n].ids for n in places], pad_id))
        inputs = {"input_ids": ids, "attention_mask": mask}
        if all(texts[n].segments for n in places):
            inputs["token_type_ids"] = padded([texts[n].segments for n in places], 0)[0].to(device)
        vectors |= zip(places, vectors_of(model, inputs).cpu(), strict=True)
    return torch.stack([vectors[n] for n in range(len(texts))])


_PASSAGES: weakref.WeakKeyDictionary[nn.Module, tuple[Any, dict[str, Tensor]]] = weakref.WeakKeyDictionary()
"""Vectors of passages under a model's weights as they stand: a corpus is read once, not for every query."""


def _passage_vectors(model: nn.Module, tokenizer: PassageTokenizer, corpus: Sequence[str], batch_size: int) -> Tensor:
    """`[P, d]` vectors of the corpus; those that are known for these weights and this tokenizer are not made again."""
    base = base_model(model)
    # Every step of an optimiser and every loaded weight counts up.
    state = (sum(p._version for p in model.parameters()), tokenizer.template.embedding, tokenizer.data.max_length)
    known_state, known = _PASSAGES.get(base, (None, {}))
    if known_state != state:
        known = {}
        _PASSAGES[base] = (state, known)
    new = [text for text in corpus if text not in known]
    if new:
        read = [tokenizer.read_passage(text, "corpus") for text in new]
        pad: Any = tokenizer.template.tokenizer.pad_token_id
        known |= zip(new, embed(model, read, pad_id=pad, batch_size=batch_size), strict=True)
    return torch.stack([known[text] for text in corpus])


def _ranked(corpus: Sequence[str], logits: Tensor, seconds: float) -> Generated:
    """The beginning of a ranking, the nearest passage as the answer; of equal ones the first of the corpus."""
    logp = logits.float().log_softmax(-1)
    best: list[int] = logp.sort(descending=True, stable=True).indices[:NUM_KEPT].tolist()
    kept = tuple((corpus[place], round(float(logp[place].exp()), 6)) for place in best if logits[place] > -torch.inf)
    sure = Confidence(choice_probability=float(logp[best[0]].exp()))
    return Generated(kept[0][0], 1, finished=True, seconds=seconds, candidates=kept, confidence=sure)
