"""What a row is called in a cache: its id and the very token ids that the teacher read and was heard on.

A row whose prompt is worded otherwise, whose answer was cut, or whose template changed, is another row.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from understudy.teachers.cache.store import Key
from understudy.types import Batch, Tokens


def row_keys(batch: Batch) -> list[Key]:
    """The keys of a batch's rows by what the teacher reads; padding does not count."""
    tokens = batch["teacher"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
    inputs, mask = tokens["inputs"], tokens["target_mask"].cpu()
    sides = [(inputs[name].cpu(), _mask_of(inputs, name)) for name in sorted(inputs) if name.endswith("input_ids")]
    # Of options several texts belong to a row.
    texts = _texts_of_rows(tokens)
    keys = []
    for row, id_ in enumerate(batch["ids"]):
        digest = hashlib.blake2b(digest_size=8)
        for ids, attention in sides:
            for text in texts[row]:
                kept = attention[text].flatten().bool()
                digest.update(_bytes(ids[text].flatten()[kept]))
        for name in tokens["images"][row] if "images" in tokens else ():
            digest.update(name.encode())
        if "audio" in tokens:
            digest.update(tokens["audio"][row].encode())
        # Where the row's targets stand, counted from its first token.
        digest.update(_bytes(mask[row].nonzero()[:, 0]))
        own = hashlib.blake2b(id_.encode(), digest_size=8).digest()
        keys.append(Key(int.from_bytes(own, "little"), int.from_bytes(digest.digest(), "little")))
    return keys


def _texts_of_rows(tokens: Tokens) -> list[range]:
    """Which rows of `inputs` each row of a batch has."""
    num_rows = len(tokens["target_mask"])
    inputs = next(iter(tokens["inputs"].values()))
    if "candidates" not in tokens or len(inputs) == num_rows:
        return [range(row, row + 1) for row in range(num_rows)]
    ends = tokens["candidates"].sum(1).cumsum(0).tolist()
    return [range(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def _mask_of(inputs: dict[str, Tensor], name: str) -> Tensor:
    mask = inputs.get(name.replace("input_ids", "attention_mask"))
    return torch.ones_like(inputs[name]).cpu() if mask is None else mask.cpu()


def _bytes(ids: Tensor) -> bytes:
    return len(ids).to_bytes(4, "little") + ids.to(torch.int32).numpy().tobytes()
