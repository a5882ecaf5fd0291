"""Self-consistency: what several sampled answers agree on (Wang et al., 2023, arXiv 2203.11171).

Every sample that was answered has one vote. Answers to a multiple-choice question vote for the option they name,
others for their text without case and spaces; an answer that names no option, or several, is a vote against all.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from understudy.data.option_mentions import folded, is_right, named_option
from understudy.data.tasks import split_answer
from understudy.types import Example, Knowledge

ANSWER = "answer"
"""The step whose rows vote."""


@dataclass(frozen=True, slots=True)
class Votes:
    """How the samples of one example voted.

    Attributes:
        counts: votes for each answer, the option's text or the folded one, in the order of the first vote for it.
        undecided: votes that name no option, or several.
        right: votes for the gold answer.
    """

    counts: Mapping[str, int]
    undecided: int = 0
    right: int = 0

    @property
    def num(self) -> int:
        """All votes."""
        return sum(self.counts.values()) + self.undecided

    @property
    def majority(self) -> str | None:
        """The answer with most votes; among equals the one that was sampled first. None without a vote for any."""
        return max(self.counts, key=self.counts.__getitem__) if self.counts else None

    @property
    def agreement(self) -> float:
        """Share of all votes that the majority has; NaN without votes."""
        return max(self.counts.values(), default=0) / self.num if self.num else math.nan

    @property
    def right_share(self) -> float:
        """Share of all votes that the gold answer has; NaN without votes."""
        return self.right / self.num if self.num else math.nan

    @property
    def entropy(self) -> float:
        """−Σ p·ln p over the answers in nats, each undecided vote an answer of its own; 0: all agree, NaN: no votes."""
        if not self.num:
            return math.nan
        shares = [count / self.num for count in (*self.counts.values(), *[1] * self.undecided)]
        return max(0.0, -sum(share * math.log(share) for share in shares))


def votes(rows: Iterable[Knowledge], example: Example) -> Votes:
    """Count the votes in an example's rows; rows of other steps, and samples without a text, do not vote.

    Args:
        rows: of one example, in any order.
        example: with its choices and gold answer.
    """
    answers = sorted((row for row in rows if row.step == ANSWER and row.text is not None), key=lambda row: row.sample)
    counts: Counter[str] = Counter()
    undecided = right = 0
    for row in answers:
        answer = stated_answer(row) or ""
        vote = _vote(answer, example)
        if vote is None:
            undecided += 1
        else:
            counts[vote] += 1
        right += is_right(answer, example)
    return Votes(dict(counts), undecided, right)


def stated_answer(row: Knowledge) -> str | None:
    """The answer that a text states: what follows its mark, or all of a row that is an answer; None: none."""
    if row.text is None:
        return None
    rationale, answer = split_answer(row.text)
    return rationale or None if answer is None and row.step == ANSWER else answer


def _vote(answer: str, example: Example) -> str | None:
    if not example.choices:
        return folded(answer) or None
    place = named_option(answer, example.choices)
    return None if place is None else example.choices[place]
