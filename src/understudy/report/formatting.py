"""Names and numbers in print: metrics, kinds of question, points of 0 to 100, p-values, counts, lists of names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from understudy.report.labels import LABELS, label_of

METRICS = {
    "exact_match": "Exact match",
    "token_f1": "Token F1",
    "bleu": "BLEU",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
    "meteor": "METEOR",
    "chrf": "chrF",
    "bertscore_f1": "BERTScore F1",
    "answer_similarity": "Answer similarity",
    "faithfulness": "Faithfulness",
    "answer_relevance": "Answer relevance",
    "context_relevance": "Context relevance",
    "factual_correctness": "Factual correctness",
    "answer_correctness": "Answer correctness",
    "wer": "Word error rate",
    "cer": "Character error rate",
    "choice_accuracy": "Choice accuracy",
    "bundle_precision": "Bundle precision",
    "bundle_recall": "Bundle recall",
    "bundle_f1": "Bundle F1",
    "bundle_coverage": "Bundle coverage",
    "bundle_exact": "Exact bundles F1",
    "bundle_intent_f1": "Intent token F1",
    "bundle_intent_similarity": "Intent similarity",
    "bundle_precision_published": "Bundle precision (published conventions)",
    "bundle_recall_published": "Bundle recall (published conventions)",
    "bundle_coverage_published": "Bundle coverage (published conventions)",
}
_MINUS, _DASH = "\N{MINUS SIGN}", "–"


# Names ----------------------------------------------------------------------------------------------------------------


def arm_label(name: str) -> str:
    """A system's name in print: an arm has its label, any other goes by its name."""
    return label_of(name).label


def metric_label(metric: str) -> str:
    """A metric's name in print."""
    return METRICS.get(metric, metric)


def kind_label(kind: str) -> str:
    """A kind of question in print."""
    return kind.replace("_", " ")


def in_a_sentence(label: str) -> str:
    """A label inside a sentence: abbreviations keep their capitals."""
    return label if label == "chrF" or label[:2].isupper() else label[:1].lower() + label[1:]


def ordered(names: Sequence[str]) -> list[str]:
    """Arms from the teacher down to the baselines; other systems last."""
    arms = [arm for arm in LABELS if arm in names]
    return arms + [name for name in names if name not in LABELS]


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names in a sentence: a, b and c."""
    names = [arm_label(name) for name in names]
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


# Numbers --------------------------------------------------------------------------------------------------------------


def number(value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """A number in print; a dash where it is not known."""
    if value is None or not isfinite(value):
        return _DASH
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", _MINUS)


def scale(comparison: Mapping[str, Any], metric: str) -> float:
    """What turns a metric's own scale into 0 to 100."""
    return 100.0 / comparison["metrics"][metric]["maximum"]


def bounds(figures: Mapping[str, Any], factor: float, digits: int = 1, *, sign: bool = False) -> str:
    """The interval of a figure in points; in words where there is none."""
    if figures["low"] is None:
        return "no interval"
    low, high = (number(figures[end] * factor, digits, sign=sign) for end in ("low", "high"))
    return f"{low} to {high}"


def percent(share: float | None) -> str:
    """A share in whole percent; a dash, and no sign behind it, where it is not known."""
    return _DASH if share is None or not isfinite(share) else f"{number(100 * share, 0)}%"


def percent_bounds(gap: Mapping[str, Any]) -> str:
    """The interval of a share in percent; empty where it is not known."""
    low, high = (percent(gap[end]) for end in ("low", "high"))
    return "" if _DASH in (low, high) else f"{low} to {high}"


def spread(difference: Mapping[str, Any], factor: float) -> str:
    """A difference with its interval, in points."""
    return f"{number(difference['difference'] * factor, sign=True)} ({bounds(difference, factor, sign=True)})"


def effect_bounds(effect: Mapping[str, Any]) -> str:
    """The interval of an effect size in print; empty where it is not known."""
    return "" if effect["low"] is None or effect["high"] is None else bounds(effect, 1, 2, sign=True)


def p_text(value: float | None) -> str:
    """A p-value in print; a dash where it is not known."""
    if value is None or value != value:
        return f"p {_DASH}"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def items_text(count: int) -> str:
    """A number of items in print."""
    return f"{count:,} item" + ("" if count == 1 else "s")


def rounded_up(value: float) -> int:
    """A count to two figures, never below it: 1,834 becomes 1,900."""
    ceiling = int(-(-value // 1))
    unit = 10 ** max(0, len(str(ceiling)) - 2)
    return -(-ceiling // unit) * unit


def compact(value: float | None) -> str:
    """A large number with its unit prefix: 1.5 M."""
    if value is None:
        return _DASH
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"
