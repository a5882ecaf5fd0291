"""Sampling that a seed makes repeatable row by row, whatever else stands in the batch.

By the Gumbel-max trick (Gumbel, 1954; Maddison, Tarlow, Minka, 2014): with independent standard Gumbel noise g_v on
every entry v of the vocabulary,

```text
argmax_v (z_v + T · g_v)   is a draw from   softmax(z / T)
```

exactly, and T = 0 is the greedy choice without a case of its own. The noise of a row is a function of its seed and of
the number of the token, so it is the same on every device and in every batch. What remains is the model's own
arithmetic: other batch shapes or another device change the last digits of logits, and where two noisy scores lie that
close, a token may change, as it may in greedy decoding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor


@dataclass(frozen=True, slots=True)
class Sampling:
    """How one answer is drawn.

    Attributes:
        temperature: T; 0 is greedy.
        seed: of this answer's noise, 0 or above; two answers to one prompt need two seeds.
        top_p: only the likeliest tokens that together have this probability are drawn from (Holtzman et al., 2020).
    """

    temperature: float = 0.0
    seed: int = 0
    top_p: float = 1.0


def gumbel_noise(seed: int, step: int, size: int) -> np.ndarray:
    """`[size]` independent standard Gumbel values, those of token number `step` under `seed`."""
    drawn = np.random.default_rng((seed, step)).standard_exponential(size)
    # Minus the logarithm of an exponential variable is a Gumbel one; the bound keeps a zero from becoming infinite.
    return -np.log(np.maximum(drawn, np.finfo(np.float64).tiny))


class GumbelNoise(LogitsProcessor):
    """Adds T·g to the scores of each row, so that the greedy choice after it is a sample."""

    def __init__(self, samplings: Sequence[Sampling]) -> None:
        """Prepare one batch; the object counts its tokens and serves no second one.

        Args:
            samplings: one a row, in the order of the batch.
        """
        self._samplings = tuple(samplings)
        self._step = 0

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[B, V]` with the noise of this step."""
        self._step += 1
        return with_noise(scores, self._samplings, [self._step - 1] * len(self._samplings))


def with_noise(scores: Tensor, samplings: Sequence[Sampling], steps: Sequence[int]) -> Tensor:
    """Scores plus T·g, so that the likeliest token of each row is a sample.

    Args:
        scores: `[B, V]` logits.
        samplings: one a row.
        steps: how many tokens of each row there are already.
    """
    scores = _nuclei(scores, samplings)
    if not any(sampling.temperature > 0 for sampling in samplings):
        return scores
    noise = np.zeros(scores.shape)
    for row, sampling, step in zip(noise, samplings, steps, strict=True):
        if sampling.temperature > 0:
            row += sampling.temperature * gumbel_noise(sampling.seed, step, len(row))
    return scores + torch.from_numpy(noise).to(scores.dtype).to(scores.device)


def _nuclei(scores: Tensor, samplings: Sequence[Sampling]) -> Tensor:
    """Scores without the tokens outside each row's nucleus."""
    cut = [row for row, sampling in enumerate(samplings) if sampling.temperature > 0 and sampling.top_p < 1]
    if not cut:
        return scores
    scores = scores.clone()
    for row in cut:
        sampling = samplings[row]
        ordered, ids = (scores[row].float() / sampling.temperature).softmax(dim=-1).sort(descending=True)
        # A token is outside where those before it reach the mass already; the likeliest never is.
        outside = ordered.cumsum(dim=-1) - ordered >= sampling.top_p
        outside[0] = False
        scores[row, ids[outside]] = -torch.inf
    return scores
