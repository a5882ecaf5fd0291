"""A teacher's hidden states as a further input of the student.

```text
student's block 1 reads, at position t      e_t + g_b · P (h_t / rms(h_t))

e_t  embedding of token t        h_t  hidden state of the teacher behind a block, at the same token
P    `[d, D]`, learned           g_b  whether row b reads them, 0 or 1
```

A causal teacher's h_t has read the tokens up to t alone, so nothing of an answer is given away. P begins at 0: at first
the student is what it was. Hooks add the term while the kind of the student runs it as ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import DynamicCache

from understudy.errors import RunError
from understudy.models.features import taking
from understudy.models.head import base_model
from understudy.models.inner_states import WantedFeatures

INPUT_FILE = "features_input.safetensors"
"""Beside the folder of a model that reads its teacher's states: the map that brings them to its width."""


def check_alone(folder: Path, name: str) -> None:
    """Refuse to take a student out of its run that answers with its teacher's states.

    Args:
        folder: of the stage that trained it, or of its model.
        name: what it is called.

    Raises:
        RunError: it was not weaned.
    """
    if (folder / INPUT_FILE).is_file() or (folder.parent / INPUT_FILE).is_file():
        raise RunError(
            f"{name} reads its teacher's states (features.input.end is above 0), so it does not answer alone",
            hint="train it with features.input.end: 0",
        )


def projection(student: Any, teacher: Any) -> StateProjection:
    """P, at 0."""
    layer = StateProjection(base_model(teacher).config.hidden_size, embedding_width(student), bias=False)
    nn.init.zeros_(layer.weight)
    return layer


class StateProjection(nn.Linear):
    """P of states that are scaled to a root mean square of 1: blocks of different models give them any size."""

    def forward(self, input: Tensor) -> Tensor:
        """`[…, D]` to `[…, d]`, in the dtype of P."""
        states = input.to(self.weight.dtype)
        return super().forward(states * states.pow(2).mean(-1, keepdim=True).add(1e-6).rsqrt())


def embedding_width(model: Any) -> int:
    """Of a model's token embeddings."""
    return base_model(model).get_input_embeddings().weight.shape[1]


@contextlib.contextmanager
def added(student: Any, states: Tensor) -> Iterator[None]:
    """Every forward pass inside over tokens of this shape reads `[M, S, d]` states beside its embeddings."""

    def hook(module: Any, arguments: Any, output: Tensor) -> Tensor:
        # Others look tokens up too, one by one.
        return output + states.to(output.dtype) if output.shape == states.shape else output

    handle = base_model(student).get_input_embeddings().register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextlib.contextmanager
def accompanied(student: Any, teacher: Any, layer: int, project: nn.Module) -> Iterator[None]:
    """The student with its teacher beside it, whatever it is asked: the teacher reads what the student reads.

    Where the student keeps keys and values of what it has read, so does the teacher.

    Args:
        student: the student.
        teacher: a model of the same kind and vocabulary.
        layer: the teacher's block, counted from 1.
        project: P.
    """
    base, companion = base_model(student), _Companion(base_model(teacher), layer)
    read: list[Tensor] = []

    def before(module: Any, arguments: tuple, named: dict[str, Any]) -> None:
        ids = named["input_ids"] if "input_ids" in named else arguments[0]
        read[:] = [project(companion.states(ids, named))]

    def add(module: Any, arguments: Any, output: Tensor) -> Tensor:
        return output + read[0].to(output.dtype) if read and output.shape == read[0].shape else output

    handles = [
        base.register_forward_pre_hook(before, with_kwargs=True),
        base.get_input_embeddings().register_forward_hook(add),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Companion:
    """A teacher that reads along."""

    def __init__(self, teacher: Any, layer: int) -> None:
        self.teacher, self.wanted, self.layer = teacher, WantedFeatures((layer,)), layer
        self.students: Any = None
        self.own: DynamicCache | None = None

    @torch.no_grad()
    def states(self, ids: Tensor, named: dict[str, Any]) -> Tensor:
        """`[M, S, D]` its hidden states at the tokens that the student is about to read."""
        cache = named.get("past_key_values")
        if cache is not None and cache is not self.students:
            self.students, self.own = cache, DynamicCache()
        passed = ("attention_mask", "position_ids", "token_type_ids")
        arguments = {name: named[name] for name in passed if named.get(name) is not None}
        if cache is not None:
            arguments |= {"past_key_values": self.own, "use_cache": True}
        with taking(self.teacher, self.wanted) as taken:
            self.teacher(input_ids=ids, **arguments)
        return taken.hidden[self.layer]
