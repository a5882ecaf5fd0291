"""Effects that were put into made-up grids are found, those that were not are not, and verdicts follow their rules."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from understudy.grid.analysis import effects, neighbours
from understudy.grid.means import cell_figures, reference_figures
from understudy.grid.table import TableRow
from understudy.grid.telecom_study import chosen_by_rouge, findings, study_axes, tail_probabilities
from understudy.records import MetricInfo

AXES = {
    "teacher.sft": ["false", "true"],
    "student.sft": ["false", "true"],
    "vocabulary": ["same", "different"],
    "algorithm": ["kd", "dskd"],
}
ABOUT = {name: MetricInfo(1.0, True) for name in ("rougeL", "token_f1")}


def grid(value: Callable[[dict[str, str]], float], *, noise: float = 0.005, seeds: int = 3) -> list[TableRow]:
    """A grid with the axes of the study in which a run scores `value` of its levels, and noise."""
    draw, rows = np.random.default_rng(0), []
    for labels in itertools.product(*AXES.values()):
        for seed in range(seeds):
            levels = {**dict(zip(AXES, labels, strict=True)), "seed": str(seed)}
            metrics = {name: value(levels) + draw.normal(0, noise) for name in ABOUT}
            rows.append(TableRow(levels, seed, "distilled", metrics, Path(f"cell{len(rows)}"), None))
    return rows


def teacher(levels: dict[str, str]) -> bool:
    return levels["teacher.sft"] == "true"


def student(levels: dict[str, str]) -> bool:
    return levels["student.sft"] == "true"


def same(levels: dict[str, str]) -> bool:
    return levels["vocabulary"] == "same"


def verdicts(rows: list[TableRow], curves: tuple = ()) -> dict[str, str]:
    return {finding.finding: finding.verdict for finding in findings(rows, ABOUT, curves, 0.05)}


# -- the findings ----------------------------------------------------------------------------------------------------


def test_the_study_as_it_was_found_holds() -> None:
    rows = grid(lambda at: 0.3 + 0.1 * teacher(at) * (3 if same(at) else 1) + 0.1 * student(at))
    assert verdicts(rows) == {"a": "holds", "b": "holds", "c": "holds", "d": "cannot be told"}


def test_a_teacher_that_harms_is_no_finding() -> None:
    rows = grid(lambda at: 0.6 - 0.1 * teacher(at) + 0.1 * student(at))
    verdict_of = verdicts(rows)
    assert verdict_of["a"] == verdict_of["b"] == "does not hold"


def test_help_for_one_algorithm_only_is_not_help_for_each() -> None:
    rows = grid(lambda at: 0.4 + 0.1 * teacher(at) * (at["algorithm"] == "kd") - 0.1 * teacher(at) * (not same(at)))
    [finding, *_] = findings(rows, ABOUT, (), 0.05)
    assert finding.verdict == "cannot be told"
    clear = {(row.what, row.metric) for row in finding.rows if row.p_holm < 0.05}
    assert clear == {("kd", "rougeL"), ("kd", "token_f1")}
    # The other vocabulary, where the teacher harms, has no part in it.
    assert all(row.difference > 0.09 for row in finding.rows if row.what == "kd")


def test_gains_that_are_alike_in_both_vocabularies_do_not_depend_on_them() -> None:
    rows = grid(lambda at: 0.3 + 0.1 * teacher(at) + 0.1 * student(at) + 0.2 * same(at))
    verdict_of = verdicts(rows)
    assert (verdict_of["b"], verdict_of["c"]) == ("holds", "does not hold")


def test_noise_alone_tells_nothing() -> None:
    assert set(verdicts(grid(lambda at: 0.4, noise=0.02)).values()) == {"cannot be told"}


def test_a_metric_that_never_moves_is_said_and_breaks_nothing() -> None:
    result = findings(grid(lambda at: 0.0, noise=0.0), ABOUT, (), 0.05)
    assert [one.verdict for one in result] == ["cannot be told"] * 4
    assert all("all values are equal" in row.reason for row in result[0].rows)


def test_a_metric_of_which_less_is_better_turns_every_direction() -> None:
    rows = grid(lambda at: 0.9 - 0.1 * teacher(at) * (3 if same(at) else 1) - 0.1 * student(at))
    about = {name: replace(what, higher_is_better=False) for name, what in ABOUT.items()}
    result = findings(rows, about, (), 0.05)
    assert [one.verdict for one in result] == ["holds", "holds", "holds", "cannot be told"]
    assert all(row.difference < 0 for row in result[0].rows)


def test_it_speaks_only_where_the_axes_are_those_of_the_study() -> None:
    rows = grid(lambda at: 0.5)
    assert study_axes(rows) == ("vocabulary", "algorithm")
    for axis in AXES:
        without = [row for row in rows if row.levels[axis] == AXES[axis][0]]
        assert study_axes(without) is None
        assert findings(without, ABOUT, (), 0.05) == []
    assert study_axes([]) is None


def curve(*points: tuple[float, float]) -> list[dict[str, float]]:
    return [{"step": 10 * n, "eval_loss": loss, "eval_rougeL": text} for n, (loss, text) in enumerate(points, start=1)]


def test_checkpoints_are_judged_where_a_development_loss_was_computed() -> None:
    rises, falls = curve((1.0, 0.2), (1.5, 0.4)), curve((1.5, 0.2), (1.0, 0.4))
    finding = chosen_by_rouge([rises] * 8, 0.05)
    assert finding.verdict == "holds"
    assert finding.rows[0].difference == pytest.approx(0.2)
    # Two evaluations: a blind choice misses in one half, so eight of eight have 1/2⁸, and Holm doubles it.
    assert [(row.p, row.p_holm) for row in finding.rows[1:]] == [
        (pytest.approx(1 / 2**8), pytest.approx(2 / 2**8)),
        (pytest.approx(1.0), pytest.approx(1.0)),
    ]
    assert chosen_by_rouge([falls] * 8, 0.05).verdict == "does not hold"
    assert chosen_by_rouge([rises, falls] * 4, 0.05).verdict == "cannot be told"
    unmeasured = chosen_by_rouge([[{"step": 10, "eval_rougeL": 0.2}, {"step": 20, "eval_rougeL": 0.4}]], 0.05)
    assert (unmeasured.verdict, unmeasured.rows) == ("cannot be told", ())
    assert "In 1 of 1 runs" in unmeasured.why


def test_the_loss_is_held_against_a_choice_that_is_blind() -> None:
    """By hand: of three evaluations a blind choice misses the one best text in 2/3, one of two equals in 1/3."""
    missed = curve((1.0, 0.2), (1.5, 0.3), (1.6, 0.4))
    found = curve((1.6, 0.2), (1.5, 0.3), (1.0, 0.4))
    two_best = curve((1.6, 0.2), (1.5, 0.4), (1.0, 0.4))
    finding = chosen_by_rouge([missed, found, two_best], 0.05)
    assert finding.counts is not None
    assert finding.counts.to_dict() == {
        "runs": 3,
        "missed": 1,
        "missed_as_loss_rose": 1,
        "blind": [pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(1 / 3)],
    }
    # P(X = 0) = 1/3 · 1/3 · 2/3 = 2/27 and P(X = 1) = 2 · (2/3 · 1/3 · 2/3) + 1/3 · 1/3 · 1/3 = 9/27.
    assert [row.p for row in finding.rows] == [None, pytest.approx(25 / 27), pytest.approx(11 / 27)]
    assert finding.verdict == "cannot be told"
    assert "a blind choice would miss it in 1.7" in finding.why
    # A loss that is as good as blind, two thirds of three evaluations: one half would have called this a finding.
    assert chosen_by_rouge([missed] * 32 + [found] * 16, 0.05).verdict == "cannot be told"
    assert chosen_by_rouge([missed] * 44 + [found] * 4, 0.05).verdict == "holds"
    # Where all texts are alike nothing can be missed.
    flat = chosen_by_rouge([curve((1.0, 0.0), (1.5, 0.0))], 0.05)
    assert (flat.verdict, [row.p for row in flat.rows[1:]]) == ("cannot be told", [1.0, 1.0])


@given(st.integers(1, 60), st.integers(1, 59), st.integers(0, 60))
def test_with_one_chance_for_all_the_tails_are_the_binomials(n: int, sixtieths: int, successes: int) -> None:
    successes, chance = min(successes, n), sixtieths / 60
    more, less = tail_probabilities(successes, [chance] * n)
    assert more == pytest.approx(stats.binom.sf(successes - 1, n, chance), rel=1e-9)
    assert less == pytest.approx(stats.binom.cdf(successes, n, chance), rel=1e-9)


# -- effects and cells -----------------------------------------------------------------------------------------------


def test_effects_are_those_that_were_put_in() -> None:
    rows = grid(lambda at: 0.3 + 0.1 * teacher(at) + 0.1 * teacher(at) * same(at))
    anova = effects(rows, list(ABOUT))
    for metric in ABOUT:
        effects_of = anova[metric]
        assert effects_of.anova is not None
        terms = {term.name: term for term in effects_of.anova.terms}
        assert len(terms) == 15
        clear = {name for name, p_holm in effects_of.p_holm.items() if p_holm < 0.05}
        assert clear == {"teacher.sft", "vocabulary", "teacher.sft × vocabulary"}
        assert all(effects_of.p_holm[name] >= term.p_value for name, term in terms.items())


def test_one_seed_leaves_the_highest_interaction_for_noise() -> None:
    anova = effects(grid(lambda at: 0.3 + 0.1 * teacher(at), seeds=1), ["rougeL"])["rougeL"].anova
    assert anova is not None
    assert len(anova.terms) == 14
    assert anova.notes == ("one value a cell: the highest interaction is taken for noise",)


def test_cells_have_the_mean_and_students_interval_over_seeds() -> None:
    rows = grid(lambda at: 0.4, noise=0.1)
    cells = cell_figures(rows, ["rougeL"], 0.95)
    assert len(cells) == 16
    values = [row.metrics["rougeL"] for row in rows[:3]]
    figures = cells[0].metrics["rougeL"]
    assert figures.mean == pytest.approx(mean(values))
    # t(0.975, 2) from a table.
    assert figures.high is not None
    assert figures.high - figures.mean == pytest.approx(4.302653 * stdev(values) / 3**0.5, rel=1e-6)
    [alone] = cell_figures(rows[:1], ["rougeL"], 0.95)
    assert (alone.metrics["rougeL"].low, alone.seeds) == (None, (0,))


def test_what_cells_share_is_one_reference_and_counts_once() -> None:
    """The teacher as it came has one set of answers for all seeds, a fine-tuned one its own for each seed."""
    values = {"0": 0.5, "1": 0.6, "2": 0.7}
    rows = []
    for cell in grid(lambda at: 0.4):
        seed, tuned = cell.levels["seed"], teacher(dict(cell.levels))
        stage = Path(f"stages/teacher-{seed}" if tuned else "stages/teacher")
        score = values[seed] if tuned else 0.25
        rows.append(cell)
        rows.append(TableRow(cell.levels, cell.seed, "teacher", {"rougeL": score}, cell.run, stage / "answers"))
        rows.append(TableRow(cell.levels, cell.seed, "majority", {"rougeL": 0.1}, Path("cell"), None))
    untuned, tuned, majority = reference_figures(rows, ["rougeL", "bleu"], 0.95)
    assert [(one.arm, one.levels) for one in (untuned, tuned, majority)] == [
        ("teacher", {"teacher.sft": "false"}),
        ("teacher", {"teacher.sft": "true"}),
        ("majority", {}),
    ]
    assert [one.metrics["rougeL"].values for one in (untuned, tuned, majority)] == [(0.25,), (0.5, 0.6, 0.7), (0.1,)]
    assert [one.seeds for one in (untuned, tuned, majority)] == [(0,), (0, 1, 2), (0,)]
    # sd is 0.1; t(0.975, 2) from a table.
    assert tuned.metrics["rougeL"].high == pytest.approx(0.6 + 4.302653 * 0.1 / 3**0.5)
    assert untuned.metrics["rougeL"].high is None


@given(st.lists(st.integers(1, 3), min_size=1, max_size=4))
def test_neighbours_of_a_full_grid_are_counted(sizes: list[int]) -> None:
    cells = [
        {f"axis{n}": str(level) for n, level in enumerate(levels)} for levels in itertools.product(*map(range, sizes))
    ]
    result = neighbours(cells)
    pairs = sum(len(cells) // size * (size * (size - 1) // 2) for size in sizes)
    assert len(result) == len({frozenset(pair[:2]) for pair in result}) == pairs
    for later, earlier, axis in result:
        assert cells[later][axis] > cells[earlier][axis]
        assert {**cells[later], axis: ""} == {**cells[earlier], axis: ""}
