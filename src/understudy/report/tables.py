"""A comparison as tables for other programs: CSV with every figure, LaTeX (booktabs) for a paper."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.report.formatting import metric_label, number, scale
from understudy.report.verdicts import ComparisonJson, all_tests, contrasts_of, items_needed, verdict

_FIGURES = (
    *("value_a", "value_b", "difference", "low", "high", "maximum", "p_bootstrap", "p_randomisation", "p_wilcoxon"),
    *("minimal_detectable", "items_needed", "n", "missing", "groups"),
)
CSV_COLUMNS = (
    *("a", "b", "metric", *_FIGURES, "p_mcnemar", "p_value", "p_holm", "p_bh", "items_needed_holm", "better"),
    *("cohen_dz", "cohen_dz_low", "cohen_dz_high", "rank_biserial", "verdict", "signature"),
)


def csv_table(comparison: ComparisonJson) -> str:
    """One line a pair and metric, figures on the metric's own scale; what is not known is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for test in all_tests(comparison):
        figures = test["comparison"]
        writer.writerow(
            {
                **{name: csv_cell(test[name]) for name in ("a", "b", "metric", "better")},
                **{name: test[name] for name in ("p_value", "p_holm", "p_bh")},
                **{name: figures[name] for name in _FIGURES},
                "items_needed_holm": items_needed(test),
                "p_mcnemar": (figures["mcnemar"] or {}).get("p_exact"),
                "cohen_dz": figures["cohen_dz"]["value"],
                "cohen_dz_low": figures["cohen_dz"]["low"],
                "cohen_dz_high": figures["cohen_dz"]["high"],
                "rank_biserial": figures["rank_biserial"]["value"],
                "verdict": csv_cell(verdict(test)),
                "signature": csv_cell(" / ".join(figures["signatures"])),
            }
        )
    return buffer.getvalue()


def csv_cell(text: str) -> str:
    """Text that no spreadsheet takes for a formula: a name may come out of a file that somebody else wrote."""
    return f"'{text}" if text[:1] in "=+-@\t\r" and text else text


_LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "[": "{[}",  # at the head of a row it would be an option of the line break before it
    "]": "{]}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "\N{MINUS SIGN}": "$-$",
    "–": "--",
}


def latex(text: str) -> str:
    """Text that LaTeX prints as it is; characters that cannot be printed are left out."""
    printable = "".join(character for character in " ".join(text.split()) if character.isprintable())
    return "".join(_LATEX.get(character, character) for character in printable)


def latex_table(comparison: ComparisonJson) -> str:
    """Two `booktabs` tables: every score with its interval, and every difference with what it shows."""
    settings = comparison["comparison"]["settings"]
    level = f"{settings['confidence']:.0%}"
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs} and \usepackage{textcomp}.",
            *_scores(comparison, level),
            "",
            *_differences(comparison, level),
            "",
        ]
    )


def _scores(comparison: ComparisonJson, level: str) -> list[str]:
    names = list(comparison["overall"]["table"])
    items = f"{comparison['overall']['items']:,} items"
    caption = f"Scores on {items}, 0 to 100, with {level} bootstrap intervals; the best in bold."
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(caption)}}}",
        rf"\begin{{tabular}}{{l{'r' * len(names)}}}",
        r"\toprule",
        " & ".join(["Metric", *map(latex, names)]) + r" \\",
        r"\midrule",
    ]
    for metric in comparison["metrics"]:
        factor = scale(comparison, metric)
        row = [comparison["overall"]["table"][name].get(metric) for name in names]
        best = _best(comparison, metric, row)
        lines.append(" & ".join([latex(metric_label(metric)), *(_cell(f, factor, best) for f in row)]) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]


def _best(comparison: ComparisonJson, metric: str, row: Sequence[Mapping[str, Any] | None]) -> float | None:
    values = [figures["value"] for figures in row if figures and figures["value"] is not None]
    if not values:
        return None
    return max(values) if comparison["metrics"][metric]["higher_is_better"] else min(values)


def _cell(figures: Mapping[str, Any] | None, factor: float, best: float | None) -> str:
    if figures is None or figures["value"] is None:
        return "--"
    value = latex(number(figures["value"] * factor))
    value = rf"\textbf{{{value}}}" if figures["value"] == best else value
    if figures["low"] is None:
        return value
    low, high = (latex(number(figures[end] * factor)) for end in ("low", "high"))
    return rf"{value} {{\scriptsize [{low}, {high}]}}"


def _differences(comparison: ComparisonJson, level: str) -> list[str]:
    family = comparison["comparison"]
    caption = (
        f"Paired differences in points with {level} intervals; p by Holm over {family['family_size']:,} tests "
        f"({family['family_test']}, {family['settings']['resamples']:,} resamples); d is Cohen's d_z."
    )
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(caption)}}}",
        r"\begin{tabular}{llrrrrl}",
        r"\toprule",
        r"Systems & Metric & Difference & Interval & $p$ & $d$ & \\",
    ]
    for a, b in contrasts_of(comparison):
        lines.append(r"\midrule")
        tests = [test for test in all_tests(comparison) if (test["a"], test["b"]) == (a, b)]
        for position, test in enumerate(tests):
            lines.append(_difference(comparison, test, rf"{latex(a)} $-$ {latex(b)}" if position == 0 else ""))
    return [*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]


def _difference(comparison: ComparisonJson, test: Mapping[str, Any], pair: str) -> str:
    figures, factor = test["comparison"], scale(comparison, test["metric"])
    bounds = "--"
    if figures["low"] is not None:
        bounds = f"[{number(figures['low'] * factor, sign=True)}, {number(figures['high'] * factor, sign=True)}]"
    p = "–" if test["p_holm"] is None else "<0.001" if test["p_holm"] < 0.001 else f"{test['p_holm']:.3f}"
    cells = [
        latex(metric_label(test["metric"])),
        latex(number(figures["difference"] * factor, sign=True)),
        latex(bounds),
        latex(p),
        latex(number(figures["cohen_dz"]["value"], 2, sign=True)),
        latex(verdict(test)),
    ]
    return " & ".join([pair, *cells]) + r" \\"
