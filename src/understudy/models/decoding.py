"""How a model that writes answers prompts: in batches, greedy or sampled, behind a beginning that may be set."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import nn
from transformers import LogitsProcessorList

from understudy.confidence import Confidence
from understudy.models.constrained import GrammarMask, Grammars
from understudy.models.head import base_model
from understudy.models.sampling import GumbelNoise, Sampling
from understudy.models.token_logps import TokenLogps
from understudy.tokens.encoded import padded
from understudy.tokens.template import Template


@dataclass(frozen=True)
class Generated:
    """A generated answer.

    Attributes:
        text: the answer without special tokens.
        tokens: how many tokens it took, the stop token included.
        finished: whether the model stopped by itself.
        seconds: its share of the batch's wall time.
        confidence: how sure the model is of it; None where that was not asked for.
        start: where it begins in the context, in characters, where the model points at it.
        choice_scores: log-probability of each option of the row, where the model chooses among them.
        candidates: the likeliest answers with their probabilities, the likeliest first, where the model tells.
        options: all that the model chose among, in their order, each with its log-probability; empty where it wrote.
    """

    text: str
    tokens: int
    finished: bool
    seconds: float
    confidence: Confidence | None = None
    start: int | None = None
    choice_scores: tuple[float, ...] | None = None
    candidates: tuple[tuple[str, float], ...] = ()
    options: tuple[tuple[str, float], ...] = ()


class Layout(Protocol):
    """What decoding asks of a kind of model that writes (`models.kinds.text.TextKind`).

    Attributes:
        pads_left: whether prompts are padded on the left.
    """

    pads_left: ClassVar[bool]

    def layout(
        self, template: Template, prompts: list[list[int]], prefixes: list[list[int]]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """What the model reads of each prompt, and what its decoder has written already."""
        ...

    def decoder_arguments(self, template: Template, begun: list[list[int]], device: torch.device) -> dict[str, Any]:
        """Arguments of `generate` for what a decoder has written already."""
        ...

    def write(self, base: Any, ids: torch.Tensor, mask: torch.Tensor, arguments: Mapping[str, Any]) -> torch.Tensor:
        """`[B, S]` token ids that the model's own `generate` gives."""
        ...


@torch.no_grad()
def decode(
    kind: Layout,
    model: nn.Module,
    template: Template,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    samplings: Sequence[Sampling] | None = None,
    prefixes: Sequence[list[int]] | None = None,
    grammars: Sequence[str] | None = None,
    progress: Callable[[int], None] | None = None,
    confidence: bool = False,
    beside: Callable[[Sequence[int]], Mapping[str, Any]] | None = None,
) -> list[Generated]:
    """Answer prompts, longest first so that a batch that does not fit fails at once.

    Args:
        kind: of the model.
        model: a model that writes.
        template: its tokenizer and stop tokens.
        prompts: token ids of each prompt.
        max_new_tokens: longest answer.
        batch_size: prompts at once.
        samplings: how each answer is drawn, one a prompt; default: greedily.
        prefixes: token ids with which each answer begins; what is returned goes on behind them.
        grammars: a Lark grammar a prompt, whose texts alone can be written; not with `prefixes`.
        progress: called with the number of prompts just answered.
        confidence: note how sure the model is of each answer.
        beside: what else the model reads of the prompts at some places, as arguments of its forward (pictures).

    Returns:
        One answer a prompt, in the order of the prompts.

    Raises:
        ModelError: a grammar, and no library for it.
    """
    assert grammars is None or prefixes is None, "a grammar begins where the answer does"
    held = Grammars(template, base_model(model).get_output_embeddings().weight.shape[0]) if grammars else None
    begins = list(prefixes) if prefixes is not None else [[] for _ in prompts]
    read, begun = kind.layout(template, list(prompts), begins)
    answers: dict[int, Generated] = {}
    training = model.training
    model.eval()
    try:
        for chosen in _batches(read, begun, batch_size):
            texts = [read[i] for i in chosen], [begun[i] for i in chosen]
            processors = LogitsProcessorList()
            # Before anything bends the logits: how sure the model itself is of what it then writes.
            noted = TokenLogps() if confidence else None
            if noted is not None:
                processors.append(noted)
            if held is not None and grammars:
                processors.append(GrammarMask(held, [grammars[i] for i in chosen]))
            if samplings:
                processors.append(GumbelNoise([samplings[i] for i in chosen]))
            batch = _batch(
                kind, model, template, *texts, max_new_tokens, processors, noted, beside(chosen) if beside else {}
            )
            answers |= zip(chosen, batch, strict=True)
            if progress:
                progress(len(chosen))
    finally:
        model.train(training)
    return [answers[i] for i in range(len(prompts))]


def _batches(read: list[list[int]], begun: list[list[int]], batch_size: int) -> list[list[int]]:
    """Indices of each batch, longest first; what decoders have begun is of one length, for they count positions."""
    order = sorted(range(len(read)), key=lambda i: (-len(begun[i]), -len(read[i])))
    batches: list[list[int]] = []
    for i in order:
        if not batches or len(batches[-1]) == batch_size or len(begun[batches[-1][0]]) != len(begun[i]):
            batches.append([])
        batches[-1].append(i)
    return batches


# Some models bring beams, penalties, forced or forbidden tokens along; greedy here means the likeliest token.
PLAIN: dict[str, Any] = {
    # Sampling is the likeliest token under noise, which is why no sampling of the library's own is asked for.
    "do_sample": False,
    "temperature": None,
    "top_p": None,
    "top_k": None,
    "num_beams": 1,
    "early_stopping": False,
    "repetition_penalty": 1.0,
    "encoder_repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "min_length": 0,
    "min_new_tokens": None,
    "bad_words_ids": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
}
"""Arguments of `generate` by which a model writes its likeliest token, whatever its own config says."""


def _batch(
    kind: Layout,
    model: nn.Module,
    template: Template,
    prompts: list[list[int]],
    begun: list[list[int]],
    max_new_tokens: int,
    processors: LogitsProcessorList,
    noted: TokenLogps | None,
    beside: Mapping[str, Any],
) -> list[Generated]:
    base = base_model(model)
    pad: Any = template.tokenizer.pad_token_id
    ids, mask = (side.to(base.device) for side in padded(prompts, pad, left=kind.pads_left))
    width = len(begun[0]) or ids.shape[1]
    written = kind.decoder_arguments(template, begun, base.device)
    begin = time.perf_counter()
    arguments = {
        **written,
        **beside,
        **PLAIN,
        "max_new_tokens": max_new_tokens,
        "logits_processor": processors,
        "pad_token_id": pad,
        "eos_token_id": list(template.stop_ids),
    }
    out = kind.write(base, ids, mask, arguments)
    seconds = (time.perf_counter() - begin) / len(prompts)
    rows = out[:, width:].tolist()
    answers = [_answer(template, row, seconds) for row in rows]
    return _with_confidence(answers, *noted.finish(out)) if noted else answers


def _answer(template: Template, row: list[int], seconds: float) -> Generated:
    end = next((i for i, token in enumerate(row) if token in template.stop_ids), None)
    kept = row if end is None else row[:end]
    return Generated(template.decode(kept), len(kept) + (end is not None), end is not None, seconds)


def _with_confidence(
    answers: Sequence[Generated], logps: Sequence[Sequence[float]], margins: Sequence[float]
) -> list[Generated]:
    """Answers with the measures of their tokens, the stop token and what pads behind it left out."""
    return [
        replace(answer, confidence=Confidence.of_tokens(row[: answer.tokens - answer.finished], first_margin=margin))
        for answer, row, margin in zip(answers, logps, margins, strict=True)
    ]
