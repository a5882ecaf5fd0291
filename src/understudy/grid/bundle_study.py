"""The three questions of the bundle study (arXiv 2504.17220), asked of a grid that has axes for them.

Which format of knowledge, how much of it, and how it is used: each is answered by paired tests between the levels of
its axis, question by question. A level stands for the mean, item by item, of all runs that have a partner at the other
level: equal in every other axis and in the seed. Holm over all tests of the three.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from understudy.errors import DataError
from understudy.evaluation.scoring import score_systems
from understudy.evaluation.systems import System
from understudy.files import read_jsonl
from understudy.grid.table import TableRow
from understudy.metrics.significance import Resampling, adjusted, compare_many
from understudy.metrics.significance.results import PairTest
from understudy.records import Prediction
from understudy.report.grid_inputs import CurvePoint, LevelTest, StudyQuestion

METRICS = ("bundle_f1", "bundle_precision", "bundle_recall", "bundle_coverage")
FORMATS = ("knowledge.formats", "formats", "format")
QUANTITIES = ("generate.sessions.ratio", "ratio", "quantity")
SAMPLERS = ("generate.sessions.sampler", "sampler")
USES = ("knowledge.use", "use", "utilisation")
DECODINGS = ("evaluate.constrained", "answers")
_QUESTIONS = (
    ("Which format of knowledge helps?", FORMATS),
    ("How does quality change with the quantity of knowledge?", QUANTITIES),
    ("Which sessions is it best learned of?", SAMPLERS),
    ("How is knowledge best used: in context, fine-tuned, or both?", USES),
    ("What does it change that answers can name nothing but items of their session?", DECODINGS),
)


def questions(rows: Sequence[TableRow], resampling: Resampling) -> list[StudyQuestion]:
    """The questions that the grid has an axis for, answered; empty where the rows are no sessions.

    Args:
        rows: one a run, of one arm.
        resampling: draws of the tests and level of the intervals.
    """
    if not any("bundle_f1" in row.metrics for row in rows):
        return []
    asked = [(text, axis) for text, names in _QUESTIONS if (axis := _axis(rows, names))]
    answers = _Answers(rows)
    tests = {axis: _pairs(rows, axis, answers, resampling) for _, axis in asked}
    p_holm = adjusted({(axis, n): test.p_value for axis, own in tests.items() for n, (test, _) in enumerate(own)})
    return [
        _question(text, axis, tests[axis], p_holm, curve_of(rows, axis, answers, resampling), resampling)
        for text, axis in asked
        if tests[axis]
    ]


def _axis(rows: Sequence[TableRow], names: Sequence[str]) -> str:
    """The first of the names that is an axis of two levels or more; empty where none is."""
    levels = {axis: {row.levels[axis] for row in rows} for axis in rows[0].levels}
    return next((name for name in names if len(levels.get(name, ())) > 1), "")


class _Answers:
    """Predictions of runs, each read once."""

    def __init__(self, rows: Sequence[TableRow]) -> None:
        self._of = {id(row): [] for row in rows}
        self._rows = {id(row): row for row in rows}

    def system(self, name: str, seed: int, row: TableRow) -> System:
        if not self._of[id(row)] and row.predictions is not None:
            self._of[id(row)] = list(map(Prediction.from_json, read_jsonl(row.predictions)))
        return System(name, self._of[id(row)], str(row.run), arm=row.arm, seed=seed)


def partners(rows: Sequence[TableRow], axis: str, a: str, b: str) -> list[tuple[TableRow, TableRow]]:
    """Runs at level `a` with their partners at level `b`: equal in every other axis and in the seed."""
    by_rest: dict[tuple[object, ...], dict[str, TableRow]] = {}
    for row in rows:
        rest = tuple(label for name, label in row.levels.items() if name != axis)
        by_rest.setdefault((*rest, row.seed), {})[row.levels[axis]] = row
    return [(found[a], found[b]) for found in by_rest.values() if a in found and b in found]


def _pairs(
    rows: Sequence[TableRow], axis: str, answers: _Answers, resampling: Resampling
) -> list[tuple[PairTest, int]]:
    """Every pair of levels that has partners, later minus earlier, with the number of these."""
    tests = []
    for a, b in itertools.combinations(dict.fromkeys(row.levels[axis] for row in rows), 2):
        pairs = partners(rows, axis, b, a)
        if not pairs:
            continue
        sides = zip((b, a), zip(*pairs, strict=True), strict=True)
        systems = [answers.system(name, n, row) for name, side in sides for n, row in enumerate(side)]
        try:
            scored = score_systems(systems, [m for m in METRICS if m in pairs[0][0].metrics])
            found = compare_many(
                scored.scores, contrasts=[(b, a)], clusters=scored.shared_clusters, resampling=resampling
            )
        except DataError:
            continue
        tests += [(test, len(pairs)) for test in found.tests]
    return tests


def _question(
    text: str,
    axis: str,
    tests: Sequence[tuple[PairTest, int]],
    p_holm: Mapping[tuple[str, int], float],
    curve: tuple[CurvePoint, ...],
    resampling: Resampling,
) -> StudyQuestion:
    rows = []
    for number, (test, runs) in enumerate(tests):
        figures, p_value = test.comparison, p_holm[axis, number]
        better = test.ahead if p_value < resampling.alpha else ""
        what = f"{test.a} − {test.b}"
        bounds = (figures.low, figures.high)
        rows.append(LevelTest(what, test.metric, figures.difference, *bounds, p_value, better, runs))
    return StudyQuestion(text, axis, _in_words(rows), tuple(rows), curve, METRICS[0] if curve else "")


def _in_words(rows: Sequence[LevelTest]) -> str:
    """What the tests of F1 show."""
    told = [row for row in rows if row.metric == METRICS[0]]
    clear = [row for row in told if row.better]
    if not clear:
        widest = max((row.high - row.low for row in told), default=0.0) / 2
        return (
            f"No two levels can be told apart in F1 of bundles ({len(told)} pairs); differences of less than about "
            f"{100 * widest:.1f} points would not show"
        )
    parts = [f"{row.what}: {100 * row.difference:+.1f} points".replace("-", "−") for row in clear]
    return f"Significant in F1 of bundles, {len(clear)} of {len(told)} pairs: {'; '.join(parts)}"


def curve_of(rows: Sequence[TableRow], axis: str, answers: _Answers, resampling: Resampling) -> tuple[CurvePoint, ...]:
    """F1 by level where all levels are numbers, a line for each use of knowledge; only runs that have every level."""
    labels = list(dict.fromkeys(row.levels[axis] for row in rows))
    if axis not in QUANTITIES or not all(_number(label) is not None for label in labels):
        return ()
    use, points = _axis(rows, USES), []
    for line in dict.fromkeys(row.levels[use] if use else "" for row in rows):
        own = [row for row in rows if not use or row.levels[use] == line]
        whole = _whole(own, axis, labels)
        systems = [answers.system(row.levels[axis], n, row) for rows_of in whole for n, row in enumerate(rows_of)]
        if len(whole) < 2 or not systems:
            continue
        try:
            intervals = score_systems(systems, METRICS[:1]).intervals(resampling)
        except DataError:
            continue
        points += [
            CurvePoint(line or "all runs", float(label), found.value, found.low, found.high)
            for label in labels
            if (found := intervals[label][METRICS[0]]).value is not None
        ]
    return tuple(points)


def _whole(rows: Sequence[TableRow], axis: str, labels: Sequence[str]) -> list[list[TableRow]]:
    """Of each level the runs whose partners stand at every other one."""
    by_rest: dict[tuple[object, ...], dict[str, TableRow]] = {}
    for row in rows:
        rest = tuple(label for name, label in row.levels.items() if name != axis)
        by_rest.setdefault((*rest, row.seed), {})[row.levels[axis]] = row
    complete = [found for found in by_rest.values() if len(found) == len(labels)]
    return [[found[label] for found in complete] for label in labels] if complete else []


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None
