"""Decoding that is watched: every token is told as it is written, with how likely it was, and a row may be ended.

The same `generate` as `decoding`, with the same arguments, so a prompt answered here greedily is answered as a run
answered it; only that somebody looks on after each token. Log-probabilities are the model's own, at temperature 1 and
before any noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LogitsProcessor, LogitsProcessorList, StoppingCriteria, StoppingCriteriaList

from understudy.models.decoding import PLAIN, Layout
from understudy.models.head import base_model
from understudy.models.sampling import GumbelNoise, Sampling
from understudy.tokens.encoded import padded
from understudy.tokens.template import Template


@dataclass(frozen=True, slots=True)
class WrittenToken:
    """One token of an answer.

    Attributes:
        id: which.
        logp: its natural-log probability.
        top: the likeliest tokens of its place with theirs, the likeliest first; two at least.
    """

    id: int
    logp: float
    top: tuple[tuple[int, float], ...]


def written_tokens(logp: Tensor, ids: Tensor, num_top: int) -> list[WrittenToken]:
    """The tokens that were chosen, with what the model thought of their places.

    Args:
        logp: `[B, V]` log-probabilities.
        ids: `[B]` tokens.
        num_top: likeliest tokens told of each place.
    """
    logps = logp.gather(1, ids[:, None].to(logp.device)).squeeze(1).tolist()
    values, places = (side.tolist() for side in logp.topk(min(num_top, logp.shape[-1])))
    told = zip(ids.tolist(), logps, places, values, strict=True)
    return [WrittenToken(token, own, tuple(zip(place, value, strict=True))) for token, own, place, value in told]


OnStep = Callable[[Sequence[WrittenToken | None]], Sequence[bool]]
"""Called after each step with the token of each row, None for a row that has ended; says which rows shall end."""


@torch.no_grad()
def decode_watched(
    kind: Layout,
    model: nn.Module,
    template: Template,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    samplings: Sequence[Sampling],
    num_top: int,
    on_step: OnStep,
) -> None:
    """Answer prompts in one batch and tell each token.

    Args:
        kind: of the model.
        model: a model that writes, in evaluation mode.
        template: its tokenizer and stop tokens.
        prompts: token ids of each prompt.
        max_new_tokens: steps, at most.
        samplings: how each answer is drawn.
        num_top: likeliest tokens told of each place; two are at least.
        on_step: see `OnStep`; a stop token ends its row without being asked.
    """
    base = base_model(model)
    pad: Any = template.tokenizer.pad_token_id
    read, begun = kind.layout(template, list(prompts), [[] for _ in prompts])
    ids, mask = (side.to(base.device) for side in padded(read, pad, left=kind.pads_left))
    watcher = _Watcher(max(2, num_top), frozenset(template.stop_ids), on_step, len(prompts))
    processors: list[LogitsProcessor] = [watcher]
    if any(sampling.temperature > 0 for sampling in samplings):
        processors.append(GumbelNoise(samplings))
    base.generate(
        input_ids=ids,
        attention_mask=mask,
        **kind.decoder_arguments(template, begun, base.device),
        **PLAIN,
        max_new_tokens=max_new_tokens,
        logits_processor=LogitsProcessorList(processors),
        stopping_criteria=StoppingCriteriaList([_Ending(watcher)]),
        pad_token_id=pad,
        eos_token_id=list(template.stop_ids),
    )


class _Watcher(LogitsProcessor):
    """Sees the logits of each step before noise, then the tokens that were chosen."""

    def __init__(self, num_top: int, stop_ids: frozenset[int], on_step: OnStep, rows: int) -> None:
        self._num_top, self._stop_ids, self._on_step = num_top, stop_ids, on_step
        self._ended = [False] * rows
        self._logp: Tensor | None = None

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores as they are, remembered."""
        self._logp = scores.float().log_softmax(dim=-1)
        return scores

    def chosen(self, ids: Tensor) -> list[bool]:
        """Tell the tokens `[B]` of this step; whether each row ends."""
        assert self._logp is not None
        written = written_tokens(self._logp, ids, self._num_top)
        tokens = [None if ended else token for ended, token in zip(self._ended, written, strict=True)]
        asked = self._on_step(tokens)
        self._ended = [
            ended or end or (token is not None and token.id in self._stop_ids)
            for ended, end, token in zip(self._ended, asked, tokens, strict=True)
        ]
        return self._ended


class _Ending(StoppingCriteria):
    """Ends the rows that the watcher names."""

    def __init__(self, watcher: _Watcher) -> None:
        self._watcher = watcher

    def __call__(self, input_ids: Tensor, scores: Any, **kwargs: Any) -> Any:
        """`[B]` bool."""
        return torch.tensor(self._watcher.chosen(input_ids[:, -1]), device=input_ids.device)
