"""Which findings of the telecom study (arXiv 2504.20000) hold in a grid that has its axes.

Each is answered by one test over runs, with a rule fixed before any result: *holds* needs significance in the finding's
direction, *does not hold* significance against it; all else *cannot be told*. No significance is no proof of absence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean
from typing import Any

import numpy as np

from understudy.errors import DataError
from understudy.grid.table import TableRow
from understudy.metrics.significance import adjusted, factorial_anova
from understudy.metrics.significance.factorial import Anova
from understudy.records import MetricInfo
from understudy.report.grid_inputs import CheckpointCounts, FindingRow, StudyFinding

HOLDS, FAILS, OPEN = "holds", "does not hold", "cannot be told"
TEACHER, STUDENT = "teacher.sft", "student.sft"
_VOCABULARY, _ALGORITHM = ("vocabulary", "teacher", "student"), ("algorithm", "method", "distil.method")
_OFF = ("false", "null")


def findings(
    rows: Sequence[TableRow],
    metric_facts: Mapping[str, MetricInfo],
    curves: Sequence[Sequence[Mapping[str, Any]]],
    alpha: float,
) -> list[StudyFinding]:
    """The four findings with test, figures and verdict; empty where the axes of the study are not all there.

    Args:
        rows: one a run.
        metric_facts: metric → its direction.
        curves: of each run, what was measured on the development rows.
        alpha: level of the tests.
    """
    axes = study_axes(rows)
    if axes is None:
        return []
    runs = [_StudyRun(row, *axes) for row in rows]
    signs = {metric: 1.0 if facts.higher_is_better else -1.0 for metric, facts in metric_facts.items()}
    return [
        teacher_helps(runs, signs, alpha),
        tuning_both_is_best(runs, signs, alpha),
        depends_on_vocabulary(runs, signs, alpha),
        chosen_by_rouge(curves, alpha),
    ]


def study_axes(rows: Sequence[TableRow]) -> tuple[str, str] | None:
    """The axes of vocabulary and algorithm; None if any of the study's four is missing or has not two levels."""
    levels = {axis: {row.levels[axis] for row in rows} for axis in (rows[0].levels if rows else ())}
    vocabulary = next((axis for axis in _VOCABULARY if any(_is_same(label) for label in levels.get(axis, ()))), None)
    algorithm = next((axis for axis in _ALGORITHM if axis in levels), None)
    if vocabulary is None or algorithm is None or any(len(levels.get(axis, ())) != 2 for axis in (TEACHER, STUDENT)):
        return None
    return (vocabulary, algorithm) if len(levels[vocabulary]) > 1 and len(levels[algorithm]) > 1 else None


def _is_same(label: str) -> bool:
    return label.startswith("same")


class _StudyRun:
    """One run in the terms of the study."""

    def __init__(self, row: TableRow, vocabulary: str, algorithm: str) -> None:
        self.teacher, self.student = row.levels[TEACHER] not in _OFF, row.levels[STUDENT] not in _OFF
        self.vocabulary, self.algorithm = row.levels[vocabulary], row.levels[algorithm]
        self.metrics = row.metrics

    @property
    def tuned(self) -> str:
        return {(0, 0): "neither", (1, 0): "teacher", (0, 1): "student", (1, 1): "both"}[self.teacher, self.student]


def _measured(runs: Sequence[_StudyRun], metric: str, sign: float) -> tuple[list[_StudyRun], list[float]]:
    measured = [run for run in runs if run.metrics.get(metric) is not None]
    return measured, [sign * float(run.metrics[metric]) for run in measured]  # pyright: ignore[reportArgumentType]


def _with_holm(rows: Sequence[FindingRow]) -> list[FindingRow]:
    p_holm = adjusted({number: math.nan if row.p is None else row.p for number, row in enumerate(rows)})
    return [replace(row, p_holm=_finite(p_holm[number])) for number, row in enumerate(rows)]


def _finite(p_value: float) -> float | None:
    return p_value if math.isfinite(p_value) else None


def _is_clear(row: FindingRow, alpha: float) -> bool:
    return row.p_holm is not None and row.p_holm < alpha


def _improvement(row: FindingRow, signs: Mapping[str, float]) -> float:
    """The difference, positive where it is for the better."""
    return (row.difference or 0.0) * signs[row.metric]


# -- (a) -------------------------------------------------------------------------------------------------------------


def teacher_helps(runs: Sequence[_StudyRun], signs: Mapping[str, float], alpha: float) -> StudyFinding:
    """(a) With one vocabulary, SFT of the teacher helps for each algorithm and metric."""
    rows = []
    same_runs = [run for run in runs if _is_same(run.vocabulary)]
    for algorithm in dict.fromkeys(run.algorithm for run in same_runs):
        for metric, sign in signs.items():
            measured, values = _measured([run for run in same_runs if run.algorithm == algorithm], metric, sign)
            with_teacher = [value for run, value in zip(measured, values, strict=True) if run.teacher]
            without_teacher = [value for run, value in zip(measured, values, strict=True) if not run.teacher]
            if not with_teacher or not without_teacher:
                continue
            row = FindingRow(algorithm, metric, sign * (mean(with_teacher) - mean(without_teacher)))
            try:
                factors = {TEACHER: [run.teacher for run in measured], STUDENT: [run.student for run in measured]}
                rows.append(replace(row, p=_finite(factorial_anova(values, factors).terms[0].p_value)))
            except DataError as error:
                rows.append(replace(row, reason=error.message))
    rows = _with_holm(rows)
    significant_for = [row for row in rows if _is_clear(row, alpha) and _improvement(row, signs) > 0]
    significant_against = [row for row in rows if _is_clear(row, alpha) and _improvement(row, signs) < 0]
    verdict = FAILS if significant_against else HOLDS if rows and len(significant_for) == len(rows) else OPEN
    num_ahead = sum(_improvement(row, signs) > 0 for row in rows)
    reason = (
        f"Of {len(rows)} combinations of algorithm and metric, SFT of the teacher is ahead in {num_ahead}, "
        f"significantly so in {len(significant_for)}; significantly behind in {len(significant_against)}"
    )
    test = "main effect of teacher SFT in an analysis of variance over runs (teacher SFT × student SFT), one for each "
    test += "algorithm and metric, same vocabulary; Holm over all of them"
    claim = "SFT of the teacher helps when the vocabulary is the same, for each algorithm and metric"
    return StudyFinding("a", claim, test, tuple(rows), verdict, reason)


# -- (b) and (c) -----------------------------------------------------------------------------------------------------


def _anova(runs: Sequence[_StudyRun], metric: str, sign: float) -> Anova | str:
    """Analysis of variance of who was tuned × vocabulary × algorithm; in words, why there is none."""
    measured, values = _measured(runs, metric, sign)
    columns = {
        "tuned": [run.tuned for run in measured],
        "vocabulary": [run.vocabulary for run in measured],
        "algorithm": [run.algorithm for run in measured],
    }
    try:
        used = {name: column for name, column in columns.items() if len(set(column)) > 1 or name == "tuned"}
        return factorial_anova(values, used)
    except DataError as error:
        return error.message


def _against_both(analysis: Anova | str, metric: str, sign: float, prefix: str = "") -> list[FindingRow]:
    """SFT of both minus each other choice, by Tukey; `better` where the first is ahead in the metric's direction."""
    if isinstance(analysis, str):
        return [FindingRow(prefix or "both", metric, None, reason=analysis)]
    rows = []
    for pair in analysis.tukey:
        if pair.factor == "tuned" and "both" in (pair.a, pair.b):
            orientation = 1.0 if pair.a == "both" else -1.0
            alternative = pair.b if pair.a == "both" else pair.a
            difference = sign * orientation * pair.difference
            rows.append(FindingRow(f"{prefix}both − {alternative}", metric, difference, _finite(pair.p_value)))
    return rows


def tuning_both_is_best(runs: Sequence[_StudyRun], signs: Mapping[str, float], alpha: float) -> StudyFinding:
    """(b) SFT of teacher and student is best overall."""
    rows = [row for metric, sign in signs.items() for row in _against_both(_anova(runs, metric, sign), metric, sign)]
    rows = _with_holm(rows)
    significant_for = [row for row in rows if _is_clear(row, alpha) and _improvement(row, signs) > 0]
    significant_against = [row for row in rows if _is_clear(row, alpha) and _improvement(row, signs) < 0]
    verdict = FAILS if significant_against else HOLDS if rows and len(significant_for) == len(rows) else OPEN
    best = sum(all(_improvement(row, signs) > 0 for row in rows if row.metric == metric) for metric in signs)
    reason = (
        f"SFT of both has the highest mean on {best} of {len(signs)} metrics; of {len(rows)} differences to the other "
        f"choices {len(significant_for)} are significantly in its favour and {len(significant_against)} significantly "
        "against it"
    )
    test = "SFT of both against teacher only, student only and neither, over all vocabularies and algorithms: Tukey's "
    test += "HSD in an analysis of variance over runs; Holm over metrics and differences"
    return StudyFinding("b", "SFT of both teacher and student is best overall", test, tuple(rows), verdict, reason)


def depends_on_vocabulary(runs: Sequence[_StudyRun], signs: Mapping[str, float], alpha: float) -> StudyFinding:
    """(c) How much SFT of both gains depends on the vocabulary: an interaction, not two p-values set side by side."""
    rows: list[FindingRow] = []
    for metric, sign in signs.items():
        analysis = _anova(runs, metric, sign)
        if isinstance(analysis, str):
            rows.append(FindingRow("interaction", metric, None, reason=analysis))
        else:
            p_value = next(term.p_value for term in analysis.terms if term.name == "tuned × vocabulary")
            rows.append(FindingRow("interaction", metric, None, _finite(p_value)))
    rows = _with_holm(rows)
    dependent = [row.metric for row in rows if _is_clear(row, alpha)]
    within: list[FindingRow] = []
    for vocabulary in dict.fromkeys(run.vocabulary for run in runs):
        with_vocabulary = [run for run in runs if run.vocabulary == vocabulary]
        for metric, sign in signs.items():
            within += _against_both(_anova(with_vocabulary, metric, sign), metric, sign, f"{vocabulary}: ")
    within = _with_holm(within)
    everywhere = bool(within) and all(_is_clear(row, alpha) and _improvement(row, signs) > 0 for row in within)
    verdict = HOLDS if dependent else FAILS if everywhere else OPEN
    reason = (
        f"The gain of SFT depends on the vocabulary significantly on {len(dependent)} of {len(rows)} metrics"
        + (f" ({', '.join(dependent)})" if dependent else "")
        + ("; SFT of both is significantly best with every vocabulary" if everywhere else "")
    )
    test = "interaction of who was fine-tuned with the vocabulary in an analysis of variance over runs, Holm over "
    test += "metrics; below it, SFT of both against the rest within each vocabulary (Tukey, Holm)"
    claim = "How significant the gain of SFT of both is depends on the vocabulary"
    return StudyFinding("c", claim, test, (*rows, *within), verdict, reason)


# -- (d) -------------------------------------------------------------------------------------------------------------


_CHOICE_CLAIM = (
    "Checkpoints are to be chosen by ROUGE-L, not by loss: the development loss rises while the text gets better"
)
_CHOICE_TEST = (
    "ROUGE-L on the development rows of the checkpoint it chooses minus that of the one with the least development "
    "loss; whether the least loss misses the best text in more, or in fewer, runs than a blind choice among their "
    "evaluations would (exact: of K evaluations, b of them the best, a blind choice misses with probability 1 − b/K); "
    "Holm over the two"
)


def chosen_by_rouge(curves: Sequence[Sequence[Mapping[str, Any]]], alpha: float) -> StudyFinding:
    """(d) Checkpoints are to be chosen by ROUGE-L, not by loss: what choosing by development loss would have lost.

    The null is a blind choice: every order of the losses of a run is as likely as any other. Of K evaluations, b of
    which have the best ROUGE-L, it misses the best text with probability 1 − b/K; runs are taken as independent.
    """
    paired = [
        points for lines in curves if len(points := [line for line in lines if line.get("eval_loss") is not None]) > 1
    ]
    if not paired:
        best_is_last = [max(lines, key=lambda line: line["eval_rougeL"]) is lines[-1] for lines in curves if lines]
        reason = (
            "No development loss was computed while training: checkpoints were chosen by ROUGE-L of generated answers"
        )
        reason += (
            f". In {sum(best_is_last)} of {len(best_is_last)} runs the best ROUGE-L was that of the last evaluation"
            if best_is_last
            else ""
        )
        return StudyFinding("d", _CHOICE_CLAIM, _CHOICE_TEST, (), OPEN, reason)
    shortfalls, blind, num_rose = [], [], 0
    for points in paired:
        # Of equal figures the last counts, as for the weights that are kept.
        by_text = max(points, key=lambda line: (line["eval_rougeL"], line["step"]))
        by_loss = min(points, key=lambda line: (line["eval_loss"], -line["step"]))
        shortfalls.append(by_text["eval_rougeL"] - by_loss["eval_rougeL"])
        blind.append(sum(line["eval_rougeL"] < by_text["eval_rougeL"] for line in points) / len(points))
        num_rose += shortfalls[-1] > 0 and by_text["step"] > by_loss["step"]
    counts = CheckpointCounts(len(paired), sum(value > 0 for value in shortfalls), num_rose, tuple(blind))
    return judge_choice(counts, mean(shortfalls), alpha)


def judge_choice(counts: CheckpointCounts, shortfall: float, alpha: float) -> StudyFinding:
    """(d) from its counts: does the least loss miss the best text more, or less, often than a blind choice would?

    Args:
        counts: of the runs in which a development loss was computed.
        shortfall: ROUGE-L that choosing by loss loses, mean over these runs.
        alpha: level of both tests together, after Holm.
    """
    p_more, p_less = tail_probabilities(counts.missed, counts.blind)
    loss, more, less = _with_holm(
        [
            FindingRow("ROUGE-L − loss", "rougeL", shortfall),
            FindingRow("the loss misses more often than a blind choice", "rougeL", None, p_more),
            FindingRow("the loss misses less often than a blind choice", "rougeL", None, p_less),
        ]
    )
    verdict = HOLDS if _is_clear(more, alpha) else FAILS if _is_clear(less, alpha) else OPEN
    reason = (
        f"In {counts.missed} of {counts.runs} runs the least development loss misses the best ROUGE-L, in "
        f"{counts.missed_as_loss_rose} of them because the loss rose while the text got better; a blind choice would "
        f"miss it in {sum(counts.blind):.1f}"
    )
    return StudyFinding("d", _CHOICE_CLAIM, _CHOICE_TEST, (loss, more, less), verdict, reason, counts)


def tail_probabilities(successes: int, chances: Sequence[float]) -> tuple[float, float]:
    """P(X ≥ successes) and P(X ≤ successes) of a sum X of independent Bernoulli variables (Poisson's binomial), exact.

    Args:
        successes: what was seen.
        chances: of each variable, the probability that it is 1.
    """
    probabilities = np.ones(1)
    for chance in chances:
        probabilities = np.convolve(probabilities, [1.0 - chance, chance])
    return min(1.0, float(probabilities[successes:].sum())), min(1.0, float(probabilities[: successes + 1].sum()))
