"""`StudyAnalysis` -> one self-contained HTML page; the template only lays out, and text is escaped."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy.metrics.significance.agreement import RaterAgreement
from understudy.metrics.significance.rank_tests import DunnPair
from understudy.report.formatting import number, p_text
from understudy.report.page import write_page
from understudy.study import plots, sentences
from understudy.study.findings import Findings, JudgeFindings, PairFinding, PreferenceFindings, StudyAnalysis
from understudy.study.ratings import FORESIGHT
from understudy.study.sentences import bounds, outcome_label

_MOST_ROWS = 40


def render_study(analysis: StudyAnalysis, path: str | os.PathLike[str]) -> None:
    """Write the report of a study, whole or not at all; the same input gives the same bytes.

    Raises:
        RunError: the file cannot be written.
    """
    write_page("study.html.jinja", view(analysis), path)


def view(analysis: StudyAnalysis) -> dict[str, Any]:
    """All that the template prints."""
    heading, texts, tone = sentences.verdict(analysis)
    return {
        "title": analysis.title,
        "simulated": sentences.SIMULATED if analysis.simulated else "",
        "headline": {"verdict": heading, "sentences": texts, "tone": tone},
        "confidence": f"{100 * analysis.settings.confidence:g}%",
        "alpha": f"{100 * analysis.settings.alpha:g}%",
        **_tiles(analysis),
        "statements": {outcome_label(name): text for name, text in analysis.constructs.items()},
        "ratings": None if analysis.main is None else _ratings(analysis, analysis.main),
        "preferences": None if analysis.preferences is None else _preferences(analysis.preferences),
        "foresight": None if analysis.foresight is None else _foresight(analysis, analysis.foresight),
        "accuracies": _accuracies(analysis),
        "accuracy_note": _accuracy_note(analysis),
        "judge": None if analysis.judge is None else _judge(analysis.judge),
        "attention": _attention(analysis),
        "limits": sentences.limits(analysis),
        "methods": sentences.methods_text(analysis),
        "plots": {name: Markup(plot) if plot else "" for name, plot in _plots(analysis).items()},
    }


def _plots(analysis: StudyAnalysis) -> dict[str, str | None]:
    found, methods = analysis.main, analysis.methods
    drawn: dict[str, str | None] = dict.fromkeys(("means", "shares", "forest", "accuracy", "strengths"))
    if analysis.preferences is not None:
        drawn["strengths"] = plots.strengths_plot(analysis.preferences, methods)
    if found is None:
        return drawn
    shown = tuple(method for method in methods if any(row.method == method for row in found.means))
    outcomes = {row.name: outcome_label(row.name) for row in found.outcomes}
    outcome = sentences.main_outcome(found)
    drawn["means"] = plots.means_plot(found, outcomes, shown)
    drawn["shares"] = plots.shares_plot(found, outcomes, shown)
    drawn["forest"] = plots.forest_plot(found, outcomes, shown)
    drawn["accuracy"] = plots.accuracy_plot(found, outcome, outcome_label(outcome), analysis.accuracies, shown)
    return drawn


def _tiles(analysis: StudyAnalysis) -> dict[str, Any]:
    found = analysis.main
    if found is None:
        return {"tiles": [], "tile_note": ""}
    outcome, labels = sentences.main_outcome(found), plots.look(analysis.methods)
    tiles = [
        {
            "label": labels[row.method].label,
            "colour": labels[row.method].colour,
            "value": number(row.mean.value, 2),
            "note": bounds(row.mean),
        }
        for method in analysis.methods
        for row in found.means
        if (row.method, row.outcome) == (method, outcome)
    ]
    people = "simulated raters" if analysis.simulated else "raters"
    of = f"{found.explanations:,} rated explanations by {found.raters} {people}"
    note = f"Mean {outcome_label(outcome).lower()} of {of}."
    return {"tiles": tiles, "tile_note": note}


# Ratings --------------------------------------------------------------------------------------------------------------


def _ratings(analysis: StudyAnalysis, found: Findings) -> dict[str, Any]:
    pairs = list(dict.fromkeys((pair.a, pair.b) for pair in found.pairs))
    return {
        "outcomes": [outcome_label(row.name) for row in found.outcomes],
        "means": _means(analysis, found),
        "length": bool(found.lengths) and any(pair.length_free for pair in found.pairs),
        "hidden_pairs": max(0, len(pairs) - plots.MOST_PAIRS),
        "pairs": [
            {"a": a, "b": b, "rows": [_pair(pair) for pair in found.pairs if (pair.a, pair.b) == (a, b)]}
            for a, b in pairs
        ],
        "any": [
            {"label": outcome_label(row.name), "p": _p(row.any_method), "ranks": _p(row.any_method_ranks)}
            for row in found.outcomes
        ],
        "agreement": _agreement(found),
        "cronbach": "" if found.cronbach != found.cronbach else number(found.cronbach, 2),
        "published": [
            {
                "label": outcome_label(row.name),
                "h": number(row.kruskal.statistic, 1),
                "p": _p(row.kruskal.p_value),
                "epsilon": number(row.kruskal.epsilon_squared, 3),
                "bonferroni": _dunn(row.dunn, analysis.settings.alpha),
                "holm": _dunn(row.dunn_holm, analysis.settings.alpha),
            }
            for row in found.outcomes
        ],
    }


def _means(analysis: StudyAnalysis, found: Findings) -> list[dict[str, Any]]:
    labels, rows = plots.look(analysis.methods), []
    for method in analysis.methods:
        means = [row for row in found.means if row.method == method]
        cells = [
            {
                "value": number(row.mean.value, 2),
                "bounds": bounds(row.mean),
                "weighted": number(row.weighted.value, 2) if row.weighted else "",
            }
            for row in means
        ]
        if cells:
            rows.append({"label": labels[method].label, "colour": labels[method].colour, "cells": cells})
    return rows


def _pair(pair: PairFinding) -> dict[str, str]:
    return {
        "label": outcome_label(pair.outcome),
        "difference": number(pair.model.value if pair.model else pair.difference, 2, sign=True),
        "bounds": bounds(pair.model, sign=True) if pair.model else "no interval",
        "tone": "better" if pair.better == pair.a else "worse" if pair.better else "open",
        "length_free": number(pair.length_free.value, 2, sign=True) if pair.length_free else number(None),
        "length_bounds": bounds(pair.length_free, sign=True) if pair.length_free else "",
        "p": _p(pair.p_value),
        "holm": _p(pair.holm),
        "holm_ranks": _p(pair.holm_ranks),
        "a12": number(pair.effect.value, 2),
        "a12_bounds": f"{number(pair.effect.low, 2)} to {number(pair.effect.high, 2)}",
    }


def _p(value: float) -> str:
    """A p-value without its letter."""
    return p_text(value).removeprefix("p ").removeprefix("= ").replace(" ", "\N{NO-BREAK SPACE}")


def _dunn(pairs: Sequence[DunnPair], alpha: float) -> str:
    """Pairs that differ, with their p; a word where none does."""
    found = [f"{pair.a}, {pair.b}: {_p(pair.adjusted)}" for pair in pairs if pair.adjusted <= alpha]
    return "; ".join(found) or "none"


def _agreement(found: Findings) -> list[dict[str, Any]]:
    rows = []
    for row in found.outcomes:
        cells = [_coefficient(part) for part in (row.alpha, row.text_icc, row.rater_icc)]
        if found.lengths:
            fit = row.length
            cells.append(
                {"value": number(fit.value, 2, sign=True), "bounds": bounds(fit, sign=True)}
                if fit
                else {"value": number(None), "bounds": ""}
            )
        rows.append({"label": outcome_label(row.name), "cells": cells})
    return rows


def _coefficient(figure: RaterAgreement) -> dict[str, str]:
    if figure.value != figure.value:
        return {"value": number(None), "bounds": "nothing rated twice"}
    interval = "no interval" if figure.low != figure.low else f"{number(figure.low, 2)} to {number(figure.high, 2)}"
    return {"value": number(figure.value, 2), "bounds": interval}


# Preferences, foresight, accuracy, judge ------------------------------------------------------------------------------


def _preferences(found: PreferenceFindings) -> list[dict[str, str]]:
    return [
        {
            "label": f"{pair.a} against {pair.b}",
            "chosen": f"{number(pair.chosen, 0)} of {pair.shown}",
            "share": f"{number(100 * pair.share.value, 0)}%",
            "bounds": f"{number(100 * pair.share.low, 0)} to {number(100 * pair.share.high, 0)}%",
            "tone": "better" if pair.better == pair.a else "worse" if pair.better else "open",
            "p": _p(pair.p_value),
            "holm": _p(pair.holm),
        }
        for pair in found.pairs
    ]


def _foresight(analysis: StudyAnalysis, found: Findings) -> dict[str, Any]:
    labels = plots.look(analysis.methods)
    means = [
        {
            "label": labels[row.method].label,
            "colour": labels[row.method].colour,
            "value": f"{number(100 * row.mean.value, 0)}%",
            "bounds": f"{number(100 * row.mean.low, 0)} to {number(100 * row.mean.high, 0)}%",
            "n": f"{row.mean.n:,}",
        }
        for row in found.means
        if row.outcome == FORESIGHT
    ]
    pairs = [
        {
            "label": f"{pair.a} − {pair.b}",
            "difference": number(100 * pair.difference, 0, sign=True),
            "bounds": ""
            if pair.model is None
            else f"{number(100 * pair.model.low, 0, sign=True)} to {number(100 * pair.model.high, 0, sign=True)}",
            "tone": "better" if pair.better == pair.a else "worse" if pair.better else "open",
            "p": _p(pair.p_value),
            "holm": _p(pair.holm),
        }
        for pair in found.pairs
    ]
    return {"means": means, "pairs": pairs}


def _accuracies(analysis: StudyAnalysis) -> list[dict[str, str]]:
    labels = plots.look(analysis.methods)
    return [
        {
            "label": labels[row.method].label,
            "colour": labels[row.method].colour,
            "value": number(100 * row.accuracy.value),
            "bounds": f"{number(100 * row.accuracy.low)} to {number(100 * row.accuracy.high)}",
            "n": f"{row.accuracy.n:,}",
        }
        for row in analysis.accuracies
    ]


def _accuracy_note(analysis: StudyAnalysis) -> str:
    whole = all(row.source == "run" for row in analysis.accuracies)
    where = "all items of each method's run or file" if whole else "the study's items, by their sampling weights"
    return f"Accuracy is that on {where}; ratings are those of the explanations shown."


def _judge(found: JudgeFindings) -> dict[str, Any]:
    rows = [
        {
            "label": outcome_label(row.construct),
            "texts": f"{row.texts:,}",
            "spearman": number(row.spearman, 2),
            "bounds": "" if row.low is None or row.high is None else f"{number(row.low, 2)} to {number(row.high, 2)}",
            "alpha": _coefficient(row.alpha)["value"],
            "alpha_bounds": _coefficient(row.alpha)["bounds"],
            "people": _coefficient(row.people_alpha)["value"],
            "people_bounds": _coefficient(row.people_alpha)["bounds"],
            "bias": number(row.bias, 2, sign=True),
            "methods": ", ".join(f"{name} {number(value, 2, sign=True)}" for name, value in row.method_bias.items()),
        }
        for row in found.constructs
    ]
    missing = max((row.missing for row in found.constructs), default=0)
    text = f"{found.judge} rated the same explanations from the same statements, without a method's name."
    if missing:
        text += f" {missing} explanations have no verdict and are left out."
    return {"text": text, "rows": rows, "signature": found.signature}


# Raters ---------------------------------------------------------------------------------------------------------------


def _attention(analysis: StudyAnalysis) -> dict[str, Any]:
    attention = analysis.attention
    text = f"{attention.raters} took part, {len(attention.left_out)} of them"
    text += " are left out" if attention.stated else " would be left out"
    if attention.by_reason:
        text += f" ({', '.join(f'{count} {reason}' for reason, count in attention.by_reason.items())})"
    text += f". {attention.constant} gave one value in 80% of their ratings or more."
    text += " Left out is, by the rules that the study states:" if attention.stated else " The default rules leave out:"
    return {
        "text": text,
        "rules": attention.rules,
        "left_out": attention.left_out,
        "main": "Attentive" if attention.stated else "Everybody",
        "other": "Everybody" if attention.stated else "Attentive",
        **_both_ways(analysis),
    }


def _both_ways(analysis: StudyAnalysis) -> dict[str, Any]:
    if analysis.main is None or analysis.other is None:
        return {"rows": [], "note": ""}
    outcome = sentences.main_outcome(analysis.main)
    both = list(zip(analysis.main.pairs, analysis.other.pairs, strict=True))
    shown = [(one, other) for one, other in both if one.outcome == outcome or one.better != other.better]
    rows = [
        {
            "label": outcome_label(one.outcome),
            "pair": f"{one.a} − {one.b}",
            "cells": [_short_pair(one), _short_pair(other)],
        }
        for one, other in shown[:_MOST_ROWS]
    ]
    note = (
        f"{outcome_label(outcome)}, and every other outcome and pair of which the verdict depends on it; corrected p."
    )
    return {"rows": rows, "note": note}


def _short_pair(pair: PairFinding) -> Mapping[str, str]:
    row = _pair(pair)
    return {"difference": row["difference"], "p": p_text(pair.holm), "tone": row["tone"]}
