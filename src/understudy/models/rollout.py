"""Answers drawn from a model as it stands, token for token with the log-probability of each: what it is trained on.

Unlike `models.decoding`, which answers to be read, nothing becomes text here: the ids that were drawn are the ids that
are learned. One draw takes one uniform number u: the token is the first whose cumulated probability exceeds u (inverse
transform sampling). The numbers of a row follow from its seed alone, so a row is the same whatever else stands in the
batch, up to the last digits of the logits.

What makes it fast: prompts are sorted by length; keys and values are kept; rows that have ended leave the batch as soon
as a quarter of it has; the head is applied to one position a row.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from understudy.models.head import base_model
from understudy.tokens.encoded import padded
from understudy.tokens.template import Template

_KEPT_WHILE = 0.75
"""A batch is cut down when no more than this share of its rows still writes."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """An answer as it was drawn.

    Attributes:
        ids: its tokens, the stop token among them where the model wrote one; nothing stands behind that.
        logp: `[T]` natural log-probability of each under the distribution it was drawn from.
        finished: whether it ends with a stop token.
    """

    ids: tuple[int, ...]
    logp: tuple[float, ...]
    finished: bool


@dataclass(frozen=True)
class Drawing:
    """How answers are drawn.

    Attributes:
        temperature: T; tokens come from softmax(z / T).
        max_new_tokens: longest answer.
        columns: tokens are drawn from the first so many columns of the head; None: from all.
        batch_size: prompts at once.
        autocast: whether the forward pass runs in bfloat16.
        cached: keep keys and values; without, every token reads its whole row anew (slow; a check of the other way).
    """

    temperature: float = 1.0
    max_new_tokens: int = 64
    columns: int | None = None
    batch_size: int = 64
    autocast: bool = False
    cached: bool = True


@dataclass(frozen=True)
class Mixture:
    """A second model that is drawn from too, p̃ = share · p + (1 − share) · q (MiniLLM, arXiv 2306.08543).

    Attributes:
        model: the teacher, of the same vocabulary.
        template: its own.
        prompts: the same questions as it reads them.
        share: of the teacher.
    """

    model: nn.Module
    template: Template
    prompts: Sequence[list[int]]
    share: float


class Writer(Protocol):
    """A model in the middle of a batch of answers."""

    @property
    def device(self) -> torch.device:
        """Where it is."""
        ...

    def logits(self, tokens: Tensor | None) -> Tensor:
        """`[B, V]` logits of the next token, behind one more token a row; None: behind the prompts alone."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with some of the rows."""
        ...


@torch.no_grad()
def roll_out(
    model: nn.Module,
    template: Template,
    prompts: Sequence[list[int]],
    seeds: Sequence[tuple[int, ...]],
    drawing: Drawing,
    mixture: Mixture | None = None,
) -> list[Rollout]:
    """Draw an answer to each prompt, longest prompts first.

    Args:
        model: a causal model or an encoder–decoder, with or without adapters.
        template: its tokenizer: what pads, what ends an answer, what a decoder begins with.
        prompts: token ids of each.
        seeds: of each row's uniform numbers.
        drawing: how.
        mixture: a teacher that is drawn from too.

    Returns:
        One rollout a prompt, in the order of the prompts.
    """
    models = [model, *([mixture.model] if mixture else [])]
    training = [each.training for each in models]
    answers: dict[int, Rollout] = {}
    try:
        for each in models:
            each.eval()
        for chosen in _batches(prompts, drawing.batch_size):
            writers = [writer_of(model, template, [prompts[i] for i in chosen], cached=drawing.cached)]
            if mixture:
                read = [mixture.prompts[i] for i in chosen]
                writers.append(writer_of(mixture.model, mixture.template, read, cached=drawing.cached))
            share = mixture.share if mixture else 0.0
            batch = _Batch(writers, share, [seeds[i] for i in chosen], set(template.stop_ids), drawing)
            answers |= zip(chosen, batch.run(), strict=True)
    finally:
        for each, was in zip(models, training, strict=True):
            each.train(was)
    return [answers[i] for i in range(len(prompts))]


def _batches(prompts: Sequence[list[int]], size: int) -> Iterator[list[int]]:
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    for start in range(0, len(order), size):
        yield order[start : start + size]


@dataclass
class _Batch:
    """Some answers on their way."""

    writers: Sequence[Writer]
    share: float
    seeds: Sequence[tuple[int, ...]]
    stop_ids: set[int]
    drawing: Drawing

    def __post_init__(self) -> None:
        self.tokens: list[list[int]] = [[] for _ in self.seeds]
        self.logp: list[list[float]] = [[] for _ in self.seeds]

    def run(self) -> list[Rollout]:
        """Write until all have ended."""
        longest = self.drawing.max_new_tokens
        uniform = np.stack([np.random.default_rng(seed).random(longest) for seed in self.seeds])
        places, last = list(range(len(self.seeds))), None
        open_rows = set(places)
        for step in range(longest):
            token, logp = self._drawn(last, torch.from_numpy(uniform[places, step]))
            for place, one, value in zip(places, token.tolist(), logp.tolist(), strict=True):
                if place in open_rows:
                    self.tokens[place].append(one)
                    self.logp[place].append(value)
                    if one in self.stop_ids:
                        open_rows.discard(place)
            if not open_rows:
                break
            if len(open_rows) <= _KEPT_WHILE * len(places):
                kept = torch.tensor([n for n, place in enumerate(places) if place in open_rows], device=token.device)
                places, token = [places[n] for n in kept.tolist()], token[kept]
                for writer in self.writers:
                    writer.keep(kept)
            last = token
        pairs = zip(self.tokens, self.logp, strict=True)
        return [Rollout(tuple(ids), tuple(logp), ids[-1] in self.stop_ids) for ids, logp in pairs]

    def _drawn(self, last: Tensor | None, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """A token of each row and its log-probability, `[B]` each."""
        weights = [self._weights(writer, last) for writer in self.writers]
        if len(weights) == 1:
            mass, total = weights[0]
        else:
            (student, s), (teacher, t) = weights
            width = min(student.shape[1], teacher.shape[1])
            mass = self.share * teacher[:, :width] / t[:, None] + (1 - self.share) * student[:, :width] / s[:, None]
            total = mass.sum(1)
        return draw(mass, total, uniform.to(mass))

    def _weights(self, writer: Writer, last: Tensor | None) -> tuple[Tensor, Tensor]:
        """`[B, V]` probabilities up to a factor a row, and their sums `[B]`."""
        with torch.autocast(writer.device.type, torch.bfloat16, enabled=self.drawing.autocast):
            logits = writer.logits(last)
        logits = logits[:, : self.drawing.columns]
        logits = (logits if logits.dtype == torch.float64 else logits.float()) / self.drawing.temperature
        mass = (logits - logits.amax(1, keepdim=True)).exp_()
        return mass, mass.sum(1)


def draw(mass: Tensor, total: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
    """The first column whose cumulated probability exceeds u, and the logarithm of its probability.

    Args:
        mass: `[B, V]` probabilities up to a factor a row.
        total: `[B]` their sums.
        uniform: `[B]` in [0, 1).
    """
    cumulated = mass.cumsum(1)
    # The last sum, not `total`: the two differ in their last digits, and u · total must not lie beyond the last column.
    wanted = uniform[:, None] * cumulated[:, -1:]
    token = torch.searchsorted(cumulated, wanted, right=True)[:, 0].clamp_max(mass.shape[1] - 1)
    return token, (mass.gather(1, token[:, None])[:, 0] / total).log()


def writer_of(model: nn.Module, template: Template, prompts: Sequence[list[int]], *, cached: bool = True) -> Writer:
    """A model that has read some prompts."""
    base = base_model(model)
    pad: Any = template.tokenizer.pad_token_id
    if template.start_ids:
        return _DecoderWriter(base, prompts, list(template.start_ids), pad, cached=cached)
    return _CausalWriter(base, prompts, pad, cached=cached)


class _CausalWriter:
    """A causal model; prompts are padded on the left."""

    def __init__(self, model: Any, prompts: Sequence[list[int]], pad: int, *, cached: bool) -> None:
        self.model = model
        self.ids, self.mask = (side.to(model.device) for side in padded(prompts, pad, left=True))
        takes = inspect.signature(model.forward).parameters
        self.cached = cached and "past_key_values" in takes
        self.takes_positions, self.takes_last = "position_ids" in takes, "logits_to_keep" in takes
        self.cache: Any = None

    @property
    def device(self) -> torch.device:
        """See `Writer`."""
        return self.mask.device

    def logits(self, tokens: Tensor | None) -> Tensor:
        """See `Writer`."""
        if tokens is not None:
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(tokens), 1)], dim=1)
            self.ids = tokens[:, None] if self.cached else torch.cat([self.ids, tokens[:, None]], dim=1)
        more: dict[str, Any] = {"logits_to_keep": 1} if self.takes_last else {}
        if self.takes_positions:
            positions = (self.mask.cumsum(1) - 1).clamp_min(0)
            more["position_ids"] = positions[:, -self.ids.shape[1] :]
        if self.cached:
            more |= {"past_key_values": self.cache, "use_cache": True}
        out = self.model(input_ids=self.ids, attention_mask=self.mask, **more)
        self.cache = out.past_key_values if self.cached else None
        return out.logits[:, -1]

    def keep(self, rows: Tensor) -> None:
        """See `Writer`."""
        self.mask, self.ids = self.mask[rows], self.ids[rows]
        if self.cache is not None:
            self.cache.batch_select_indices(rows)


class _DecoderWriter:
    """An encoder–decoder: prompts are read once."""

    def __init__(self, model: Any, prompts: Sequence[list[int]], start: list[int], pad: int, *, cached: bool) -> None:
        self.model, self.cached = model, cached
        ids, self.mask = (side.to(model.device) for side in padded(prompts, pad))
        self.read = model.get_encoder()(input_ids=ids, attention_mask=self.mask, return_dict=True).last_hidden_state
        self.ids = torch.tensor([start] * len(prompts), device=model.device)
        self.cache: Any = None

    @property
    def device(self) -> torch.device:
        """See `Writer`."""
        return self.mask.device

    def logits(self, tokens: Tensor | None) -> Tensor:
        """See `Writer`."""
        if tokens is not None:
            self.ids = tokens[:, None] if self.cached else torch.cat([self.ids, tokens[:, None]], dim=1)
        out = self.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self.read),
            attention_mask=self.mask,
            decoder_input_ids=self.ids,
            past_key_values=self.cache,
            use_cache=self.cached,
        )
        self.cache = out.past_key_values if self.cached else None
        return out.logits[:, -1]

    def keep(self, rows: Tensor) -> None:
        """See `Writer`."""
        self.mask, self.ids, self.read = self.mask[rows], self.ids[rows], self.read[rows]
        if self.cache is not None:
            self.cache.batch_select_indices(rows)
