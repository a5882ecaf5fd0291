"""Several teachers of one vocabulary that are heard as one: here or from disk, each on the rows that are its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from understudy.errors import RunError
from understudy.models.output import CandidateOutput, VocabularyOutput
from understudy.recipe import TeachersConfig
from understudy.teachers.signals import Mean, Teacher, TopK
from understudy.types import Batch, Example, Gives

Shares = Callable[[Sequence[str]], Tensor]
"""Ids of rows to `[B, T]` what each teacher counts on each."""


class Ensemble:
    """A teacher that is the mean of several; all of them read the same tokens.

    Args:
        teachers: T teachers that give hidden states under a head, or their likeliest tokens with a tail.
        shares: what each counts on a row.
        mean: of probabilities (Σ w·p) or of log-probabilities (Σ w·log p, scaled to add up to 1).
        by_confidence: weigh each on each token by exp(−H), H its entropy at temperature 1, too.
    """

    can_give: ClassVar[Gives] = Gives.LOGPS
    """What a mean can give, whoever it is of."""

    def __init__(
        self,
        teachers: Sequence[Teacher],
        shares: Shares,
        *,
        mean: Literal["probabilities", "log_probabilities"] = "probabilities",
        by_confidence: bool = False,
    ) -> None:
        self.teachers, self.shares, self.by_confidence = list(teachers), shares, by_confidence
        self.mean: Literal["probabilities", "log_probabilities"] = mean

    @property
    def gives(self) -> Gives:
        """What each of them gives, but no states: a mean has none."""
        gives = self.can_give
        for teacher in self.teachers:
            gives &= teacher.gives
        return gives

    @property
    def model(self) -> Any:
        """The first teacher's."""
        return getattr(self.teachers[0], "model", None)

    def signal(self, batch: Batch) -> Mean:
        """What they say of the target tokens of a batch; whoever is heard on none of its rows is not asked."""
        shares = self.shares(batch["ids"])
        heard = shares.any(0).nonzero()[:, 0].tolist()
        counts = batch["heard"] if "heard" in batch else torch.ones(len(shares), dtype=torch.bool)
        outputs = [self._output(n, {**batch, "heard": counts & (shares[:, n] > 0)}) for n in heard]
        lengths = outputs[0].lengths
        by_token = shares[:, heard].repeat_interleave(torch.tensor(lengths), dim=0)
        device = outputs[0].target_ids.device
        partial = Gives.EVERY_COLUMN not in self.gives
        return Mean(outputs, by_token.to(device), self.mean, self.by_confidence, partial)

    def _output(self, number: int, batch: Batch) -> VocabularyOutput | CandidateOutput | TopK:
        signal = self.teachers[number].signal(batch)
        assert isinstance(signal, VocabularyOutput | CandidateOutput | TopK), "the gate lets pass no other teachers"
        return signal


def shares_of_parts(shares: Shares, parts: Sequence[Sequence[int]]) -> Shares:
    """What each part counts on the rows: what its teachers count together, `[B, P]`."""
    return lambda ids: torch.stack([shares(ids)[:, list(part)].sum(-1) for part in parts], -1)


def shares_within(shares: Shares, part: Sequence[int]) -> Shares:
    """What each teacher of a part counts there; on rows of other parts, which weigh nothing, as on its own rows."""

    def within(ids: Sequence[str]) -> Tensor:
        own = shares(ids)[:, list(part)]
        silent = own.sum(-1, keepdim=True) == 0
        return torch.where(silent, own.sum(0), own)

    return within


def shares_of(config: TeachersConfig, examples: Sequence[Example]) -> Shares:
    """What each teacher counts on the rows of these examples, by their ids.

    A row made of an example (`id/paraphrase`) goes where the example goes; a row of no example has no fields.
    """
    by_id = {example.id: config.shares(dict(example.meta)) for example in examples}
    without_fields = config.shares({})

    def shares(ids: Sequence[str]) -> Tensor:
        rows = [_of_row(name, by_id, without_fields) for name in ids]
        for name, row in zip(ids, rows, strict=True):
            if not any(row):
                raise unheard(name)
        return torch.tensor(rows, dtype=torch.float64)

    return shares


def _of_row(name: str, by_id: Mapping[str, tuple[float, ...]], otherwise: tuple[float, ...]) -> tuple[float, ...]:
    return by_id[name] if name in by_id else by_id.get(name.rpartition("/")[0], otherwise)


def unheard(name: str) -> RunError:
    """The error of a row that no teacher is heard on."""
    return RunError(
        f"row {name}: no teacher's `where` fits it",
        hint="give one of them `where: otherwise`, or leave a `where` out",
    )
