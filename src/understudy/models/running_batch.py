"""Answers that are written side by side, where a row may join or leave between any two tokens.

`generate` ends a batch with its longest row, and whoever comes in the meantime waits. Here prompts that come are read
in a batch of their own, and their keys and values are set beside those of the rows that are being written
(iteration-level scheduling: Yu et al., OSDI 2022). Positions count from each row's first token, as in `generate`, so
its answers are the same but for the order of sums.

Keys and values lie in one block a layer, a row a slot, each from its first place on. A token is written where its row
ends, a row that joins takes the next slot, and the slot of one that leaves is filled with the last: nothing is copied
for the others, where a cache that grows by concatenation is copied whole for every token.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Cache, DynamicCache
from transformers.cache_utils import DynamicLayer

from understudy.models.head import base_model
from understudy.models.live_decoding import WrittenToken, written_tokens
from understudy.models.sampling import Sampling, with_noise
from understudy.tokens.encoded import padded
from understudy.tokens.template import Template

READ_TOGETHER = 0.5
"""Prompts that join together are no shorter than this share of the longest, for the rest would be padding."""
ROOM = 64
"""Places by which the block of keys and values grows, at least."""


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
        """Forget all rows, and give back what they took."""
        self._samplings: list[Sampling] = []
        self._steps: list[int] = []
        self._lengths: list[int] = []
        """Places of each row that are read."""
        self._layers: list[_Slots] = []
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
        first, lengths = len(self), [len(prompt) for prompt in prompts]
        behind: dict[int, Tensor] = {}
        for piece in _alike(lengths):
            behind |= zip(piece, self._read(first, [list(prompts[place]) for place in piece], piece), strict=True)
        self._logits = torch.stack([*self._logits, *(behind[place] for place in range(len(prompts)))])
        self._samplings += samplings
        self._steps += [0] * len(prompts)
        self._lengths += lengths

    def choose(self, num_top: int) -> list[WrittenToken]:
        """The next token of each row, with `num_top` likeliest ones, two at least."""
        logp = self._logits.log_softmax(dim=-1)
        self._chosen = with_noise(self._logits, self._samplings, self._steps).argmax(dim=-1)
        return written_tokens(logp, self._chosen, max(2, num_top))

    @torch.no_grad()
    def go_on(self, rows: Sequence[int]) -> list[int]:
        """Drop all rows but these, and read the token that each of them was given.

        Args:
            rows: places of those that stay.

        Returns:
            The same places in the order in which the rows stand from now on.
        """
        order = self._keep(rows)
        if not order:
            self.clear()
            return order
        device = self._logits.device
        ends = torch.tensor(self._lengths, device=device)
        self._lengths = [length + 1 for length in self._lengths]
        self._steps = [step + 1 for step in self._steps]
        longest = max(self._lengths)
        for layer in self._layers:
            layer.begin(ends, longest)
        mask = (torch.arange(longest, device=device) <= ends[:, None]).long()
        ids = self._chosen[torch.tensor(order, device=device)]
        self._logits = self._forward(ids[:, None], mask, ends[:, None], Cache(layers=list(self._layers)))
        return order

    def _read(self, first: int, prompts: list[list[int]], places: Sequence[int]) -> Tensor:
        """Logits `[b, V]` behind prompts, whose keys and values go to the slots from `first` on by `places`."""
        ids, mask = (side.to(self._base.device) for side in padded(prompts, self._pad, left=True))
        cache = DynamicCache(config=self._base.config)
        logits = self._forward(ids, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache)
        if not self._layers:
            self._layers = [_Slots() for _ in cache.layers]
        for own, new in zip(self._layers, _layers(cache), strict=True):
            for place, prompt, keys, values in zip(places, prompts, new.keys, new.values, strict=True):
                own.put(first + place, keys[:, -len(prompt) :], values[:, -len(prompt) :])
        return logits

    def _forward(self, ids: Tensor, mask: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """`[B, V]` logits behind the last token, in 32 bits."""
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

    def _keep(self, rows: Sequence[int]) -> list[int]:
        """Fill the slots of those that leave with the last of those that stay; which row stands in each slot."""
        staying = set(rows)
        order = [row if row in staying else -1 for row in range(len(rows))]
        moving = sorted(row for row in staying if row >= len(rows))
        for slot, row in enumerate(order):
            if row < 0:
                order[slot] = moving.pop()
                for layer in self._layers:
                    layer.move(order[slot], slot, self._lengths[order[slot]])
        self._samplings = [self._samplings[row] for row in order]
        self._steps = [self._steps[row] for row in order]
        self._lengths = [self._lengths[row] for row in order]
        return order


class _Slots(DynamicLayer):
    """Keys and values `[slots, heads, places, d]` of one layer, of which the first slots and places are in use."""

    def __init__(self) -> None:
        super().__init__()
        self._ends = torch.zeros(0, dtype=torch.long)
        self._longest = 0

    def put(self, slot: int, keys: Tensor, values: Tensor) -> None:
        """Set `[heads, length, d]` at the beginning of a slot."""
        length = keys.shape[1]
        self.keys = _with_room(self.keys, keys, slot + 1, length)
        self.values = _with_room(self.values, values, slot + 1, length)
        self.keys[slot, :, :length], self.values[slot, :, :length] = keys, values

    def move(self, source: int, target: int, length: int) -> None:
        """Copy what a slot holds to another."""
        for block in (self.keys, self.values):
            assert block is not None
            block[target, :, :length] = block[source, :, :length]

    def begin(self, ends: Tensor, longest: int) -> None:
        """Say where `update` writes.

        Args:
            ends: `[B]` place of each row's next token; there are as many rows as this is long.
            longest: places of the longest row, that token included.
        """
        self._ends, self._longest = ends, longest

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write `[B, heads, 1, d]` behind each row; all places up to the longest."""
        rows = torch.arange(len(self._ends), device=self._ends.device)
        blocks = []
        for name, states in (("keys", key_states), ("values", value_states)):
            block = _with_room(getattr(self, name), states[0], len(rows), self._longest)
            setattr(self, name, block)
            block[rows, :, self._ends] = states[:, :, 0]
            blocks.append(block[: len(rows), :, : self._longest])
        return blocks[0], blocks[1]

    def get_seq_length(self) -> int:
        """Places before the token that is being read."""
        return self._longest - 1

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Places that the token sees, and the first of them."""
        return self._longest, 0


def _with_room(block: Tensor | None, like: Tensor, slots: int, places: int) -> Tensor:
    """A block with at least so many slots and places, each `[heads, d]` as those of `like` `[heads, places, d]`.

    What is not in use is zero, or of a row that has left: it is masked, which no number that is not finite would bear.
    """
    have = (0, 0) if block is None else (block.shape[0], block.shape[2])
    if slots <= have[0] and places <= have[1]:
        assert block is not None
        return block
    size = max(slots, have[0]), have[1] if places <= have[1] else places + max(ROOM, places // 4)
    grown = like.new_zeros(size[0], like.shape[0], size[1], like.shape[2])
    if block is not None:
        grown[: have[0], :, : have[1]] = block
    return grown


def _layers(cache: DynamicCache) -> list[Any]:
    """Each with `keys` and `values` `[B, heads, L, d]`."""
    return cache.layers


def _alike(lengths: Sequence[int]) -> list[list[int]]:
    """Places of prompts that are read together, the longest first."""
    pieces: list[list[int]] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if not pieces or lengths[place] < READ_TOGETHER * lengths[pieces[-1][0]]:
            pieces.append([])
        pieces[-1].append(place)
    return pieces
