"""A teacher that is read from disk: what it said of each row, once and for all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from understudy.errors import RunError
from understudy.models.head import base_model, head_of
from understudy.models.kinds import kind_of
from understudy.models.kinds.text import TextKind
from understudy.models.output import VocabularyOutput
from understudy.teachers.cache.bare import load_bare
from understudy.teachers.cache.formats import CandidatesFormat, Records, StatesFormat, TargetFormat
from understudy.teachers.cache.identity import stored_format
from understudy.teachers.cache.keys import row_keys
from understudy.teachers.cache.store import Index, Key, Reader
from understudy.teachers.signals import Signal
from understudy.types import Batch, Gives


class CachedTeacher:
    """What a cache says of a batch.

    Args:
        folder: of the cache.
        targets: format of its targets.
        temperature: the τ at which the signal is asked for, one of the format's.
    """

    model: Any = None

    def __init__(self, folder: Path, targets: TargetFormat, temperature: float) -> None:
        self.folder, self.targets, self.temperature = folder, targets, temperature
        self.index = Index(folder, targets.record_bytes)
        self.reader = Reader(self.index)

    @property
    def gives(self) -> Gives:
        """What its targets hold."""
        return self.targets.gives

    def signal(self, batch: Batch) -> Signal:
        """What the teacher said of the target tokens of a batch, as constants.

        Raises:
            RunError: a row is not in the cache, stands there with other tokens, or is damaged.
        """
        tokens = batch["teacher"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        lengths = tuple(tokens["target_mask"].sum(1).tolist())
        heard = batch["heard"].tolist() if "heard" in batch else [True] * len(lengths)
        keys = zip(batch["ids"], row_keys(batch), heard, strict=True)
        found = [self._records(name, key) if counts else None for name, key, counts in keys]
        # Where it has no weight a token of another row stands in: such rows need not be in the cache.
        any_token = next(records[:1] for records in found if records is not None)
        filled = [
            np.repeat(any_token, length, axis=0) if records is None else records
            for records, length in zip(found, lengths, strict=True)
        ]
        return self.decoded(np.concatenate(filled), batch, lengths)

    def decoded(self, records: Records, batch: Batch, lengths: tuple[int, ...]) -> Signal:
        """The signal that the records of a batch stand for."""
        target_ids = batch["teacher"]["target_ids"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        return self.targets.decode(records, target_ids, lengths, self.temperature, target_ids.device)

    def _records(self, name: str, key: Key) -> Records:
        if key not in self.index:
            known = key.row in self.index.known_rows
            why = (
                "is there with other tokens: its prompt, its answer, the chat template or data.max_length is no longer "
                "what it was"
                if known
                else "is not there"
            )
            raise RunError(
                f"row {name} {why} (cache {self.folder})",
                hint="`understudy cache RECIPE` adds what is missing; a text that changes in training has no cache",
            )
        return self.reader.records(key)


class CachedStates(CachedTeacher):
    """Hidden states from disk under the teacher's own head, which lies beside them.

    Args:
        folder: of the cache.
        targets: format of its targets.
        model: the teacher's embeddings and head (`bare.load_bare`).
        embeddings: also hand over token embeddings.
    """

    def __init__(self, folder: Path, targets: StatesFormat, model: nn.Module, *, embeddings: bool) -> None:
        super().__init__(folder, targets, targets.temperatures[0])
        self.format, self.model, self.embeddings = targets, model, embeddings
        self.head = head_of(model).detached()

    @property
    def gives(self) -> Gives:
        """States, and embeddings where they are handed over."""
        return self.targets.gives if self.embeddings else self.targets.gives ^ Gives.EMBEDDINGS

    def decoded(self, records: Records, batch: Batch, lengths: tuple[int, ...]) -> VocabularyOutput:
        """See the base class."""
        tokens = batch["teacher"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        targets, base = tokens["target_ids"], base_model(self.model)
        hidden = self.format.states(records, targets.device).to(self.head.weight.dtype)
        embedded: Sequence[Tensor | None] = (None, None)
        if self.embeddings:
            kind = kind_of(base.config)
            assert isinstance(kind, TextKind)
            with torch.no_grad():
                embedded = kind.embedded(base, tokens["inputs"], tokens["target_mask"], targets)
        return VocabularyOutput(targets, lengths, hidden, self.head, *embedded)


def open_cached(folder: Path, device: torch.device, temperature: float, *, embeddings: bool = False) -> CachedTeacher:
    """The teacher that a cache stands for.

    Args:
        folder: of the cache.
        device: where its head goes, if it has one.
        temperature: the loss temperature of whoever reads it.
        embeddings: also hand over token embeddings.

    Raises:
        RunError: it is no cache, or does not hold this temperature.
    """
    targets = stored_format(folder)
    if isinstance(targets, StatesFormat):
        return CachedStates(folder, targets, load_bare(folder, device), embeddings=embeddings)
    check_temperature(folder, targets, temperature)
    return CachedTeacher(folder, targets, temperature)


def check_temperature(folder: Path, targets: TargetFormat, temperature: float) -> None:
    """Refuse a cache that cannot be read at a temperature; hidden states can at any.

    Raises:
        RunError: it does not hold this temperature.
    """
    if not isinstance(targets, StatesFormat | CandidatesFormat) and temperature not in targets.temperatures:
        held = ", ".join(f"{value:g}" for value in targets.temperatures)
        raise RunError(
            f"the cache {folder} holds targets at temperature {held}, and {temperature:g} is asked for",
            hint="set distil.loss_temperature to one that it holds, or write a cache with this one",
        )
