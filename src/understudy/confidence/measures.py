"""Measures of how sure a model is of one answer, all of them larger where it is surer.

They are made of what any engine can tell: log-probabilities of the answer's own tokens, the stop token left out, for
servers do not report it. Which of them tells right answers from wrong ones is a question to the data
(`understudy calibrate`).

The mean is that of Malinin and Gales (2021), the sum of the answer's own likelihood; an answer that is wrong at one
place is found by the least one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

from understudy.errors import ModelError
from understudy.records.base import Record

NUM_EARLY = 4
"""Tokens that are looked at where a decision must fall before the answer is whole."""


@dataclass(frozen=True, slots=True)
class Confidence(Record):
    """The measures of one answer; None where the engine or the kind of model has no such thing.

    Attributes:
        mean_logp: mean log-probability of the answer's tokens, in nats.
        sum_logp: their sum.
        min_logp: the least of them.
        first_logp: that of the first one.
        early_logp: the mean of the first four.
        first_margin: log-probability of the first token minus that of the second likeliest in its place.
        span_logp: log-probability of the span that a model points at, or of there being no answer.
        choice_probability: probability of the likeliest option, all options' likelihoods a token made to sum to 1.
    """

    mean_logp: float | None = None
    sum_logp: float | None = None
    min_logp: float | None = None
    first_logp: float | None = None
    early_logp: float | None = None
    first_margin: float | None = None
    span_logp: float | None = None
    choice_probability: float | None = None

    @classmethod
    def of_tokens(cls, logps: Sequence[float], *, first_margin: float | None = None) -> Self:
        """Of an answer's tokens, the stop token left out; an answer of no token has none.

        Args:
            logps: natural-log probability of each token under the model, at temperature 1.
            first_margin: see the attribute.
        """
        if not logps:
            return cls()
        early = list(logps)[:NUM_EARLY]
        return cls(
            mean_logp=math.fsum(logps) / len(logps),
            sum_logp=math.fsum(logps),
            min_logp=min(logps),
            first_logp=logps[0],
            early_logp=math.fsum(early) / len(early),
            first_margin=first_margin,
        )

    def with_choices(self, scores: Sequence[float]) -> Self:
        """The same with what the options' likelihoods say.

        Args:
            scores: mean log-probability a token of each option.
        """
        if not scores:
            return self
        best = max(scores)
        return replace(self, choice_probability=1 / math.fsum(math.exp(score - best) for score in scores))

    def value(self, measure: str) -> float | None:
        """One measure by its name.

        Raises:
            ModelError: there is no measure of that name.
        """
        if measure not in MEASURES:
            raise ModelError(f"there is no measure of confidence {measure!r}", hint=f"known: {', '.join(MEASURES)}")
        value = getattr(self, measure)
        return None if value is None or math.isnan(value) else value


MEASURES = tuple(field.name for field in fields(Confidence))
"""All measures by name."""
EARLY_MEASURES = ("first_logp", "early_logp", "first_margin")
"""Those that are known once the first `NUM_EARLY` tokens are there (or the answer ended before)."""
