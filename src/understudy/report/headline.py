"""The answer of a comparison in words – of a run's arms, of two systems, of many – for the page and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from understudy.arms import MAJORITY, main_arm
from understudy.report.constant_answer import constant_answer
from understudy.report.formatting import (
    arm_label,
    bounds,
    in_a_sentence,
    items_text,
    listed,
    metric_label,
    number,
    p_text,
    percent,
    percent_bounds,
    scale,
    spread,
)
from understudy.report.labels import label_of
from understudy.report.verdicts import (
    ComparisonJson,
    Test,
    all_tests,
    are_arms,
    contrasts_of,
    disagreement,
    headline_metric,
    items_needed,
    items_needed_text,
    most_items_needed,
    names_of,
    pair_test,
    slice_test,
    tone,
    uncorrected_note,
)


@dataclass(frozen=True)
class Headline:
    """The answer in words: `tone` is better, worse or open; `verdict` one line; `sentences` the figures behind it."""

    tone: str
    verdict: str
    sentences: tuple[str, ...]


def headline(comparison: ComparisonJson) -> Headline:
    """Which system is better, by how much, how sure, and what it would take; of a run, where the gain comes from.

    Args:
        comparison: `Comparison.to_dict()`.
    """
    metric, contrasts = headline_metric(comparison), contrasts_of(comparison)
    if metric is None or not contrasts:
        return Headline("open", "No verdict: no metric was measured on two of the systems.", ())
    if are_arms(comparison):
        main = main_arm(names_of(comparison))
        contrast = next((contrast for contrast in contrasts if contrast[0] == main), contrasts[0])
        return _against_constant(comparison, metric, _run_headline(comparison, *contrast, metric))
    return (
        _pair_headline(comparison, *contrasts[0], metric)
        if len(contrasts) == 1
        else _ranking_headline(comparison, metric)
    )


# The arms of a run ----------------------------------------------------------------------------------------------------


def _run_headline(comparison: ComparisonJson, a: str, b: str, metric: str) -> Headline:
    """The run's own student against SFT-only: the pair, then where the gain comes from."""
    pair_headline = _pair_headline(comparison, a, b, metric)
    student = label_of(a).student
    verdicts = {
        "better": f"Yes: {label_of(a).lesson} beats fine-tuning on the gold answers alone.",
        "worse": f"No: the {student} is worse than one fine-tuned on the gold answers alone.",
        "open": f"Not shown: the {student} and the SFT-only student cannot be told apart here.",
    }
    against_sft = b == "sft" and bool(student) and pair_test(comparison, a, b, metric) is not None
    further = (
        _gap_sentence(comparison["gaps"].get(metric)),
        *(_rival_sentence(comparison, a, rival, metric) for rival in names_of(comparison) if rival != b),
        _gold_sentence(comparison, metric),
        _constant_sentence(comparison, a, metric),
    )
    verdict = verdicts[pair_headline.tone] if against_sft else pair_headline.verdict
    return Headline(pair_headline.tone, verdict, (*pair_headline.sentences, *filter(None, further)))


def _against_constant(comparison: ComparisonJson, metric: str, outcome: Headline) -> Headline:
    """The outcome, unless no student beats the answer that reads nothing: then that comes first, whatever the arms."""
    constant = constant_answer(comparison, metric)
    if constant is None or not constant.beats_students:
        return outcome
    return Headline("worse", constant.verdict, (constant.figures, constant.advice, outcome.verdict, *outcome.sentences))


def _gap_sentence(gap: Mapping[str, Any] | None) -> str:
    if gap is None:
        return ""
    if gap["value"] is None or not isfinite(gap["value"]):
        return f"Gap recovered: {gap['reason'] or 'not known'}."
    share, interval = percent(gap["value"]), percent_bounds(gap)
    interval = f" ({interval})" if interval else ""
    return f"That is {share}{interval} of the way from the SFT-only student to the teacher."


def _rival_sentence(comparison: ComparisonJson, main: str, rival: str, metric: str) -> str:
    """How the main arm does against an arm whose label says how such a comparison begins."""
    test = pair_test(comparison, main, rival, metric)
    if test is None or not label_of(rival).contrast:
        return ""
    outcome = {"better": "better", "worse": "worse", "open": "no clear difference"}[tone(test)]
    if rival == "seqkd" and tone(test) == "open":
        outcome += ", so what helps may be the teacher's answers as such"
    return (
        f"{label_of(rival).contrast} it is {spread(test['comparison'], scale(comparison, metric))} points: {outcome}."
    )


def _gold_sentence(comparison: ComparisonJson, metric: str) -> str:
    """What the gain is on facts that stood in the gold answers and on those that did not."""
    tests = {label: slice_test(part, metric) for label, part in comparison["gold_facts"].items()}
    inside, outside = tests.get("in_gold"), tests.get("not_in_gold")
    if inside is None or outside is None:
        return ""
    factor = scale(comparison, metric)
    return (
        f"Where the difference lies: {spread(inside['comparison'], factor)} points on facts that the gold answers "
        f"teach, {spread(outside['comparison'], factor)} on facts outside the gold answers."
    )


def _constant_sentence(comparison: ComparisonJson, main: str, metric: str) -> str:
    """The majority answer, where some student lies above it and this one is not shown to."""
    test, constant = pair_test(comparison, main, MAJORITY.name, metric), constant_answer(comparison, metric)
    if test is None or tone(test) == "better" or constant is None or constant.beats_students:
        return ""
    value = number(test["comparison"]["value_b"] * scale(comparison, metric))
    text = f"The most frequent answers alone, which read no question, reach {value}: "
    text += f"the {label_of(main).student} " + ("is worse" if tone(test) == "worse" else "is not shown to be better")
    return f"{text}, and the teacher does not lie above them either." if constant.beats_teacher else f"{text}."


# Two systems ----------------------------------------------------------------------------------------------------------


def _pair_headline(comparison: ComparisonJson, a: str, b: str, metric: str) -> Headline:
    test = pair_test(comparison, a, b, metric)
    if test is None:
        return Headline("open", f"No verdict: {a} and {b} were not both measured.", ())
    figures, factor = test["comparison"], scale(comparison, metric)
    name, label_a, label_b = in_a_sentence(metric_label(metric)), arm_label(a), arm_label(b)
    verdict = {
        "better": f"{label_a} is better than {label_b}.",
        "worse": f"{label_a} is worse than {label_b}.",
        "open": f"Not shown: {label_a} and {label_b} cannot be told apart here.",
    }[tone(test)]
    level = f"{comparison['comparison']['settings']['confidence']:.0%}"
    interval_note = "" if figures["low"] is None else f" ({level} interval)"
    counts = items_text(figures["n"])
    counts += f" ({figures['groups']:,} independent groups)" if figures["groups"] < figures["n"] else ""
    text = (
        f"On {counts} {label_a} reaches {number(figures['value_a'] * factor)} in {name}, {label_b} "
        f"{number(figures['value_b'] * factor)}: a difference of {spread(figures, factor)} points{interval_note}, "
        f"{p_text(test['p_holm'])}{_correction_note(comparison)}{uncorrected_note(test)}."
    )
    sentences = (text, _disagreement(test), _power(test, factor), _tally(comparison, a, b))
    return Headline(tone(test), verdict, tuple(filter(None, sentences)))


def _disagreement(test: Test) -> str:
    """Interval and p where they part, and which of them the verdict goes by."""
    if not disagreement(test):
        return ""
    text = disagreement(test)
    return f"{text[:1].upper()}{text[1:]}: the verdict goes by p, and this is near the edge."


def _power(test: Test, factor: float) -> str:
    """What so many items can show, and how many would show this."""
    figures = test["comparison"]
    if figures["minimal_detectable"] is None:
        return "There are too few items to say what they could show."
    if not figures["minimal_detectable"]:
        alike = "do not differ on a single item" if not figures["difference"] else "differ by as much on every item"
        return f"The two {alike}, so nothing can be said of how small a difference would show."
    least = f"So many items show a true difference of {number(figures['minimal_detectable'] * factor)} points or more"
    least += " four times in five"
    if test["better"] or not figures["difference"]:
        return f"{least}."
    if (items := items_needed(test)) is not None and items <= figures["n"]:
        return f"{least}."
    corrected = " after the correction" if items != figures["items_needed"] else ""
    return f"{least}; for one of the size seen here, {items_needed_text(test)}{corrected}."


def _tally(comparison: ComparisonJson, a: str, b: str) -> str:
    tests = [test for test in all_tests(comparison) if (test["a"], test["b"]) == (a, b)]
    counts = {name: sum(test["better"] == name for test in tests) for name in (a, b)}
    num_open = len(tests) - sum(counts.values())
    if len(tests) == 1:
        return ""
    better = f"{arm_label(a)} is significantly better on {counts[a]}, {arm_label(b)} on {counts[b]}"
    return f"Of {len(tests)} metrics, {better}; {num_open} {'show' if num_open != 1 else 'shows'} nothing either way."


def _correction_note(comparison: ComparisonJson) -> str:
    """What the p-value was corrected for; of a single test nothing has to be said."""
    tests = comparison["comparison"]["family_size"]
    return f" after correction for {tests:,} tests" if tests > 1 else ""


# Many systems ---------------------------------------------------------------------------------------------------------


def _ranking_headline(comparison: ComparisonJson, metric: str) -> Headline:
    table = comparison["overall"]["table"]
    higher = comparison["metrics"][metric]["higher_is_better"]
    measured = [name for name in table if (table[name].get(metric) or {}).get("value") is not None]
    measured.sort(key=lambda name: table[name][metric]["value"], reverse=higher)
    best, factor, label = measured[0], scale(comparison, metric), in_a_sentence(metric_label(metric))
    tests = [t for t in all_tests(comparison) if best in (t["a"], t["b"]) and t["metric"] == metric]
    beaten = [t["b"] if t["a"] == best else t["a"] for t in tests if t["better"] == best]
    undecided = [t["b"] if t["a"] == best else t["a"] for t in tests if not t["better"]]
    figures = table[best][metric]
    interval = "" if figures["low"] is None else f" ({bounds(figures, factor)})"
    items = most_items_needed(comparison, tests)
    items_note = f"; {items:,} items would be needed to be sure of the differences seen" if items else ""
    sentences = (
        f"On {items_text(comparison['overall']['items'])} {arm_label(best)} reaches "
        f"{number(figures['value'] * factor)}{interval} in {label}, the best of {len(measured)} systems.",
        _runner_up(comparison, best, measured[1], metric) if len(measured) > 1 else "",
        f"It is significantly better than {listed(beaten)}." if beaten else "",
        f"It cannot be told apart from {listed(undecided)}{items_note}." if undecided else "",
    )
    clear = bool(tests) and not undecided
    verdict = (
        f"{arm_label(best)} is the best of {len(measured)} systems."
        if clear
        else f"{arm_label(best)} comes first, but not clearly ahead of {listed(undecided, most=3) or 'the others'}."
    )
    return Headline("better" if clear else "open", verdict, tuple(filter(None, sentences)))


def _runner_up(comparison: ComparisonJson, best: str, next_best: str, metric: str) -> str:
    test = pair_test(comparison, best, next_best, metric) or pair_test(comparison, next_best, best, metric)
    if test is None:
        return ""
    figures, factor = test["comparison"], scale(comparison, metric)
    if test["b"] == best:
        swapped = {"difference": -figures["difference"]}
        if figures["low"] is not None:
            swapped |= {"low": -figures["high"], "high": -figures["low"]}
        figures = {**figures, **swapped}
    return (
        f"Ahead of {arm_label(next_best)}, the next, by {spread(figures, factor)} points, {p_text(test['p_holm'])}"
        f"{_correction_note(comparison)}{uncorrected_note(test)}."
    )
