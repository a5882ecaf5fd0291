"""Teachers whose losses are added: each is asked with the tokens that are its own, on the rows where it counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.teachers.ensemble import Shares
from understudy.teachers.signals import Several, Signal, Teacher
from understudy.types import Batch, Gives


class SummedTeachers:
    """Several teachers, of several vocabularies, each a part of a sum of objectives.

    Args:
        parts: by name; the first reads `Batch.teacher`, every other one what stands in `Batch.others` under its name.
        shares: what each part counts on a row, `[B, P]`.
    """

    def __init__(self, parts: Mapping[str, Teacher], shares: Shares) -> None:
        self.parts, self.shares = dict(parts), shares

    @property
    def gives(self) -> Gives:
        """What the first gives; each was compared with the method that reads it."""
        return next(iter(self.parts.values())).gives

    @property
    def model(self) -> Any:
        """The first teacher's."""
        return getattr(next(iter(self.parts.values())), "model", None)

    def signal(self, batch: Batch) -> Several:
        """What each says of a batch; who counts on none of its rows is not asked."""
        shares = self.shares(batch["ids"])
        signals: dict[str, Signal | None] = {}
        for (name, teacher), own in zip(self.parts.items(), shares.unbind(-1), strict=True):
            heard = own > 0
            signals[name] = teacher.signal({**batch_of(batch, name), "heard": heard}) if heard.any() else None
        return Several(signals, shares)


def batch_of(batch: Batch, name: str) -> Batch:
    """A batch as a part of a sum sees it: its tokens and alignment stand where those of the only teacher would."""
    own = batch.get("others", {}).get(name)
    if own is None:
        return batch
    side: Batch = {**batch, "teacher": own["tokens"]}
    side.pop("alignment", None)
    return {**side, "alignment": own["alignment"]} if "alignment" in own else side
