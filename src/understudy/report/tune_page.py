"""The page of a search: what came out, every trial, what each setting did.

Development scores of the best of many trials are too good, for the best was chosen by them; the page says so wherever
it shows one, and the test split speaks once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from understudy.report.formatting import metric_label, number
from understudy.report.headline import headline
from understudy.report.labels import label_of
from understudy.report.page import write_page
from understudy.report.svg import INK, NARROW, log_scale, style, svg
from understudy.report.verdicts import ComparisonJson

FEW_TRIALS = 20
"""Below this many complete trials shares of importance are mostly chance."""
SHOWN = 30


@dataclass(frozen=True)
class TrialLine:
    """One trial.

    Attributes:
        number: of the trial.
        state: `complete`, `stopped early`, `refused` or `unfinished`.
        score: its development score, 0 to 1; of one stopped early, the last.
        settings: field → value.
        scores: its development scores in the order of its evaluations.
        why: of a refused one, the reason.
    """

    number: int
    state: str
    score: float | None
    settings: Mapping[str, Any]
    scores: Sequence[float] = ()
    why: str = ""


@dataclass(frozen=True)
class TuneInputs:
    """All that the page of a search says, as plain values.

    Attributes:
        title: name of the recipe.
        space: (field, what it may be, the methods that have it) of each axis.
        trials: all of them.
        best: number of the best; None where none is complete.
        importance: field → share of it, and how many trials it was worked out from.
        final: `Comparison.to_dict()` of the tuned recipe and the one before, where the test split was looked at.
        seeds: of these two.
        evaluations: how often a trial answered the development rows.
        metric: of the development scores.
    """

    title: str
    space: Sequence[tuple[str, str, str]]
    trials: Sequence[TrialLine]
    best: int | None
    importance: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    final: ComparisonJson | None = None
    seeds: Sequence[int] = ()
    evaluations: int = 0
    metric: str = "rougeL"


def render_tune(inputs: TuneInputs, path: str | os.PathLike[str]) -> None:
    """Write the page, whole or not at all; the same input gives the same bytes.

    Raises:
        RunError: the file cannot be written.
    """
    write_page("tune.html.jinja", view(inputs), path)


def view(inputs: TuneInputs) -> dict[str, Any]:
    """All that the template prints, in the order in which it stands on the page."""
    best = next((trial for trial in inputs.trials if trial.number == inputs.best), None)
    ranked = sorted(inputs.trials, key=lambda t: (t.state != "complete", -(t.score if t.score is not None else -1)))
    return {
        "title": inputs.title,
        "counts": counts(inputs),
        "tone": headline(inputs.final).tone if inputs.final else "open",
        "verdict": _verdict(inputs, best),
        "sentences": headline(inputs.final).sentences if inputs.final else (),
        "best": None if best is None else {"score": _points(best.score), "settings": _settings(best)},
        "history": _markup(history_plot(inputs.trials)),
        "panels": [Markup(plot) for plot in _panels(inputs)],
        "importance": [
            {"field": name, "share": f"{share:.0%}", "width": f"{100 * share:.1f}", "trials": trials}
            for name, (share, trials) in sorted(inputs.importance.items(), key=lambda item: -item[1][0])
        ],
        "few": _few(inputs),
        "rows": [_row(trial) for trial in ranked[:SHOWN]],
        "hidden": max(0, len(ranked) - SHOWN),
        "space": inputs.space,
        "seeds": list(inputs.seeds),
        "metric": metric_label(inputs.metric),
        "evaluations": inputs.evaluations,
    }


def counts(inputs: TuneInputs) -> str:
    """How the trials ended, in a few words."""
    states = [trial.state for trial in inputs.trials]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def _verdict(inputs: TuneInputs, best: TrialLine | None) -> str:
    if inputs.final:
        return headline(inputs.final).verdict
    if best is None:
        return "No trial is complete yet."
    return f"Best development score {_points(best.score)}, in trial {best.number}; the test split was not looked at."


def _few(inputs: TuneInputs) -> str:
    complete = sum(trial.state == "complete" for trial in inputs.trials)
    return f"{complete} complete trials are few: these shares are mostly chance." if complete < FEW_TRIALS else ""


def _row(trial: TrialLine) -> dict[str, Any]:
    return {
        "number": trial.number,
        "state": trial.state,
        "score": _points(trial.score),
        "settings": _settings(trial),
        "why": trial.why,
    }


def _settings(trial: TrialLine) -> list[tuple[str, str]]:
    return [(name, value_text(value)) for name, value in trial.settings.items()]


def value_text(value: Any) -> str:
    """A setting to be read."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _points(score: float | None) -> str:
    return number(None if score is None else 100 * score)


def _markup(plot: str | None) -> Markup | None:
    return None if plot is None else Markup(plot)


# -- plots -----------------------------------------------------------------------------------------------------------


def history_plot(trials: Sequence[TrialLine]) -> str | None:
    """Score of each complete trial in their order, and the best so far; None with fewer than two."""
    complete = [trial for trial in trials if trial.state == "complete" and trial.score is not None]
    if len(complete) < 2:
        return None
    numbers, scores = [trial.number for trial in complete], [100 * (trial.score or 0) for trial in complete]
    so_far = [max(scores[: place + 1]) for place in range(len(scores))]
    with style("tune-history"):
        figure = Figure(figsize=(NARROW, 2.4), layout="constrained")
        axes = figure.subplots()
        axes.plot(numbers, scores, "o", color=label_of("distilled").colour, markersize=4, alpha=0.8)
        axes.step(numbers, so_far, where="post", color=INK, linewidth=1)
        axes.set_xlabel("trial")
        axes.set_ylabel("development score")
        return svg(figure, "Development score of each complete trial, and the best so far")


def _panels(inputs: TuneInputs) -> list[str]:
    plots = (setting_plot(inputs.trials, name) for name, *_ in inputs.space)
    return [plot for plot in plots if plot is not None]


def setting_plot(trials: Sequence[TrialLine], name: str) -> str | None:
    """Score of complete trials against one setting; None where fewer than two values were tried."""
    points = [
        (t.settings[name], 100 * t.score)
        for t in trials
        if t.state == "complete" and t.score is not None and name in t.settings
    ]
    values = {value for value, _ in points}
    if len(values) < 2:
        return None
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    labels = sorted(values, key=None if numeric else str)
    with style(f"tune-{name}"):
        figure = Figure(figsize=(NARROW, 2.2 if numeric else 0.8 + 0.3 * len(labels)), layout="constrained")
        axes = figure.subplots()
        colour = label_of("distilled").colour
        if numeric:
            axes.plot(*zip(*points, strict=True), "o", color=colour, markersize=4, alpha=0.8)
            if min(values) > 0 and max(values) / min(values) >= 10:
                log_scale(axes)
            axes.set_xlabel(name)
            axes.set_ylabel("development score")
        else:
            places = [labels.index(value) for value, _ in points]
            axes.plot([score for _, score in points], places, "o", color=colour, markersize=4, alpha=0.8)
            axes.set_yticks(range(len(labels)), [str(label) for label in labels], fontsize=9)
            axes.set_ylim(-0.6, len(labels) - 0.4)
            axes.set_xlabel("development score")
            axes.set_title(name)
        return svg(figure, f"Development score against {name}")
