"""Scores and comparisons in the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from understudy.metrics.registry import JUDGED
from understudy.report import judges
from understudy.report.formatting import (
    arm_label,
    bounds,
    effect_bounds,
    items_text,
    metric_label,
    number,
    p_text,
    scale,
)
from understudy.report.headline import headline
from understudy.report.verdicts import all_tests, contrasts_of, names_of, tone, verdict_of_pair

if TYPE_CHECKING:
    from understudy.evaluation.evaluate import Evaluation, SystemScores
    from understudy.evaluation.harness import TaskResults


def _console() -> Console:
    return Console(highlight=False, markup=False, emoji=False)


def _line(text: str) -> Text:
    """A text that cannot steer the terminal, whatever a file or a model put into it."""
    from understudy.cli import one_line

    return Text(one_line(text))


def _table(title: str, columns: Sequence[str], left_aligned: Sequence[int] = (0,)) -> Table:
    table = Table(title=_line(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column, name in enumerate(columns):
        justify = "left" if column in left_aligned else "right"
        table.add_column(_line(name), justify=justify, overflow="fold", no_wrap=column == 0)
    return table


def scores(results: Evaluation, *, why: bool = False) -> None:
    """Every score with its interval, one column a system; signatures; what was not measured.

    Args:
        results: what was scored.
        why: say of each metric that was not measured why.
    """
    console, systems = _console(), results.systems
    level = f"{results.settings.confidence:.0%}"
    counts = {system.items for system in systems.values()}
    items = items_text(counts.pop()) if len(counts) == 1 else "items of each system's own"
    metrics = dict.fromkeys(name for system in systems.values() for name in system.scores)
    for shown_systems in _column_blocks(console, list(systems), 12):
        table = _table(f"{items}, 0 to 100, {level} intervals", ["metric", *map(arm_label, shown_systems)])
        for name in metrics:
            cells = (_score(systems[system], name) for system in shown_systems)
            table.add_row(_line(metric_label(name)), *cells)
        console.print(table)
    console.print(_line("how each was computed:"))
    for name in metrics:
        description = next(system.scores[name] for system in systems.values() if name in system.scores)
        console.print(Text("  ") + _line(f"{metric_label(name)}: {description.signature}"), soft_wrap=True)
    for name, system in systems.items():
        for metric, score in system.scores.items():
            if metric in JUDGED:
                description = "; ".join(judges.reliability(score.details))
                console.print(_line(f"{metric_label(metric)}, {arm_label(name)}: {description}"), soft_wrap=True)
    _missing(console, results.not_measured, list(systems), why=why)
    _notes(console, results.notes)


def _score(system: SystemScores, metric: str) -> Text:
    score = system.scores.get(metric)
    if score is None or not isfinite(score.value):
        return Text("–")
    factor, interval = 100 / score.maximum, system.intervals[metric]
    text = number(score.value * factor)
    if isfinite(interval.low):
        text += f"\n{number(interval.low * factor)}–{number(interval.high * factor)}"
    return Text(text, justify="right")


def _missing(
    console: Console, not_measured: Mapping[str, Mapping[str, str]], systems: Sequence[str], *, why: bool
) -> None:
    """One line for all of them, so that the answer is not pushed out of sight; with `why`, a line for each."""
    if not_measured and not why:
        metrics = ", ".join(map(metric_label, not_measured))
        lacking = {name for reasons in not_measured.values() for name in reasons}
        systems_text = "" if lacking >= set(systems) else f" for {', '.join(map(arm_label, sorted(lacking)))}"
        console.print(_line(f"not measured{systems_text}: {metrics} (reasons: --why)"), soft_wrap=True)
        return
    for metric, reasons in not_measured.items():
        for reason in dict.fromkeys(reasons.values()):
            lacking = [arm_label(name) for name in systems if reasons.get(name) == reason]
            systems_text = "" if len(lacking) == len(systems) else f" ({', '.join(lacking)})"
            console.print(_line(f"not measured: {metric_label(metric)}{systems_text}: {reason}"), soft_wrap=True)


def _notes(console: Console, notes: Sequence[str]) -> None:
    for note in notes:
        console.print(_line(f"note: {note}"), soft_wrap=True)


# Comparisons ----------------------------------------------------------------------------------------------------------


def comparison(comparison_json: Mapping[str, Any], *, why: bool = False) -> None:
    """One table a pair: difference, interval, corrected p, effect, and what it would take; then the answer.

    Args:
        comparison_json: `Comparison.to_dict()`.
        why: say of each metric that was not measured why.
    """
    console, level = _console(), f"{comparison_json['comparison']['settings']['confidence']:.0%}"
    for a, b in contrasts_of(comparison_json):
        table = _table(
            f"{arm_label(a)} − {arm_label(b)}",
            ["metric", f"points, {level}", "p (Holm)", "effect d", "in words"],
            left_aligned=(0, 4),
        )
        for test in all_tests(comparison_json):
            if (test["a"], test["b"]) == (a, b):
                table.add_row(*_test(comparison_json, test))
        console.print(table)
    _seeds(console, comparison_json)
    _missing(console, comparison_json["not_measured"], names_of(comparison_json), why=why)
    _notes(console, comparison_json["notes"])
    outcome = headline(comparison_json)
    for sentence in (outcome.verdict, *outcome.sentences):
        console.print(_line(sentence), soft_wrap=True)


def _test(comparison: Mapping[str, Any], test: Mapping[str, Any]) -> list[Text]:
    figures, factor = test["comparison"], scale(comparison, test["metric"])
    values = " against ".join(number(figures[side] * factor) for side in ("value_a", "value_b"))
    difference = number(figures["difference"] * factor, sign=True)
    colour = {"better": "green", "worse": "red", "open": ""}[tone(test)]
    least = figures["minimal_detectable"]
    return [
        Text(f"{metric_label(test['metric'])}\n  {values}"),
        Text(f"{difference}\n{bounds(figures, factor, sign=True)}"),
        Text(p_text(test["p_holm"]).removeprefix("p ").removeprefix("= ")),
        Text(f"{number(figures['cohen_dz']['value'], 2, sign=True)}\n{effect_bounds(figures['cohen_dz'])}"),
        Text(verdict_of_pair(test), style=colour)
        + Text("" if not least else f"\ndetectable: ±{number(least * factor)}", style="dim"),
    ]


def _seeds(console: Console, comparison: Mapping[str, Any]) -> None:
    if not comparison["seeds"]:
        return
    for shown_systems in _column_blocks(console, list(comparison["seeds"]), 14):
        table = _table("mean ± standard deviation over seeds, 0 to 100", ["metric", *map(arm_label, shown_systems)])
        for metric in comparison["metrics"]:
            factor, cells = scale(comparison, metric), []
            for name in shown_systems:
                figures = comparison["seeds"][name].get(metric)
                if figures is None or figures["mean"] is None:
                    cells.append("–")
                else:
                    cells.append(f"{number(figures['mean'] * factor)} ± {number(figures['sd'] * factor)}")
            table.add_row(*map(_line, [metric_label(metric), *cells]))
        console.print(table)


def _column_blocks(console: Console, names: list[str], width: int) -> list[list[str]]:
    """The systems in parts that fit side by side, a column of so many characters each."""
    fit = max(1, (console.width - 20) // width)
    return [names[start : start + fit] for start in range(0, len(names), fit)]


def tasks(results: TaskResults) -> None:
    """Figures of lm-eval tasks with their standard errors."""
    console = _console()
    table = _table(
        f"lm-eval {results.version}, each metric on its own scale",
        ["task", "metric", "value", "standard error"],
        left_aligned=(0, 1),
    )
    for task, figures in results.tasks.items():
        for metric, value in figures.items():
            error = value.standard_error
            table.add_row(*map(_line, [task, metric, f"{value.value:.4f}", "–" if error is None else f"{error:.4f}"]))
    console.print(table)
