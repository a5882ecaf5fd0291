"""What a cascade would give and cost, before it goes live: the student answers, and below a threshold the teacher.

With p_i the probability that the student's answer to row i is right, t the threshold and a_i = [p_i < t],

    share asked   Σ a_i / n
    quality       the metric of the answers  teacher_i where a_i, else student_i
    seconds       student_i + a_i · teacher_i      (the student has answered before the teacher is asked)
    cost          student_i + a_i · teacher_i

The quality of every threshold is had from the statistics of the two systems row by row, so nothing is scored again,
corpus metrics are exact, and every difference is paired.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from understudy.errors import ConfigError, DataError
from understudy.metrics.scores import Score
from understudy.metrics.significance import Resampling
from understudy.metrics.significance.pairing import row_sums
from understudy.metrics.significance.resampling import Columns, Resampled, resample
from understudy.records.base import Record, list_of, mapping_of

ALWAYS = 1.01
"""A threshold above all probabilities: the teacher is always asked."""
MOST_POINTS = 41
"""Points of a curve; of more thresholds some are left out."""


@dataclass(frozen=True)
class Prices(Record):
    """Prices of a million tokens, in any currency.

    Attributes:
        input: read.
        output: written.
    """

    input: float = 0.0
    output: float = 0.0

    def of(self, read: np.ndarray, written: np.ndarray) -> np.ndarray:
        """The price of each answer."""
        return (self.input * read + self.output * written) / 1e6


@dataclass(frozen=True)
class Side:
    """One of the two systems of a cascade, row by row.

    Attributes:
        scores: metric -> its score over the rows.
        seconds: `[n]` that each answer took.
        read: `[n]` tokens read.
        written: `[n]` tokens written.
        prices: of its tokens.
    """

    scores: Mapping[str, Score]
    seconds: np.ndarray
    read: np.ndarray
    written: np.ndarray
    prices: Prices = field(default_factory=Prices)

    @property
    def cost(self) -> np.ndarray:
        """`[n]` the price of each answer."""
        return self.prices.of(self.read, self.written)


@dataclass(frozen=True)
class Quality(Record):
    """A metric of a cascade, on the metric's own scale.

    Attributes:
        value: the figure.
        low: lower bound of its interval; None where there is none.
        high: upper bound.
        behind: it minus the teacher's.
        behind_low: lower bound of that difference, paired.
        behind_high: upper bound.
    """

    value: float
    low: float | None
    high: float | None
    behind: float
    behind_low: float | None
    behind_high: float | None


@dataclass(frozen=True)
class CascadePoint(Record):
    """A cascade at one threshold.

    Attributes:
        threshold: the teacher is asked below it.
        asked: the share of rows it is asked.
        quality: metric -> its figure.
        seconds: mean seconds an answer.
        seconds_p95: the 95th percentile.
        teacher_tokens: mean tokens that the teacher reads and writes, an answer.
        cost: price of a thousand answers.
    """

    threshold: float
    asked: float
    quality: Mapping[str, Quality]
    seconds: float
    seconds_p95: float
    teacher_tokens: float
    cost: float

    @classmethod
    def from_json(cls, row: Mapping) -> CascadePoint:
        """Read what `to_json` wrote."""
        return cls(**{**row, "quality": mapping_of(Quality)(row["quality"])})


points_of = list_of(CascadePoint)
"""A parser of a curve."""


def thresholds_of(probabilities: np.ndarray, most: int | None = None) -> list[float]:
    """The thresholds between which a cascade changes: never, at each probability but the least, always.

    Args:
        probabilities: of the rows.
        most: so many at most, evenly chosen by the share of rows that lie below; None for all.
    """
    steps = [0.0, *np.unique(probabilities)[1:].tolist(), ALWAYS]
    if most is None or len(steps) <= most:
        return steps
    shares = np.array([(probabilities < step).mean() for step in steps])
    wanted = np.linspace(0, 1, most)
    return [steps[place] for place in sorted({int(np.abs(shares - share).argmin()) for share in wanted})]


def quality_at(student: Score, teacher: Score, asked: np.ndarray) -> float:
    """The metric of a cascade; rows that either system lacks are out of it."""
    return float(student.from_totals(_chosen(student, teacher, asked).sum(axis=0)))


def _chosen(student: Score, teacher: Score, asked: np.ndarray) -> np.ndarray:
    """`[n, k]` statistics of whoever answers each row."""
    in_both = (student.measured & teacher.measured)[:, None]
    return np.where(asked[:, None], teacher.statistics, student.statistics) * in_both


def curve(
    probabilities: np.ndarray,
    student: Side,
    teacher: Side,
    thresholds: Sequence[float],
    *,
    clusters: Sequence[int],
    resampling: Resampling,
) -> list[CascadePoint]:
    """A cascade at each threshold, with intervals over whole clusters of rows.

    Raises:
        DataError: there is no metric that both systems have.
    """
    metrics = [name for name in student.scores if name in teacher.scores]
    if not metrics:
        raise DataError("there is no metric that student and teacher both have")
    asked = [probabilities < threshold for threshold in thresholds]
    figures = _resampled(metrics, student, teacher, asked, clusters, resampling)
    count = len(set(clusters))
    return [
        CascadePoint(
            threshold=threshold,
            asked=float(asks.mean()),
            quality={
                name: _quality(figures[name][place], figures[name][-1], resampling.confidence, count)
                for name in metrics
            },
            **_expense(student, teacher, asks),
        )
        for place, (threshold, asks) in enumerate(zip(thresholds, asked, strict=True))
    ]


def _resampled(
    metrics: Sequence[str],
    student: Side,
    teacher: Side,
    asked: Sequence[np.ndarray],
    clusters: Sequence[int],
    resampling: Resampling,
) -> dict[str, list[Resampled]]:
    """Metric -> its figure at each threshold and, last, the teacher's, all on the same draws."""
    numbers = np.unique(np.asarray(clusters), return_inverse=True)[1]
    always = np.ones(len(numbers), dtype=bool)
    figures = {}
    for name in metrics:
        ours, theirs = student.scores[name], teacher.scores[name]
        tables = [row_sums(_chosen(ours, theirs, asks), numbers, int(numbers.max()) + 1) for asks in (*asked, always)]
        figures[name] = resample([Columns(table, ours.from_totals) for table in tables], resampling)
    return figures


def _quality(figure: Resampled, teacher: Resampled, confidence: float, clusters: int) -> Quality:
    difference = figure.minus(teacher)
    bounds = (*figure.bounds(confidence, clusters), *difference.bounds(confidence, clusters))
    low, high, behind_low, behind_high = (float(end) if np.isfinite(end) else None for end in bounds)
    return Quality(figure.value, low, high, difference.value, behind_low, behind_high)


def _expense(student: Side, teacher: Side, asked: np.ndarray) -> dict[str, float]:
    seconds = student.seconds + np.where(asked, teacher.seconds, 0.0)
    return {
        "seconds": float(seconds.mean()),
        "seconds_p95": float(np.quantile(seconds, 0.95)),
        "teacher_tokens": float(np.where(asked, teacher.read + teacher.written, 0).mean()),
        "cost": 1000 * float((student.cost + np.where(asked, teacher.cost, 0.0)).mean()),
    }


@dataclass(frozen=True)
class Rule(Record):
    """How a threshold is chosen on the development rows.

    Attributes:
        within: least cost whose quality lies no more than so many points of 100 below the teacher's; None: not asked.
        max_asked: best quality for which the teacher is asked at most this share of the rows; None: not asked.
        max_cost: best quality for which a thousand answers cost at most so much; None: not asked.

    Raises:
        ConfigError: none, or `within` beside a cap.
    """

    within: float | None = 1.0
    max_asked: float | None = None
    max_cost: float | None = None

    def __post_init__(self) -> None:
        if (self.within is None) == (self.max_asked is None and self.max_cost is None):
            raise ConfigError(
                "a threshold is chosen by one rule",
                hint="either --within POINTS of the teacher's quality, or the best under --max-asked or --max-cost",
            )

    @property
    def words(self) -> str:
        """In a sentence."""
        if self.within is not None:
            unit = "point" if self.within == 1 else "points"
            near = f"within {self.within:g} {unit} of the teacher's"
            return f"least cost whose quality on the development rows is {near}"
        caps = [f"the teacher is asked at most {self.max_asked:.0%}"] if self.max_asked is not None else []
        caps += [f"1,000 answers cost at most {self.max_cost:g}"] if self.max_cost is not None else []
        return f"best quality on the development rows for which {' and '.join(caps)}"

    def threshold(self, probabilities: np.ndarray, student: Side, teacher: Side, metric: str) -> float:
        """The threshold that the rule gives on these rows.

        Args:
            probabilities: of the student's answers.
            student: the student's answers.
            teacher: the teacher's.
            metric: of the quality; both have it.

        Raises:
            ConfigError: no threshold keeps to the cap.
        """
        ours, theirs = student.scores[metric], teacher.scores[metric]
        steps = thresholds_of(probabilities)
        asked = [probabilities < step for step in steps]
        factor = (1 if ours.higher_is_better else -1) * 100 / ours.maximum
        points = [factor * quality_at(ours, theirs, asks) for asks in asked]
        if self.within is not None:
            # Steps ascend, and so does what they cost: the first that is good enough is the cheapest.
            return next(s for s, p in zip(steps, points, strict=True) if p >= points[-1] - self.within - 1e-9)
        kept = [place for place, asks in enumerate(asked) if self._keeps(student, teacher, asks)]
        if not kept:
            raise ConfigError(
                f"the student alone costs more than {self.max_cost:g} a thousand answers", hint="raise --max-cost"
            )
        return steps[max(kept, key=lambda place: (round(points[place], 9), -place))]

    def _keeps(self, student: Side, teacher: Side, asked: np.ndarray) -> bool:
        share_kept = self.max_asked is None or asked.mean() <= self.max_asked
        return bool(
            share_kept and (self.max_cost is None or _expense(student, teacher, asked)["cost"] <= self.max_cost)
        )
