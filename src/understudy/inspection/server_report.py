"""What the conformance test of a server reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from understudy.records.base import Record

Verdict = Literal["good", "note", "bad", "not measured"]


@dataclass(frozen=True)
class Check(Record):
    """One thing that was looked at.

    Attributes:
        name: what it is about.
        verdict: `bad` where a teacher of this kind would teach something else than the recipe says.
        finding: what was found, with its figures.
    """

    name: str
    verdict: Verdict
    finding: str


@dataclass(frozen=True)
class ServerReport(Record):
    """All that was found out about a teacher on a server.

    Attributes:
        model: its name there.
        address: of the server, without a key.
        can: what it can do, by name.
        checks: what was looked at, in order.
    """

    model: str
    address: str
    can: Sequence[str]
    checks: Sequence[Check]

    @property
    def bad(self) -> list[Check]:
        """The checks that it did not pass."""
        return [check for check in self.checks if check.verdict == "bad"]
