"""The answer of a comparison in words – of a run's arms, of two systems, of many – for the page and the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from understudy.arms import MAJORITY, main_arm
from understudy.report.formatting import (
    arm_label,
    bounds,
    in_a_sentence,
    items_text,
    listed,
    metric_label,
    number,
    p_text,
    scale,
    spread,
)
from understudy.report.labels import label_of
from understudy.report.verdicts import (
    Comparison,
    Test,
    all_tests,
    alone,
    are_arms,
    disagrees,
    headline_metric,
    most_needed,
    names_of,
    needed,
    pair_test,
    pairs_of,
    slice_test,
    tone,
)


@dataclass(frozen=True)
class Headline:
    """The answer in words: `tone` is better, worse or open; `verdict` one line; `sentences` the figures behind it."""

    tone: str
    verdict: str
    sentences: tuple[str, ...]


def headline(comparison: Comparison) -> Headline:
    """Which system is better, by how much, how sure, and what it would take; of a run, where the gain comes from.

    Args:
        comparison: `Comparison.to_dict()`.
    """
    metric, pairs = headline_metric(comparison), pairs_of(comparison)
    if metric is None or not pairs:
        return Headline("open", "No verdict: no metric was measured on two of the systems.", ())
    if are_arms(comparison):
        main = main_arm(names_of(comparison))
        pair = next((pair for pair in pairs if pair[0] == main), pairs[0])
        return _of_run(comparison, *pair, metric)
    return _of_pair(comparison, *pairs[0], metric) if len(pairs) == 1 else _of_many(comparison, metric)


# The arms of a run ----------------------------------------------------------------------------------------------------


def _of_run(comparison: Comparison, a: str, b: str, metric: str) -> Headline:
    """The run's own student against SFT-only: the pair, then where the gain comes from."""
    pair = _of_pair(comparison, a, b, metric)
    student = label_of(a).student
    verdicts = {
        "better": f"Yes: {label_of(a).lesson} beats fine-tuning on the gold answers alone.",
        "worse": f"No: the {student} is worse than one fine-tuned on the gold answers alone.",
        "open": f"Not shown: the {student} and the SFT-only student cannot be told apart here.",
    }
    known = b == "sft" and bool(student) and pair_test(comparison, a, b, metric) is not None
    more = (
        _gap_sentence(comparison["gaps"].get(metric)),
        *(_rival_sentence(comparison, a, rival, metric) for rival in names_of(comparison) if rival != b),
        _gold_sentence(comparison, metric),
        _constant_sentence(comparison, a, metric),
    )
    verdict = verdicts[pair.tone] if known else pair.verdict
    return Headline(pair.tone, verdict, (*pair.sentences, *filter(None, more)))


def _gap_sentence(gap: Mapping[str, Any] | None) -> str:
    if gap is None:
        return ""
    if gap["value"] is None:
        return f"Gap recovered: {gap['reason']}."
    interval = "" if gap["low"] is None else f" ({bounds(gap, 100, 0)}%)"
    return f"That is {number(100 * gap['value'], 0)}%{interval} of the way from the SFT-only student to the teacher."


def _rival_sentence(comparison: Comparison, main: str, rival: str, metric: str) -> str:
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


def _gold_sentence(comparison: Comparison, metric: str) -> str:
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


def _constant_sentence(comparison: Comparison, main: str, metric: str) -> str:
    """Whether reading the question pays: the majority answer, where the student is not shown to beat it."""
    test = pair_test(comparison, main, MAJORITY.name, metric)
    if test is None or tone(test) == "better":
        return ""
    value = number(test["comparison"]["value_b"] * scale(comparison, metric))
    text = f"The most frequent answers alone, which read no question, reach {value}: "
    text += f"the {label_of(main).student} " + ("is worse" if tone(test) == "worse" else "is not shown to be better")
    teacher = (comparison["overall"]["table"].get("teacher") or {}).get(metric)
    if teacher is not None and teacher["value"] is not None and teacher["value"] <= test["comparison"]["value_b"]:
        text += ", and the teacher does not reach them either"
    return f"{text}."


# Two systems ----------------------------------------------------------------------------------------------------------


def _of_pair(comparison: Comparison, a: str, b: str, metric: str) -> Headline:
    test = pair_test(comparison, a, b, metric)
    if test is None:
        return Headline("open", f"No verdict: {a} and {b} were not both measured.", ())
    figures, factor = test["comparison"], scale(comparison, metric)
    name, left, right = in_a_sentence(metric_label(metric)), arm_label(a), arm_label(b)
    verdict = {
        "better": f"{left} is better than {right}.",
        "worse": f"{left} is worse than {right}.",
        "open": f"Not shown: {left} and {right} cannot be told apart here.",
    }[tone(test)]
    level = f"{comparison['comparison']['settings']['confidence']:.0%}"
    known = "" if figures["low"] is None else f" ({level} interval)"
    counts = items_text(figures["n"])
    counts += f" ({figures['groups']:,} independent groups)" if figures["groups"] < figures["n"] else ""
    text = (
        f"On {counts} {left} reaches {number(figures['value_a'] * factor)} in {name}, {right} "
        f"{number(figures['value_b'] * factor)}: a difference of {spread(figures, factor)} points{known}, "
        f"{p_text(test['p_holm'])}{_corrected(comparison)}{alone(test)}."
    )
    sentences = (text, _parting(test), _power(test, factor), _tally(comparison, a, b))
    return Headline(tone(test), verdict, tuple(filter(None, sentences)))


def _parting(test: Test) -> str:
    """Interval and p where they part, and which of them the verdict goes by."""
    if not disagrees(test):
        return ""
    said = disagrees(test)
    return f"{said[:1].upper()}{said[1:]}: the verdict goes by p, and this is near the edge."


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
    if figures["items_needed"] is not None and figures["items_needed"] <= figures["n"]:
        return f"{least}."
    return f"{least}; for one of the size seen here, {needed(figures)}."


def _tally(comparison: Comparison, a: str, b: str) -> str:
    tests = [test for test in all_tests(comparison) if (test["a"], test["b"]) == (a, b)]
    counts = {name: sum(test["better"] == name for test in tests) for name in (a, b)}
    rest = len(tests) - sum(counts.values())
    if len(tests) == 1:
        return ""
    better = f"{arm_label(a)} is significantly better on {counts[a]}, {arm_label(b)} on {counts[b]}"
    return f"Of {len(tests)} metrics, {better}; {rest} {'show' if rest != 1 else 'shows'} nothing either way."


def _corrected(comparison: Comparison) -> str:
    """What the p-value was corrected for; of a single test nothing has to be said."""
    tests = comparison["comparison"]["family_size"]
    return f" after correction for {tests:,} tests" if tests > 1 else ""


# Many systems ---------------------------------------------------------------------------------------------------------


def _of_many(comparison: Comparison, metric: str) -> Headline:
    table = comparison["overall"]["table"]
    higher = comparison["metrics"][metric]["higher_is_better"]
    known = [name for name in table if (table[name].get(metric) or {}).get("value") is not None]
    known.sort(key=lambda name: table[name][metric]["value"], reverse=higher)
    best, factor, label = known[0], scale(comparison, metric), in_a_sentence(metric_label(metric))
    tests = [t for t in all_tests(comparison) if best in (t["a"], t["b"]) and t["metric"] == metric]
    beaten = [t["b"] if t["a"] == best else t["a"] for t in tests if t["better"] == best]
    alike = [t["b"] if t["a"] == best else t["a"] for t in tests if not t["better"]]
    figures = table[best][metric]
    interval = "" if figures["low"] is None else f" ({bounds(figures, factor)})"
    items = most_needed(comparison, tests)
    enough = f"; {items:,} items would be needed to be sure of the differences seen" if items else ""
    sentences = (
        f"On {items_text(comparison['overall']['items'])} {arm_label(best)} reaches "
        f"{number(figures['value'] * factor)}{interval} in {label}, the best of {len(known)} systems.",
        _runner_up(comparison, best, known[1], metric) if len(known) > 1 else "",
        f"It is significantly better than {listed(beaten)}." if beaten else "",
        f"It cannot be told apart from {listed(alike)}{enough}." if alike else "",
    )
    clear = bool(tests) and not alike
    verdict = (
        f"{arm_label(best)} is the best of {len(known)} systems."
        if clear
        else f"{arm_label(best)} comes first, but not clearly ahead of {listed(alike, most=3) or 'the others'}."
    )
    return Headline("better" if clear else "open", verdict, tuple(filter(None, sentences)))


def _runner_up(comparison: Comparison, best: str, second: str, metric: str) -> str:
    test = pair_test(comparison, best, second, metric) or pair_test(comparison, second, best, metric)
    if test is None:
        return ""
    figures, factor = test["comparison"], scale(comparison, metric)
    if test["b"] == best:
        swapped = {"difference": -figures["difference"]}
        if figures["low"] is not None:
            swapped |= {"low": -figures["high"], "high": -figures["low"]}
        figures = {**figures, **swapped}
    return (
        f"Ahead of {arm_label(second)}, the next, by {spread(figures, factor)} points, {p_text(test['p_holm'])}"
        f"{_corrected(comparison)}{alone(test)}."
    )
