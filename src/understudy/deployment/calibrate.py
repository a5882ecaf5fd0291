"""`understudy calibrate`: how far a student's confidence can be believed, and what a cascade to its teacher would do.

Measure, map and threshold are chosen on the development rows; all that is shown of them is of the test rows, which
chose nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy.arms import TEACHER, main_arm
from understudy.confidence import Calibration, Confidence, ProbabilityMap
from understudy.confidence import reliability as reliable
from understudy.confidence.calibration import MapKind
from understudy.confidence.fitting import best_measure, fit_maps
from understudy.deployment.answers import Answered, Answerer, Progress
from understudy.deployment.cascade import MOST_POINTS, CascadePoint, Prices, Rule, Side, curve, points_of, thresholds_of
from understudy.errors import ConfigError, DataError, unknown
from understudy.evaluation.metric_models import metric_models_of, metric_names
from understudy.evaluation.scoring import Scored, score_systems
from understudy.evaluation.systems import System
from understudy.files import fingerprint_folder, write_json
from understudy.metrics.significance import Resampling
from understudy.metrics.significance.pairing import row_sums
from understudy.metrics.significance.resampling import Columns, resample
from understudy.pipeline.kinds import stage_of
from understudy.recipe import Recipe
from understudy.records.base import Record, list_of, mapping_of
from understudy.run import Run

FOLDER, REPORT, PAGE = "calibration", "report.json", "report.html"


@dataclass(frozen=True)
class CalibrateOptions:
    """What `understudy calibrate` is asked for.

    Attributes:
        arm: whose student; None: the one that the run is about.
        metric: by which an answer is right, and the quality that the rule looks at.
        right_at: least value of the metric, from 0 to 1 of its maximum, of a right answer.
        measure: measure of confidence; None: the best on the development rows.
        map_kind: of the probabilities; None: the better one.
        rule: how the threshold is chosen.
        student_prices: of the student's tokens.
        teacher_prices: of the teacher's; None: those of the recipe, else none.
        teacher: whether the teacher's answers are looked at, so that there is a cascade.
        batch_size: rows at once; None: the recipe's.
    """

    arm: str | None = None
    metric: str = "exact_match"
    right_at: float = 1.0
    measure: str | None = None
    map_kind: MapKind | None = None
    rule: Rule = field(default_factory=Rule)
    student_prices: Prices = field(default_factory=Prices)
    teacher_prices: Prices | None = None
    teacher: bool = True
    batch_size: int | None = None


@dataclass(frozen=True)
class Figure(Record):
    """A figure with its interval; None where it is not known.

    Attributes:
        value: the figure.
        low: lower bound.
        high: upper bound.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Reliability(Record):
    """How far the probabilities hold on the test rows.

    Attributes:
        n: rows.
        right: share of right answers.
        probability: mean probability.
        auroc: of the probabilities.
        brier: their mean squared error.
        brier_constant: that of the share of right answers, for every row the same.
        ece: kind of bins -> expected calibration error.
        floor: kind of bins -> what a perfect model would show on as many rows.
        bins: kind of bins -> the bins.
    """

    n: int
    right: float
    probability: float
    auroc: Figure = field(metadata={"parse": Figure.from_json})
    brier: float
    brier_constant: float
    ece: Mapping[str, Figure] = field(metadata={"parse": mapping_of(Figure)})
    floor: Mapping[str, float]
    bins: Mapping[str, tuple[reliable.ReliabilityBin, ...]] = field(
        metadata={"parse": lambda kinds: {k: list_of(reliable.ReliabilityBin)(v) for k, v in kinds.items()}}
    )


@dataclass(frozen=True)
class CalibrationReport(Record):
    """All that is shown: `report.json`.

    Attributes:
        name: of the run.
        arm: whose student.
        teacher: name of the teacher's model; None without a cascade.
        calibration: what is kept for whoever serves the student.
        dev_rows: development rows that it was fitted on.
        reliability: on the test rows.
        measures: measure -> AUROC on the test rows.
        metric: of the quality that the rule looks at.
        maxima: metric -> its best value.
        confidence: level of the intervals.
        points: the cascade's curve on the test rows, the threshold's own point among them; empty without a teacher.
        chosen: the point of the threshold.
        early: the point of the early measure's threshold.
        priced: whether money is known.
        batch_size: rows at once; seconds are shares of a batch.
        notes: what a reader has to know.
    """

    name: str
    arm: str
    teacher: str | None
    calibration: Calibration = field(metadata={"parse": Calibration.from_json})
    dev_rows: int
    reliability: Reliability = field(metadata={"parse": Reliability.from_json})
    measures: Mapping[str, float | None]
    metric: str
    maxima: Mapping[str, float]
    confidence: float
    points: tuple[CascadePoint, ...] = field(default=(), metadata={"parse": points_of})
    chosen: CascadePoint | None = field(default=None, metadata={"parse": CascadePoint.from_json})
    early: CascadePoint | None = field(default=None, metadata={"parse": CascadePoint.from_json})
    priced: bool = False
    batch_size: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measured:
    """A split answered by student and teacher, and scored.

    Attributes:
        scored: both on the same rows.
        student: the student's answers, in the order of the rows.
        teacher: the teacher's; empty without one.
    """

    scored: Scored
    student: Sequence[Answered]
    teacher: Sequence[Answered]

    def right(self, options: CalibrateOptions) -> np.ndarray:
        """`[n]` bool: which of the student's answers are right.

        Raises:
            DataError: the metric was not measured.
        """
        score = self.scored.scores[self.scored.systems[0].name].get(options.metric)
        if score is None:
            known = ", ".join(self.scored.scores[self.scored.systems[0].name])
            raise DataError(f"the answers have no {options.metric}", hint=f"--metric takes one of {known}")
        values = np.asarray(score.per_example, dtype=np.float64) / score.maximum
        return np.nan_to_num(values, nan=-1.0) >= options.right_at - 1e-9

    @property
    def confidences(self) -> list[Confidence]:
        """Of the student's answers."""
        return [row.confidence for row in self.student]

    def side(self, which: int, prices: Prices) -> Side:
        """The student's side of a cascade (0), or the teacher's (1)."""
        rows = (self.student, self.teacher)[which]
        return Side(
            self.scored.scores[self.scored.systems[which].name],
            np.array([row.prediction.seconds or 0.0 for row in rows]),
            np.array([row.prompt_tokens for row in rows], dtype=np.float64),
            np.array([row.prediction.tokens or 0 for row in rows], dtype=np.float64),
            prices,
        )


def calibrate(
    run: Run, options: CalibrateOptions, progress: Callable[[int, int, str], None] = lambda *_: None
) -> CalibrationReport:
    """Measure, fit, choose, and write `calibration/` in the run's folder.

    Raises:
        UnderstudyError: the run has no such student, its answers cannot be had, or nothing can be fitted on them.
    """
    recipe = run.recipe
    arm = student_arm(run, recipe, options.arm)
    has_teacher = options.teacher and recipe.teacher is not None
    dev, test = (_measured(run, recipe, arm, split, options, progress, has_teacher) for split in ("dev", "test"))
    maps = fit_maps(dev.confidences, dev.right(options).tolist(), list(dev.scored.clusters), kind=options.map_kind)
    calibration = _calibration(run, recipe, arm, options, maps)
    prices = (options.student_prices, options.teacher_prices or teacher_prices(recipe))
    if has_teacher:
        calibration = _with_thresholds(calibration, dev, options, prices)
    report = _report(run, recipe, calibration, dev, test, options, prices, has_teacher)
    calibration.write(run.folder / FOLDER)
    write_json(run.folder / FOLDER / REPORT, report.to_json())
    from understudy.report.calibration_page import render_calibration

    render_calibration(report.to_json(), run.folder / FOLDER / PAGE)
    return report


def student_arm(run: Run, recipe: Recipe, name: str | None) -> str:
    """The arm whose student is meant; by default the one that the run is about.

    Raises:
        ConfigError: the run has no such arm, or it answers with texts around the answer.
    """
    trained = [arm for arm in recipe.answering_arms if run.is_done(stage_of("train", arm).name)]
    known = [*trained, "base_student"]
    chosen = name or (main_arm(trained) if trained else "base_student")
    if chosen not in known:
        raise unknown("student", chosen, known, where=str(run.folder))
    if recipe.arm(chosen).learns == "task_texts":
        others = [arm for arm in trained if recipe.arm(arm).learns != "task_texts"]
        raise ConfigError(
            f"the student {chosen} writes an explanation around its answer, so no confidence is that of the answer",
            hint=f"take one that only answers: --arm {others[0] if others else 'base_student'}",
        )
    return chosen


def teacher_prices(recipe: Recipe) -> Prices:
    """The prices that the recipe names."""
    teacher = recipe.teacher
    return Prices((teacher and teacher.input_price) or 0.0, (teacher and teacher.output_price) or 0.0)


def _measured(
    run: Run,
    recipe: Recipe,
    arm: str,
    split: Any,
    options: CalibrateOptions,
    progress: Progress,
    has_teacher: bool,
) -> Measured:
    size = options.batch_size or recipe.evaluate.batch_size
    names = [arm, *([TEACHER.name] if has_teacher else [])]
    answers = {name: Answerer(run, recipe, name, size, progress).answers(split) for name in names}
    if not answers[arm]:
        raise DataError(f"the run has no labelled {split} rows", hint="data.dev and data.test make some")
    systems = [System(name, [row.prediction for row in rows], str(run.folder)) for name, rows in answers.items()]
    metrics = tuple(dict.fromkeys((*metric_names(recipe.evaluate.metrics), *_written(options.metric))))
    scored = score_systems(systems, metrics, metric_models_of(recipe.evaluate))
    return Measured(scored, *(_in_order(answers.get(name, []), scored) for name in (arm, TEACHER.name)))


def _written(metric: str) -> tuple[str, ...]:
    """The metric, unless it is that of options, which is measured without being asked for."""
    return () if metric == "choice_accuracy" else (metric,)


def _in_order(rows: Sequence[Answered], scored: Scored) -> list[Answered]:
    table = {row.prediction.id: row for row in rows}
    return [table[row.id] for row in scored.rows] if rows else []


def _calibration(
    run: Run, recipe: Recipe, arm: str, options: CalibrateOptions, maps: Mapping[str, ProbabilityMap]
) -> Calibration:
    if options.measure is not None and options.measure not in maps:
        raise unknown("measure of confidence", options.measure, maps, hint="others are not known of these answers")
    measure = options.measure or best_measure(maps)
    assert measure is not None
    weights = Answerer(run, recipe, arm, 1, lambda *_: None).weights()
    is_here = weights is not None and Path(weights).exists()
    at = "" if options.right_at >= 1 else f" of at least {options.right_at:g}"
    return Calibration(
        run=recipe.fingerprint(),
        student=fingerprint_folder(weights) if is_here and weights else str(weights),
        arm=arm,
        right=f"{options.metric}{at}",
        measure=measure,
        early_measure=best_measure(maps, early=True),
        maps=maps,
    )


def probabilities(
    calibration: Calibration, confidences: Sequence[Confidence], measure: str | None = None
) -> np.ndarray:
    """`[n]` the probability that each answer is right."""
    return np.array([calibration.probability(confidence, measure) for confidence in confidences])


def _with_thresholds(
    calibration: Calibration, dev: Measured, options: CalibrateOptions, prices: tuple[Prices, Prices]
) -> Calibration:
    student, teacher = dev.side(0, prices[0]), dev.side(1, prices[1])
    if options.metric not in teacher.scores:
        raise DataError(f"the teacher's answers have no {options.metric}", hint="choose another --metric")

    def threshold(measure: str | None) -> float:
        return options.rule.threshold(
            probabilities(calibration, dev.confidences, measure), student, teacher, options.metric
        )

    early = calibration.early_measure
    return replace(
        calibration,
        threshold=threshold(None),
        early_threshold=threshold(early) if early else None,
        rule=options.rule.words,
    )


def reliability_of(p: np.ndarray, right: np.ndarray, clusters: Sequence[int], resampling: Resampling) -> Reliability:
    """How far probabilities hold.

    Args:
        p: `[n]` probabilities.
        right: `[n]` whether each answer was right.
        clusters: the group of each row, drawn together.
        resampling: draws and level of the intervals.
    """
    numbers = np.unique(np.asarray(clusters), return_inverse=True)[1]
    count = int(numbers.max()) + 1

    def figure(statistics: np.ndarray, from_totals: Any) -> Figure:
        (resampled,) = resample([Columns(row_sums(statistics, numbers, count), from_totals)], resampling)
        ends = (resampled.value, *resampled.bounds(resampling.confidence, count))
        return Figure(*(float(end) if np.isfinite(end) else None for end in ends))

    kinds: tuple[reliable.Bins, ...] = ("mass", "width")
    return Reliability(
        n=len(p),
        right=float(right.mean()),
        probability=float(p.mean()),
        auroc=figure(reliable.auroc_statistics(p, right), reliable.auroc_from_totals),
        brier=reliable.brier_score(p, right),
        brier_constant=float(right.mean() * (1 - right.mean())),
        ece={kind: figure(reliable.bin_statistics(p, right, kind), reliable.ece_from_totals) for kind in kinds},
        floor={kind: reliable.floor(p, kind) for kind in kinds},
        bins={kind: tuple(reliable.reliability(p, right, kind)) for kind in kinds},
    )


def _report(
    run: Run,
    recipe: Recipe,
    calibration: Calibration,
    dev: Measured,
    test: Measured,
    options: CalibrateOptions,
    prices: tuple[Prices, Prices],
    has_teacher: bool,
) -> CalibrationReport:
    resampling = Resampling(recipe.evaluate.resamples, recipe.evaluate.confidence)
    p, right = probabilities(calibration, test.confidences), test.right(options)
    report = CalibrationReport(
        name=recipe.name,
        arm=calibration.arm,
        teacher=recipe.teacher.model if has_teacher and recipe.teacher else None,
        calibration=calibration,
        dev_rows=len(dev.student),
        reliability=reliability_of(p, right, test.scored.clusters, resampling),
        measures={name: _auroc(test, name, right) for name in calibration.maps},
        metric=options.metric,
        maxima={name: score.maximum for name, score in test.side(0, Prices()).scores.items()},
        confidence=resampling.confidence,
        priced=any(price.input or price.output for price in prices),
        batch_size=options.batch_size or recipe.evaluate.batch_size,
        notes=test.scored.notes,
    )
    if not has_teacher:
        return report
    sides = test.side(0, prices[0]), test.side(1, prices[1])
    common = {"clusters": list(test.scored.clusters), "resampling": resampling}
    steps = sorted({*thresholds_of(p, MOST_POINTS), calibration.threshold})
    points = curve(p, *sides, steps, **common)
    early = None
    if calibration.early_measure is not None and calibration.early_threshold is not None:
        early_p = probabilities(calibration, test.confidences, calibration.early_measure)
        (early,) = curve(early_p, *sides, [calibration.early_threshold], **common)
    chosen = points[steps.index(calibration.threshold)]
    return replace(report, points=tuple(points), chosen=chosen, early=early)


def _auroc(measured: Measured, measure: str, right: np.ndarray) -> float | None:
    values = [confidence.value(measure) for confidence in measured.confidences]
    return reliable.auroc(np.array([-np.inf if value is None else value for value in values]), right)
