"""What a completer did and what it cost, counted as it goes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Usage:
    """Counts over the life of a completer.

    Attributes:
        requests: completions given, answered or not.
        answered: those with an answer.
        cached: answers that were on disk.
        shared: requests that joined an identical one under way.
        calls: calls sent to the model.
        retries: calls that were not a request's first.
        input_tokens: tokens read, as the endpoint counts them.
        output_tokens: tokens written.
        faults: calls without a usable answer, by kind (see `completers/faults.py`).
        missing: requests without an answer, by kind.
        notes: what had to be done otherwise than asked, in sentences.
    """

    requests: int = 0
    answered: int = 0
    cached: int = 0
    shared: int = 0
    calls: int = 0
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    missing: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    def note(self, sentence: str) -> None:
        """Add a sentence once."""
        if sentence not in self.notes:
            self.notes.append(sentence)

    def to_dict(self) -> dict[str, Any]:
        """All counts, JSON-able."""
        return {**vars(self), "faults": dict(self.faults), "missing": dict(self.missing), "notes": list(self.notes)}
