"""What the page of a grid is made of; `GridAnalysis.to_dict` is its `report.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from typing import Any

from understudy.metrics.significance import Resampling
from understudy.metrics.significance.factorial import Anova
from understudy.metrics.significance.results import Result, finite_json
from understudy.records import MetricInfo


@dataclass(frozen=True, slots=True)
class SeedMean(Result):
    """A metric of a cell over its seeds, with Student's interval; without one for a single seed.

    Attributes:
        n: number of seeds that have a value.
        mean: their mean.
        sd: their standard deviation.
        low: lower bound of the interval.
        high: upper bound.
        values: one a seed.
    """

    n: int
    mean: float
    sd: float | None
    low: float | None
    high: float | None
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CellFigures(Result):
    """A cell of the grid, its seeds taken together.

    Attributes:
        levels: axis → label.
        seeds: of its runs.
        metrics: metric → mean over the seeds; a metric that no run has is left out.
    """

    levels: Mapping[str, str]
    seeds: tuple[int, ...]
    metrics: Mapping[str, SeedMean]


@dataclass(frozen=True, slots=True)
class ReferenceFigures(Result):
    """An arm that the grid trains nothing for (teacher, majority answer …) on the same questions.

    Attributes:
        arm: whose answers.
        levels: axis → label, of the axes that make a difference to it.
        seeds: of its answers; those that are one and the same count once.
        metrics: metric → mean over these.
    """

    arm: str
    levels: Mapping[str, str]
    seeds: tuple[int, ...]
    metrics: Mapping[str, SeedMean]


@dataclass(frozen=True, slots=True)
class AxisEffects:
    """Which axes move a metric.

    Attributes:
        anova: analysis of variance over runs; None where there is none.
        p_holm: term → p corrected over all terms of all metrics; NaN where it is not known.
        reason: why there is no analysis.
    """

    anova: Anova | None = None
    p_holm: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: the analysis with `p_holm` in each term, or the reason why there is none."""
        if self.anova is None:
            return {"terms": [], "reason": self.reason}
        terms = [
            {**term.to_dict(), "p_holm": finite_json(self.p_holm.get(term.name, nan))} for term in self.anova.terms
        ]
        return {**self.anova.to_dict(), "terms": terms}


@dataclass(frozen=True, slots=True)
class CellTest(Result):
    """Two cells that differ in one axis, tested question by question on one metric, first level minus second.

    Attributes:
        axis: in which they differ.
        level_a: of the first.
        level_b: of the second.
        others: what they share: axis → label.
        metric: name of the metric.
        p_value: by randomisation.
        p_holm: the same, corrected over all tests.
        value_a: aggregate of the first.
        value_b: aggregate of the second.
        difference: `value_a - value_b`.
        low: lower bound of its interval.
        high: upper bound.
        n: number of items.
        groups: independent groups that they form.
        better: `a` or `b` where the difference is significant, else empty.
    """

    axis: str
    level_a: str
    level_b: str
    others: Mapping[str, str]
    metric: str
    p_value: float
    p_holm: float
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    n: int
    groups: int
    better: str


@dataclass(frozen=True, slots=True)
class FindingRow(Result):
    """One line of a finding's test.

    Attributes:
        what: what is compared.
        metric: name of the metric.
        difference: on the metric's scale; None where none could be computed.
        p: p-value; None where there is none.
        reason: why there is none; empty where there is one, and then absent from the file.
        p_holm: p corrected over the lines of the finding.
    """

    what: str
    metric: str
    difference: float | None
    p: float | None = None
    reason: str = ""
    p_holm: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        fields = {
            "what": self.what,
            "metric": self.metric,
            "difference": finite_json(self.difference),
            "p": finite_json(self.p),
        }
        return {**fields, **({"reason": self.reason} if self.reason else {}), "p_holm": finite_json(self.p_holm)}


@dataclass(frozen=True, slots=True)
class CheckpointCounts(Result):
    """In how many runs the checkpoint of the least development loss is not the one with the best text.

    Attributes:
        runs: number of runs in which both were measured at least twice.
        missed: those in which the least loss misses the best text.
        missed_as_loss_rose: of these, those in which the best text came after the least loss.
        blind: of each run, the probability that a blind choice among its evaluations misses the best text.
    """

    runs: int
    missed: int
    missed_as_loss_rose: int
    blind: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class StudyFinding(Result):
    """A finding of the telecom study, and whether it holds in this grid.

    Attributes:
        finding: its letter.
        claim: what it says.
        test: by which test it was judged.
        rows: the figures.
        verdict: holds, does not hold, or cannot be told.
        why: the figures in words.
        counts: what (d) counts; None for the others, and then absent from the file.
    """

    finding: str
    claim: str
    test: str
    rows: tuple[FindingRow, ...]
    verdict: str
    why: str
    counts: CheckpointCounts | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        fields = {name: finite_json(getattr(self, name)) for name in ("finding", "claim", "test", "rows")}
        fields |= {"verdict": self.verdict, "why": self.why}
        return fields if self.counts is None else {**fields, "counts": self.counts.to_dict()}


@dataclass(frozen=True, slots=True)
class CostFigures(Result):
    """What a cell cost beside what it reached, means over its seeds.

    Attributes:
        arm: whose answers.
        levels: axis → label; empty of an arm that no axis trains.
        seeds: runs that the means are over.
        quality: metric → mean.
        training_tokens: tokens trained on, over all steps.
        input_tokens: tokens read a session.
        output_tokens: tokens written a session.
        flops: operations of training and of answering all sessions (`grid.costs`); None where that is not known.
        seconds: a session.
        memory_mb: peak in MiB; None of a server.
        money: of all answers, by the endpoint's prices; None without any.
    """

    arm: str
    levels: Mapping[str, str]
    seeds: int
    quality: Mapping[str, float]
    training_tokens: float
    input_tokens: float
    output_tokens: float
    flops: float | None
    seconds: float
    memory_mb: float | None
    money: float | None


@dataclass(frozen=True, slots=True)
class LevelTest(Result):
    """Two levels of an axis, all else equal: a paired test by question of their means over runs, first minus second.

    Attributes:
        what: both levels.
        metric: name of the metric.
        difference: on the metric's scale.
        low: lower bound of its interval.
        high: upper bound.
        p_holm: p by randomisation, corrected over all tests of the study's questions.
        better: the better level where that is significant, else empty.
        runs: pairs of runs that differ in this axis alone.
    """

    what: str
    metric: str
    difference: float
    low: float
    high: float
    p_holm: float
    better: str
    runs: int


@dataclass(frozen=True, slots=True)
class CurvePoint(Result):
    """A figure at a level that is a number, with its interval by question.

    Attributes:
        line: what it is of.
        x: the level.
        value: on the metric's scale.
        low: lower bound.
        high: upper bound.
    """

    line: str
    x: float
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class StudyQuestion(Result):
    """A question of the bundle study, answered by this grid.

    Attributes:
        question: in words.
        axis: the axis that answers it.
        answer: what the tests show, in a sentence or two.
        tests: level against level.
        curve: figures by level, where levels are numbers.
        metric: of the curve.
    """

    question: str
    axis: str
    answer: str
    tests: tuple[LevelTest, ...]
    curve: tuple[CurvePoint, ...] = ()
    metric: str = ""


@dataclass(frozen=True)
class GridAnalysis:
    """Everything that the page of a grid says.

    Attributes:
        name: of the grid.
        arm: whose answers.
        axes: axis → its levels, the seed left out.
        runs: number of runs.
        metrics: those that some run was measured on.
        not_measured: metric → why there is no figure.
        cells: means over seeds.
        anova: metric → which axes move it.
        tests: cell against cell.
        findings: those of the telecom study, where the grid has its axes.
        notes: what a reader has to know.
        settings: draws of the tests and level of the intervals.
        references: teacher, student before training, majority answer; files of earlier releases have none.
        costs: of cells and references, where the rows are sessions.
        questions: those of the bundle study, where the grid has an axis for any.
        rows: test rows of a run, where costs are known.
    """

    name: str
    arm: str
    axes: Mapping[str, Sequence[str]]
    runs: int
    metrics: Mapping[str, MetricInfo]
    not_measured: Mapping[str, str]
    cells: Sequence[CellFigures]
    anova: Mapping[str, AxisEffects]
    tests: Sequence[CellTest] = ()
    findings: Sequence[StudyFinding] = ()
    notes: Sequence[str] = ()
    settings: Resampling = field(default_factory=Resampling)
    references: Sequence[ReferenceFigures] = ()
    costs: Sequence[CostFigures] = ()
    questions: Sequence[StudyQuestion] = ()
    rows: int = 1

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "name": self.name,
            "arm": self.arm,
            "axes": {axis: list(levels) for axis, levels in self.axes.items()},
            "runs": self.runs,
            "metrics": {name: info.to_json() for name, info in self.metrics.items()},
            "not_measured": dict(self.not_measured),
            "cells": [entry.to_dict() for entry in self.cells],
            "anova": {metric: effects.to_dict() for metric, effects in self.anova.items()},
            "tests": [test.to_dict() for test in self.tests],
            "findings": [finding.to_dict() for finding in self.findings],
            "notes": list(self.notes),
            "settings": {
                "confidence": self.settings.confidence,
                "alpha": self.settings.alpha,
                "resamples": self.settings.draws,
            },
            **({"references": [entry.to_dict() for entry in self.references]} if self.references else {}),
            **({"rows": self.rows, "costs": [entry.to_dict() for entry in self.costs]} if self.costs else {}),
            **({"questions": [entry.to_dict() for entry in self.questions]} if self.questions else {}),
        }
