"""Encoders that point: an answer is a span of the context, given by the positions of its first and last token.

The candidates of each target are positions of the row, so what a teacher says of them are logits `[2B, S]`, start and
end of a row side by side, and a mask of the context.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_QUESTION_ANSWERING_MAPPING,
    AutoModelForQuestionAnswering,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from understudy.confidence import Confidence
from understudy.data.benchmark_formats import UNANSWERABLE
from understudy.errors import ModelError
from understudy.models.decoding import Generated
from understudy.models.head import base_model
from understudy.models.kinds.base import ModelKind
from understudy.models.output import CandidateOutput
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.collate import move
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.spans import NO_ANSWER, SpanExample, SpanTemplate, SpanTokenizer
from understudy.tokens.template import Template
from understudy.types import Example, Gives, Tokens

NUM_SPANS = 20
"""Spans that are compared at the end, of all windows."""
NUM_KEPT = 5
"""Answers that are kept with their probabilities."""


class Span(ModelKind):
    """BERT, RoBERTa, DeBERTa and kin with a head of two logits a position."""

    name = "span"
    title = "model that points at a span of its context"
    pipeline_tag = "question-answering"
    reads_with_holes = True
    embeds_texts = True
    peft_task = "QUESTION_ANS"
    kept_by = "token_f1"
    gives: ClassVar[Gives] = Gives.LOGPS

    def fits(self, architecture: PreTrainedConfig) -> bool:
        """Whether it was saved as such a model."""
        return any(name.endswith("ForQuestionAnswering") for name in architecture.architectures or ())

    def has_room(self, data: DataConfig) -> bool:
        """Always: it points at answers and writes none."""
        return True

    def row_size(self, tokenizer: ExampleTokenizer, example: Example, *, answered: bool) -> tuple[int, int]:
        """See the base class: the longest window, and nothing is written."""
        assert isinstance(tokenizer, SpanTokenizer), "the tokenizer belongs to another kind of model"
        return max(len(window.prompt_ids) for window in tokenizer.windows(example)), 0

    def auto_class(self, architecture: PreTrainedConfig, name: str) -> Any:
        """`AutoModelForQuestionAnswering`.

        Raises:
            ModelError: the architecture has no such head.
        """
        if type(architecture) not in MODEL_FOR_QUESTION_ANSWERING_MAPPING or architecture.is_encoder_decoder:
            raise ModelError(
                f"{name} ({architecture.model_type}) has no head that points at a span",
                hint="take an encoder (BERT, RoBERTa, DeBERTa …), or leave out `kind: span`",
            )
        return AutoModelForQuestionAnswering

    def template(
        self, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, architecture: PreTrainedConfig, source: str
    ) -> Template:
        """See the base class."""
        return SpanTemplate(tokenizer)

    def example_tokenizer(self, template: Template, data: DataConfig) -> ExampleTokenizer:
        """See the base class."""
        return SpanTokenizer(template, data)

    def output(self, model: nn.Module, tokens: Tokens, *, embeddings: bool = False) -> CandidateOutput:
        """See the base class; N = 2B targets, C = S positions."""
        logits = _logits(model, tokens["inputs"])
        mask = tokens["candidates"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        return CandidateOutput(
            tokens["target_ids"],
            (2,) * len(logits),
            logits.flatten(0, 1),
            mask[:, None].expand_as(logits).flatten(0, 1),
        )

    @torch.no_grad()
    def probe(self, model: PreTrainedModel, inputs: dict[str, Tensor], name: str) -> float:
        """See the base class: two finite logits a position; there is nothing behind them to be read off.

        Raises:
            ModelError: they are not.
        """
        logits = _logits(model, inputs)
        if logits.shape[-1] != inputs["input_ids"].shape[-1] or not bool(logits.isfinite().all()):
            raise ModelError(
                f"{name}: the model does not give two finite logits a position", hint="are its weights those of it?"
            )
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
        """The likeliest span of all windows of a context, at most `data.max_answer_tokens` long."""
        assert isinstance(tokenizer, SpanTokenizer), "the tokenizer belongs to another kind of model"
        training = model.training
        model.eval()
        answers: list[Generated] = []
        try:
            for start in range(0, len(examples), batch_size):
                chunk = examples[start : start + batch_size]
                answers += _answer_chunk(model, tokenizer, chunk, batch_size)
                if progress:
                    progress(len(chunk))
        finally:
            model.train(training)
        return answers

    def read_ids(self, row: TokenizedExample) -> list[int]:
        """Question and context."""
        return row.prompt_ids

    def choice_scores(self, model: nn.Module, base: Any, rows: list[TokenizedExample], pad_id: int) -> list[float]:
        """Mean natural-log probability of each row's two positions."""
        tokens = move(SpanExample.batched(rows, pad_id), base.device)
        logits = self.output(model, tokens).states.masked().float()
        logp = logits.log_softmax(-1).gather(1, tokens["target_ids"][:, None])
        return logp.view(-1, 2).mean(1).tolist()


def _logits(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """`[B, 2, S]` of start and end."""
    # Not through an adapter's wrapper: that of peft leaves the segments out.
    output = base_model(model)(**inputs, return_dict=True)
    return torch.stack([output.start_logits, output.end_logits], dim=1)


def _answer_chunk(
    model: Any, tokenizer: SpanTokenizer, examples: Sequence[Example], batch_size: int
) -> list[Generated]:
    begin = time.perf_counter()
    windows = [tokenizer.windows(example) for example in examples]
    flat = sorted((window for group in windows for window in group), key=lambda window: -len(window.prompt_ids))
    pad: Any = tokenizer.template.tokenizer.pad_token_id
    logits: dict[int, Tensor] = {}
    for start in range(0, len(flat), batch_size):
        batch = flat[start : start + batch_size]
        inputs = move(SpanExample.batched(batch, pad)["inputs"], base_model(model).device)
        logits |= zip(map(id, batch), _logits(model, inputs).float().cpu(), strict=True)
    spans_of_rows = [
        likeliest_spans(example.context or "", group, [logits[id(window)] for window in group], tokenizer.data)
        for example, group in zip(examples, windows, strict=True)
    ]
    seconds = (time.perf_counter() - begin) / len(examples)
    return [
        Generated(
            spans[0].text,
            spans[0].tokens,
            finished=True,
            seconds=seconds,
            candidates=tuple((span.text, round(span.probability, 6)) for span in spans[:NUM_KEPT]),
            confidence=Confidence(span_logp=spans[0].logp),
            start=spans[0].start,
        )
        for spans in spans_of_rows
    ]


@dataclass(frozen=True)
class FoundSpan:
    """A span of a context, or no answer.

    Attributes:
        text: of the span; `UNANSWERABLE` for none.
        score: sum of its start's and its end's logit.
        tokens: its length; 1 of no answer.
        start: where it begins in the context, in characters; None of no answer.
        probability: among the spans that are kept, and no answer.
        logp: log-probability among all spans that are allowed, and no answer; a span that two windows share counts in
            both.
    """

    text: str
    score: float
    tokens: int
    start: int | None = None
    probability: float = 0.0
    logp: float = 0.0


def likeliest_span(
    context: str, windows: Sequence[SpanExample], logits: Sequence[Tensor], data: DataConfig
) -> FoundSpan:
    """The first of `likeliest_spans`: what is answered."""
    return likeliest_spans(context, windows, logits, data)[0]


def best_span(
    context: str, windows: Sequence[SpanExample], logits: Sequence[Tensor], data: DataConfig
) -> tuple[str, int]:
    """The text of what is answered, and its length in tokens."""
    span = likeliest_span(context, windows, logits, data)
    return span.text, span.tokens


def likeliest_spans(
    context: str, windows: Sequence[SpanExample], logits: Sequence[Tensor], data: DataConfig, num: int = NUM_SPANS
) -> list[FoundSpan]:
    """The likeliest spans of all windows of a context, what is answered first; no answer is among them.

    A span's score is the sum of its start's and its end's logit; that of no answer is the same of the first position,
    the least of all windows (Devlin et al., 2019, section 4.3). It is what is answered where it lies at least
    `data.null_threshold` above the best span. A text that two windows or two places have counts once, with its best
    score. Probabilities are a softmax over the scores of the spans that are kept and of no answer.

    Args:
        context: the text that windows were cut from.
        windows: of one example.
        logits: `[2, S]` of each window; what lies behind its end is not read.
        data: `max_answer_tokens` bounds the length.
        num: how many spans are kept.
    """
    none = FoundSpan(UNANSWERABLE, min(float(scores[:, NO_ANSWER].sum()) for scores in logits), 1)
    best: dict[str, FoundSpan] = {}
    total = torch.tensor(none.score, dtype=torch.float64)
    for window, scores in zip(windows, logits, strict=True):
        sums = _sums(window, scores, data.max_answer_tokens)
        total = torch.logaddexp(total, sums.double().flatten().logsumexp(0)) if sums.numel() else total
        for span in _spans_of(context, window, sums, num):
            if span.text not in best or best[span.text].score < span.score:
                best[span.text] = span
    spans = sorted(best.values(), key=lambda span: -span.score)[:num]
    answered = bool(spans) and spans[0].score > none.score - data.null_threshold
    ordered = sorted([*spans, none], key=lambda span: -span.score)
    shares = torch.tensor([span.score for span in ordered], dtype=torch.float64).softmax(0).tolist()
    ordered = [
        replace(span, probability=share, logp=min(0.0, span.score - float(total)))
        for span, share in zip(ordered, shares, strict=True)
    ]
    first = next(span for span in ordered if (span.text != UNANSWERABLE) == answered or not spans)
    return [first, *(span for span in ordered if span is not first)]


def _sums(window: SpanExample, scores: Tensor, longest: int) -> Tensor:
    """`[W, W]`: score of every start and end in the context of one window, −∞ where that is no span."""
    start, end = (side[slice(*window.context)] for side in scores)
    sums = start[:, None] + end[None, :]
    allowed = torch.ones_like(sums, dtype=torch.bool).triu().tril(longest - 1)
    return sums.masked_fill(~allowed, -torch.inf)


def _spans_of(context: str, window: SpanExample, sums: Tensor, num: int) -> list[FoundSpan]:
    """The likeliest spans of one window."""
    if not sums.numel():
        return []
    best = sums.flatten().topk(min(num, int(sums.isfinite().sum())))
    spans = []
    for score, place in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        first, last = divmod(place, len(sums))
        begin, end = window.offsets[first][0], window.offsets[last][1]
        begin += len(context[begin:end]) - len(context[begin:end].lstrip())
        spans.append(FoundSpan(context[begin:end].rstrip(), score, last - first + 1, begin))
    return spans
