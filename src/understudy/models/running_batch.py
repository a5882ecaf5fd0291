"""Answers that are written side by side, where a row may join or leave between any two tokens.

`generate` ends a batch with its longest row, and whoever comes in the meantime waits. Here rows that come are read in a
batch of their own, and their keys and values are set beside those of the rows that are being written, padded on the
left to one length; those of rows that have ended are dropped (iteration-level scheduling: Yu et al., OSDI 2022).
Positions count from each row's first token, as in `generate`, so its answers are the same but for the order of sums.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from understudy.models.head import base_model
from understudy.models.live_decoding import WrittenToken, written_tokens
from understudy.models.sampling import Sampling, with_noise
from understudy.tokens.encoded import padded
from understudy.tokens.template import Template

READ_TOGETHER = 0.5
"""Prompts that join together are no shorter than this share of the longest, for the rest would be padding."""


def rows_can_join(model: nn.Module) -> bool:
    """Whether all that a model keeps of what it read is keys and values of every token.

    Encoder–decoders, sliding windows and state-space layers keep something else.
    """
    base = base_model(model)
    reads = inspect.signature(base.forward).parameters
    if base.config.is_encoder_decoder or getattr(base, "_is_stateful", False):
        return False
    if not {"position_ids", "past_key_values", "logits_to_keep"} <= reads.keys():
        return False
    return all(type(layer) is DynamicLayer for layer in DynamicCache(config=base.config).layers)


class RunningBatch:
    """The rows that a causal model is writing.

    A turn is `join` with those that come, `choose`, which gives the next token of each row, and `go_on` with the rows
    that want another one.

    Args:
        model: one of which `rows_can_join`, in evaluation mode.
        template: of it.
    """

    def __init__(self, model: nn.Module, template: Template) -> None:
        self._base = base_model(model)
        self._pad: Any = template.tokenizer.pad_token_id
        self.clear()

    def __len__(self) -> int:
        return len(self._samplings)

    def clear(self) -> None:
        """Forget all rows."""
        self._samplings: list[Sampling] = []
        self._steps: list[int] = []
        self._cache = DynamicCache()
        self._mask = torch.zeros(0, 0, dtype=torch.long)
        """`[B, L]` which places of the keys are tokens of the row."""
        self._logits = torch.zeros(0, 0)
        """`[B, V]` of each row's next token."""
        self._chosen = torch.zeros(0, dtype=torch.long)
        """`[B]` the token that `choose` gave."""

    @torch.no_grad()
    def join(self, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling]) -> None:
        """Read prompts; they are the last rows from now on, in their order.

        Args:
            prompts: token ids of each.
            samplings: how each answer is drawn.
        """
        first, pieces = len(self), _alike([len(prompt) for prompt in prompts])
        for piece in pieces:
            self._read([list(prompts[place]) for place in piece], [samplings[place] for place in piece])
        read = [place for piece in pieces for place in piece]
        if read != sorted(read):
            self._select([*range(first), *(first + read.index(place) for place in range(len(read)))])

    def choose(self, num_top: int) -> list[WrittenToken]:
        """The next token of each row, with `num_top` likeliest ones, two at least."""
        logp = self._logits.log_softmax(dim=-1)
        self._chosen = with_noise(self._logits, self._samplings, self._steps).argmax(dim=-1)
        return written_tokens(logp, self._chosen, max(2, num_top))

    @torch.no_grad()
    def go_on(self, rows: Sequence[int]) -> None:
        """Drop all rows but these, in this order, and read the token that each of them was given."""
        chosen = self._chosen[list(rows)]
        if list(rows) != list(range(len(self))):
            self._select(rows)
        if not rows:
            return
        self._steps = [step + 1 for step in self._steps]
        self._mask = functional.pad(self._mask, (0, 1), value=1)
        self._logits = self._forward(chosen[:, None], self._mask, self._cache)

    def _read(self, prompts: list[list[int]], samplings: list[Sampling]) -> None:
        ids, mask = (side.to(self._base.device) for side in padded(prompts, self._pad, left=True))
        cache = DynamicCache(config=self._base.config)
        logits = self._forward(ids, mask, cache)
        if not len(self):
            self._cache, self._mask, self._logits = cache, mask, logits
        else:
            length = max(self._mask.shape[1], mask.shape[1])
            for own, new in zip(_layers(self._cache), _layers(cache), strict=True):
                own.keys = torch.cat([_to_length(own.keys, length), _to_length(new.keys, length)])
                own.values = torch.cat([_to_length(own.values, length), _to_length(new.values, length)])
            masks = [functional.pad(side, (length - side.shape[1], 0)) for side in (self._mask, mask)]
            self._mask, self._logits = torch.cat(masks), torch.cat([self._logits, logits])
        self._samplings += samplings
        self._steps += [0] * len(prompts)

    def _forward(self, ids: Tensor, mask: Tensor, cache: DynamicCache) -> Tensor:
        """`[B, V]` logits behind the last token, in 32 bits."""
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = self._base(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
            return_dict=True,
        )
        return out.logits[:, -1].float()

    def _select(self, rows: Sequence[int]) -> None:
        """Keep these rows, and no place that none of them has."""
        if not rows:
            self.clear()
            return
        places = torch.tensor(rows, device=self._mask.device)
        mask = self._mask[places]
        first = int(mask.any(0).int().argmax())
        for layer in _layers(self._cache):
            layer.keys, layer.values = layer.keys[places, :, first:], layer.values[places, :, first:]
        self._mask, self._logits = mask[:, first:], self._logits[places]
        self._samplings = [self._samplings[row] for row in rows]
        self._steps = [self._steps[row] for row in rows]


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Places of prompts that are read together, the longest first."""
    pieces: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not pieces or lengths[place] < READ_TOGETHER * lengths[pieces[-1][0]]:
            pieces.append([])
        pieces[-1].append(place)
    return pieces


def _layers(cache: DynamicCache) -> list[Any]:
    """Each with `keys` and `values` `[B, heads, L, d]`."""
    return cache.layers


def _to_length(states: Tensor, length: int) -> Tensor:
    """`[B, heads, length, d]` with zeros before the first."""
    return functional.pad(states, (0, 0, length - states.shape[2], 0))
