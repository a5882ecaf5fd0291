"""A comparison in plain words: who is better, how sure that is, and what it would take to be sure.

Everything here reads `SideBySide.to_dict()`, so a saved `comparison.json` speaks as a fresh one does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.report.run_summary import (
    Headline,
    arm_label,
    in_a_sentence,
    items_text,
    metric_label,
    number,
    p_text,
    primary_metric,
    scale,
)

Comparison = Mapping[str, Any]
Test = Mapping[str, Any]
_MANY = 1_000_000


def tests_of(comparison: Comparison) -> list[Test]:
    """All tests, pairs in order, metrics within."""
    return list(comparison["comparison"]["tests"])


def pairs_of(comparison: Comparison) -> list[tuple[str, str]]:
    """The pairs that were tested, first minus second."""
    return list(dict.fromkeys((test["a"], test["b"]) for test in tests_of(comparison)))


def test_of(comparison: Comparison, a: str, b: str, metric: str) -> Test | None:
    """The test of one pair on one metric, if there was one."""
    return next((t for t in tests_of(comparison) if (t["a"], t["b"], t["metric"]) == (a, b, metric)), None)


def headline_metric(comparison: Comparison) -> str | None:
    """The metric of the headline: exact match where anyone matches exactly, else ROUGE-L, else the first there is."""
    tested = {test["metric"] for test in tests_of(comparison)}
    table = {
        name: {metric: figures for metric, figures in row.items() if metric in tested}
        for name, row in comparison["table"].items()
    }
    return primary_metric({"overall": {"table": table}, "metrics": comparison["metrics"]})


def verdict(test: Test) -> str:
    """One test in words: the better system, or what would be needed to tell."""
    found = test["comparison"]
    if test["p_holm"] is None or found["low"] is None:
        return "too few items to tell"
    if test["better"]:
        return f"{arm_label(test['better'])} is better"
    if not found["difference"]:
        return "no difference"
    if alone(test):
        enough = (found["items_needed"] or 0) <= found["n"]
        return f"not significant after correction{alone(test)}" + ("" if enough else f"; {needed(found)}")
    # Fewer items than there are: the estimate is that of a t-test, which so small a sample does not bear out.
    if found["items_needed"] is not None and found["items_needed"] <= found["n"]:
        return "not significant"
    return f"not significant; {needed(found)}"


def alone(test: Test) -> str:
    """The p-value of a test by itself, where only the correction for many tests takes its significance away."""
    if test["better"] or not test["alone"] or test["p_holm"] == test["p_value"]:
        return ""
    return f" ({p_text(test['p_value'])} alone)"


def verdict_of_pair(test: Test) -> str:
    """The same inside a table of the pair: the first system is better, worse, or nothing is shown."""
    return {"better": "better", "worse": "worse", "open": verdict(test)}[tone(test)]


def needed(found: Mapping[str, Any]) -> str:
    """How many items would show the difference that was seen, in words."""
    items = found["items_needed"]
    if items is None:
        return "no number of items would show it"
    if items > _MANY:
        return "over a million items would be needed"
    return f"{rounded_up(items):,} items would be needed"


def rounded_up(value: float) -> int:
    """A count to two figures, never below it: 1,834 becomes 1,900."""
    whole = int(-(-value // 1))
    unit = 10 ** max(0, len(str(whole)) - 2)
    return -(-whole // unit) * unit


def around(effect: Mapping[str, Any]) -> str:
    """The interval of an effect size in print; empty where it is not known."""
    if effect["low"] is None or effect["high"] is None:
        return ""
    return f"{number(effect['low'], 2, sign=True)} to {number(effect['high'], 2, sign=True)}"


def spread(found: Mapping[str, Any], factor: float) -> str:
    """A difference with its interval, in points."""
    value = number(found["difference"] * factor, sign=True)
    if found["low"] is None:
        return f"{value} (no interval)"
    return f"{value} ({number(found['low'] * factor, sign=True)} to {number(found['high'] * factor, sign=True)})"


def tone(test: Test) -> str:
    """`better` or `worse` for the first system of the pair after correction, else `open`."""
    return "open" if not test["better"] else "better" if test["better"] == test["a"] else "worse"


# The headline ---------------------------------------------------------------------------------------------------------


def headline(comparison: Comparison) -> Headline:
    """The answer: which system is better, by how much, how sure, and what it would take."""
    metric, pairs = headline_metric(comparison), pairs_of(comparison)
    if metric is None or not pairs:
        return Headline("open", "No verdict: no metric was measured on two of the systems.", ())
    arms = all(system["arm"] for system in comparison["systems"])
    if len(pairs) == 1 or (arms and pairs[0] == ("distilled", "sft")):
        return _of_pair(comparison, *pairs[0], metric)
    return _of_many(comparison, metric)


def _of_pair(comparison: Comparison, a: str, b: str, metric: str) -> Headline:
    test = test_of(comparison, a, b, metric)
    if test is None:
        return Headline("open", f"No verdict: {a} and {b} were not both measured.", ())
    found, factor = test["comparison"], scale(comparison, metric)
    name, left, right = in_a_sentence(metric_label(metric)), arm_label(a), arm_label(b)
    verdict_ = {
        "better": f"{left} is better than {right}.",
        "worse": f"{left} is worse than {right}.",
        "open": f"Not shown: {left} and {right} cannot be told apart here.",
    }[tone(test)]
    level = f"{comparison['comparison']['settings']['confidence']:.0%}"
    bounds = "" if found["low"] is None else f" ({level} interval)"
    figures = (
        f"On {items_text(found['n'])} {left} reaches {number(found['value_a'] * factor)} in {name}, {right} "
        f"{number(found['value_b'] * factor)}: a difference of {spread(found, factor)} points{bounds}, "
        f"{p_text(test['p_holm'])}{_corrected(comparison)}{alone(test)}."
    )
    return Headline(
        tone(test), verdict_, tuple(filter(None, (figures, _power(test, factor), _tally(comparison, a, b))))
    )


def _power(test: Test, factor: float) -> str:
    """What so many items can show, and how many would show this."""
    found = test["comparison"]
    if found["minimal_detectable"] is None:
        return "There are too few items to say what they could show."
    if not found["minimal_detectable"]:
        alike = "do not differ on a single item" if not found["difference"] else "differ by as much on every item"
        return f"The two {alike}, so nothing can be said of how small a difference would show."
    least = f"So many items show a true difference of {number(found['minimal_detectable'] * factor)} points or more"
    least += " four times in five"
    if test["better"] or not found["difference"]:
        return f"{least}."
    if found["items_needed"] is not None and found["items_needed"] <= found["n"]:
        return f"{least}."
    return f"{least}; for one of the size seen here, {needed(found)}."


def _tally(comparison: Comparison, a: str, b: str) -> str:
    tests = [test for test in tests_of(comparison) if (test["a"], test["b"]) == (a, b)]
    counts = {name: sum(test["better"] == name for test in tests) for name in (a, b)}
    rest = len(tests) - sum(counts.values())
    if len(tests) == 1:
        return ""
    better = f"{arm_label(a)} is significantly better on {counts[a]}, {arm_label(b)} on {counts[b]}"
    return f"Of {len(tests)} metrics, {better}; {rest} {'show' if rest != 1 else 'shows'} nothing either way."


def _of_many(comparison: Comparison, metric: str) -> Headline:
    table = comparison["table"]
    higher = comparison["metrics"][metric]["higher_is_better"]
    known = [name for name in table if (table[name].get(metric) or {}).get("value") is not None]
    known.sort(key=lambda name: table[name][metric]["value"], reverse=higher)
    best, factor, label = known[0], scale(comparison, metric), in_a_sentence(metric_label(metric))
    tests = [t for t in tests_of(comparison) if best in (t["a"], t["b"]) and t["metric"] == metric]
    beaten = [t["b"] if t["a"] == best else t["a"] for t in tests if t["better"] == best]
    alike = [t["b"] if t["a"] == best else t["a"] for t in tests if not t["better"]]
    figures = table[best][metric]
    bounds = ""
    if figures["low"] is not None:
        bounds = f" ({number(figures['low'] * factor)} to {number(figures['high'] * factor)})"
    sentences = [
        f"On {items_text(comparison['items'])} {arm_label(best)} reaches {number(figures['value'] * factor)}{bounds} "
        f"in {label}, the best of {len(known)} systems."
    ]
    if len(known) > 1:
        sentences.append(_runner_up(comparison, best, known[1], metric))
    if beaten:
        sentences.append(f"It is significantly better than {listed(beaten)}.")
    if alike:
        sentences.append(f"It cannot be told apart from {listed(alike)}{_most_needed(comparison, tests)}.")
    clear = bool(tests) and not alike
    if clear:
        return Headline(
            "better", f"{arm_label(best)} is the best of {len(known)} systems.", tuple(filter(None, sentences))
        )
    return Headline(
        "open",
        f"{arm_label(best)} comes first, but not clearly ahead of {listed(alike, most=3) or 'the others'}.",
        tuple(filter(None, sentences)),
    )


def _runner_up(comparison: Comparison, best: str, second: str, metric: str) -> str:
    test = test_of(comparison, best, second, metric) or test_of(comparison, second, best, metric)
    if test is None:
        return ""
    found, factor = test["comparison"], scale(comparison, metric)
    if test["b"] == best:
        swapped = {"difference": -found["difference"]}
        if found["low"] is not None:
            swapped |= {"low": -found["high"], "high": -found["low"]}
        found = {**found, **swapped}
    return (
        f"Ahead of {arm_label(second)}, the next, by {spread(found, factor)} points, {p_text(test['p_holm'])}"
        f"{_corrected(comparison)}{alone(test)}."
    )


def _corrected(comparison: Comparison) -> str:
    """What the p-value was corrected for; of a single test nothing has to be said."""
    tests = comparison["comparison"]["family_size"]
    return f" after correction for {tests:,} tests" if tests > 1 else ""


def _most_needed(comparison: Comparison, tests: Sequence[Test]) -> str:
    counts = [t["comparison"]["items_needed"] for t in tests if not t["better"] and t["comparison"]["difference"]]
    counts = [count for count in counts if count is not None and comparison["items"] < count <= _MANY]
    if not counts:
        return ""
    return f"; {rounded_up(max(counts)):,} items would be needed to be sure of the differences seen"


def listed(names: Sequence[str], most: int = 4) -> str:
    """Names in a sentence: a, b and c."""
    names = [arm_label(name) for name in names]
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
