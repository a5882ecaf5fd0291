"""Figures in words: labels, numbers in print, the headline, and what the figures do not show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from understudy.arms import main_arm
from understudy.report.inputs import ReportInputs
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
    "choice_accuracy": "Choice accuracy",
}
GOLD_FACTS = {"in_gold": "Facts in the gold", "not_in_gold": "Facts not in the gold"}
_MINUS, _DASH = "\N{MINUS SIGN}", "–"
_FEW_ITEMS = 200


def arm_label(arm: str) -> str:
    """An arm's name in print."""
    return label_of(arm).label


def metric_label(metric: str) -> str:
    """A metric's name in print."""
    return METRICS.get(metric, metric)


def kind_label(kind: str) -> str:
    """A kind of question in print."""
    return kind.replace("_", " ")


def in_a_sentence(label: str) -> str:
    """A label inside a sentence: abbreviations keep their capitals."""
    return label if label == "chrF" or label[:2].isupper() else label[:1].lower() + label[1:]


def ordered(arms: list[str]) -> list[str]:
    """Arms from the teacher down to the baselines; unknown ones last."""
    known = [arm for arm in LABELS if arm in arms]
    return known + [arm for arm in arms if arm not in LABELS]


def number(value: float | None, digits: int = 1, *, sign: bool = False) -> str:
    """A number in print; a dash where it is not known."""
    if value is None or value != value:
        return _DASH
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", _MINUS)


def items_text(count: int) -> str:
    """A number of items in print."""
    return f"{count:,} item" + ("" if count == 1 else "s")


def p_text(value: float | None) -> str:
    """A p-value in print."""
    if value is None:
        return f"p {_DASH}"
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}" if value < 0.1 else f"p = {value:.2f}"


def compact(value: float | None) -> str:
    """A large number with its unit prefix: 1.5 M."""
    if value is None:
        return _DASH
    for size, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {prefix}"
    return f"{value:.3g}"


def scale(comparison: Mapping[str, Any], metric: str) -> float:
    """What turns a metric's own scale into 0 to 100."""
    return 100.0 / comparison["metrics"][metric]["maximum"]


def primary_metric(comparison: Mapping[str, Any]) -> str | None:
    """The metric of the headline: exact match where anyone matches exactly, else ROUGE-L, else the first there is."""
    table = comparison["overall"]["table"]

    def best(metric: str) -> float:
        return max((row[metric]["value"] or 0.0 for row in table.values() if metric in row), default=-1.0)

    if best("exact_match") >= 0.1:
        return "exact_match"
    return next((m for m in ("rougeL", "choice_accuracy", *comparison["metrics"]) if best(m) >= 0), None)


def difference(part: Mapping[str, Any], a: str, b: str, metric: str) -> Mapping[str, Any] | None:
    """The difference a − b on a metric in one slice, if it was measured."""
    return next((d for d in part["differences"] if (d["a"], d["b"], d["metric"]) == (a, b, metric)), None)


def tone(found: Mapping[str, Any]) -> str:
    """`better` or `worse` where the interval excludes 0, else `open`."""
    if found["low"] is None:
        return "open"
    return "better" if found["low"] > 0 else "worse" if found["high"] < 0 else "open"


@dataclass(frozen=True)
class Headline:
    """The answer in words: `tone` is better, worse or open; `verdict` one line; `sentences` the figures behind it."""

    tone: str
    verdict: str
    sentences: tuple[str, ...]


def headline(inputs: ReportInputs) -> Headline:
    """Is the student better than SFT-only, by how much, how sure, and where the gain comes from."""
    comparison = inputs.comparison
    metric = primary_metric(comparison)
    arm = main_arm(comparison["arms"])
    found = difference(comparison["overall"], arm, "sft", metric) if metric else None
    if metric is None or found is None:
        return Headline("open", "No verdict: a distilled and an SFT-only student are needed to compare.", ())
    student = label_of(arm).student
    factor, name = scale(comparison, metric), in_a_sentence(metric_label(metric))
    verdict = {
        "better": f"Yes: {label_of(arm).lesson} beats fine-tuning on the gold answers alone.",
        "worse": f"No: the {student} is worse than one fine-tuned on the gold answers alone.",
        "open": f"Not shown: the {student} and the SFT-only student cannot be told apart here.",
    }[tone(found)]
    sentences = [
        f"On {found['n']:,} held-out items ({found['groups']:,} independent groups) the {student} reaches "
        f"{number(found['mean_a'] * factor)} in {name}, the SFT-only student {number(found['mean_b'] * factor)}: "
        f"a difference of {_interval(found, factor)} points, {p_text(found['p_value'])}."
    ]
    sentences.append(_gap_sentence(comparison["overall"]["gaps"].get(metric)))
    sentences.extend(_rival_sentence(comparison, rival, metric) for rival in ("seqkd", "kd_gold"))
    sentences.append(_gold_sentence(comparison, metric))
    sentences.append(_size_sentence(inputs))
    return Headline(tone(found), verdict, tuple(text for text in sentences if text))


def _interval(found: Mapping[str, Any], factor: float) -> str:
    value = number(found["difference"] * factor, sign=True)
    if found["low"] is None:
        return f"{value} (too few items for an interval)"
    return f"{value} ({number(found['low'] * factor, sign=True)} to {number(found['high'] * factor, sign=True)})"


def _gap_sentence(gap: Mapping[str, Any] | None) -> str:
    if gap is None:
        return ""
    if gap["value"] is None:
        return f"Gap recovered: {gap['reason']}."
    bounds = "" if gap["low"] is None else f" ({number(100 * gap['low'], 0)} to {number(100 * gap['high'], 0)}%)"
    return f"That is {number(100 * gap['value'], 0)}%{bounds} of the way from the SFT-only student to the teacher."


def _rival_sentence(comparison: Mapping[str, Any], rival: str, metric: str) -> str:
    found = difference(comparison["overall"], "distilled", rival, metric)
    if found is None:
        return ""
    about = {
        "seqkd": "Against SeqKD (the same steps on the teacher's own answers)",
        "kd_gold": "Against distillation on the gold rows only",
    }[rival]
    outcome = {"better": "better", "worse": "worse", "open": "no clear difference"}[tone(found)]
    if rival == "seqkd" and tone(found) == "open":
        outcome += ", so what helps may be the teacher's answers as such"
    return f"{about} it is {_interval(found, scale(comparison, metric))} points: {outcome}."


def _gold_sentence(comparison: Mapping[str, Any], metric: str) -> str:
    parts = {label: difference(part, "distilled", "sft", metric) for label, part in comparison["gold_facts"].items()}
    inside, outside = parts.get("in_gold"), parts.get("not_in_gold")
    if inside is None or outside is None:
        return ""
    factor = scale(comparison, metric)
    return (
        f"Where the difference lies: {_interval(inside, factor)} points on facts that the gold answers teach, "
        f"{_interval(outside, factor)} on facts outside the gold answers."
    )


def _size_sentence(inputs: ReportInputs) -> str:
    teacher, student = inputs.model_of("teacher"), inputs.model_of(main_arm(inputs.comparison["arms"]))
    parts = []
    for field, text in (
        ("parameters", "{}\N{MULTIPLICATION SIGN} fewer parameters"),
        ("bytes", "{}\N{MULTIPLICATION SIGN} smaller weights"),
    ):
        large, small = teacher.get(field), student.get(field)
        if large and small and large > small:
            parts.append(text.format(number(large / small)))
    slow, fast = teacher.get("latency_ms"), student.get("latency_ms")
    if slow and fast:
        word = "faster" if fast <= slow else "slower"
        parts.append(
            f"{number(max(slow, fast) / min(slow, fast))}\N{MULTIPLICATION SIGN} {word} to answer one question"
        )
    return f"The student against the teacher: {', '.join(parts)}." if parts else ""


def caveats(inputs: ReportInputs) -> list[str]:
    """What the figures do not show, in sentences that hold for this very run."""
    comparison = inputs.comparison
    overall, settings = comparison["overall"], comparison["settings"]
    tests, level = len(overall["differences"]), 1 - settings["confidence"]
    texts = [
        "One training run an arm: the intervals tell how far the choice of test items could move a figure. What "
        "another training seed would move is not in them; repeat the run with other seeds before you rely on a small "
        "difference.",
        f"{tests} overall differences were tested and no p-value is corrected for that; at {level:.0%} one in "
        f"{round(1 / level)} true zeros looks like an effect.",
        "The metrics compare words with references. They see neither whether a differently worded answer is right nor "
        "whether a fluent one is wrong; read the examples.",
    ]
    small = [f"{label} ({part['items']})" for label, part in slices(comparison).items() if part["items"] < _FEW_ITEMS]
    if small:
        texts.append(f"Few items, so read with care: {', '.join(small)}.")
    taught = main_arm(comparison["arms"])
    expected = ("teacher", "distilled", "seqkd", "kd_gold", "sft") if taught == "distilled" else ("teacher", "sft")
    missing = [arm_label(arm) for arm in expected if arm not in comparison["arms"]]
    if missing:
        texts.append(f"Not part of this run, so nothing is said about it: {', '.join(missing)}.")
    if inputs.models:
        texts.append(
            "Speed and memory are of this machine, this batch size and whatever ran beside; the order of the models "
            "carries over to other machines better than the numbers do."
        )
    if comparison.get("not_measured"):
        reasons = [f"{metric_label(name)} ({why})" for name, why in comparison["not_measured"].items()]
        texts.append(f"Not measured: {'; '.join(reasons)}.")
    if comparison.get("chance") is not None:
        texts.append(
            f"Guessing among the options would score {number(100 * comparison['chance'])} choice accuracy. An option's "
            "likelihood is not what the model would write if asked."
        )
    return texts


def slices(comparison: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The parts of the test set by their names in print: kinds of question, facts in the gold and not."""
    return {**kinds(comparison), **gold_facts(comparison)}


def kinds(comparison: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Kinds of question by their names in print."""
    return {kind_label(kind): part for kind, part in comparison["kinds"].items()}


def gold_facts(comparison: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Facts in the gold and not in the gold, by their names in print."""
    return {GOLD_FACTS[label]: part for label, part in comparison["gold_facts"].items()}
