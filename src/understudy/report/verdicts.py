"""What is read out of a comparison: its tests, the metric of its headline, and each test in words.

Everything here reads `Comparison.to_dict()`, so a saved `comparison.json` or `scores.json` speaks as a fresh one does.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.arms import ARMS
from understudy.report.formatting import arm_label, kind_label, p_text, rounded_up

ComparisonJson = Mapping[str, Any]
Test = Mapping[str, Any]

GOLD_FACTS = {"in_gold": "Facts in the gold", "not_in_gold": "Facts not in the gold"}
_MANY = 1_000_000


def names_of(comparison: ComparisonJson) -> list[str]:
    """The systems, in the order given."""
    return [system["name"] for system in comparison["systems"]]


def are_arms(comparison: ComparisonJson) -> bool:
    """Whether the systems are the arms of a run."""
    return all(system["arm"] and system["arm"] == system["name"] for system in comparison["systems"])


def all_tests(comparison: ComparisonJson) -> list[Test]:
    """All tests, pairs in order, metrics within."""
    return list(comparison["comparison"]["tests"])


def contrasts_of(comparison: ComparisonJson) -> list[tuple[str, str]]:
    """The pairs that were tested, first minus second."""
    return list(dict.fromkeys((test["a"], test["b"]) for test in all_tests(comparison)))


def pair_test(comparison: ComparisonJson, a: str, b: str, metric: str | None) -> Test | None:
    """The test of one pair on one metric, if there was one."""
    return next((t for t in all_tests(comparison) if (t["a"], t["b"], t["metric"]) == (a, b, metric)), None)


def headline_metric(comparison: ComparisonJson) -> str | None:
    """The headline's metric: F1 of bundles; exact match where a model matches exactly; ROUGE-L; the first there is.

    Of the metrics that some pair was tested on; of all where nothing was tested. An answer that no model gave says
    nothing about how models answer, so it does not choose the metric.
    """
    rows = comparison["overall"]["table"]
    table = [row for name, row in rows.items() if name not in _arms_without_a_model(comparison)] or list(rows.values())
    tested = {test["metric"] for test in all_tests(comparison)} or set(comparison["metrics"])

    def best(metric: str) -> float:
        values = (row[metric]["value"] or 0.0 for row in table if metric in row and metric in tested)
        return max(values, default=-1.0)

    if best("bundle_f1") >= 0:
        return "bundle_f1"
    if best("exact_match") >= 0.1:
        return "exact_match"
    return next((m for m in ("rougeL", "choice_accuracy", *comparison["metrics"]) if best(m) >= 0), None)


def _arms_without_a_model(comparison: ComparisonJson) -> set[str]:
    """The systems that are baselines, such as the majority answer."""
    arms = {system["name"]: ARMS.get(system.get("arm") or "") for system in comparison["systems"]}
    return {name for name, arm in arms.items() if arm is not None and arm.model is None}


def kinds(comparison: ComparisonJson) -> dict[str, Mapping[str, Any]]:
    """Kinds of question by their names in print, where figures were measured on each."""
    return {kind_label(kind): part for kind, part in comparison["kinds"].items() if part["table"]}


def gold_facts(comparison: ComparisonJson) -> dict[str, Mapping[str, Any]]:
    """Facts in the gold and not in the gold, by their names in print."""
    return {GOLD_FACTS[label]: part for label, part in comparison["gold_facts"].items()}


def fields(comparison: ComparisonJson) -> dict[str, Mapping[str, Any]]:
    """Values of the fields that the recipe names; files of earlier releases have none."""
    parts = comparison.get("fields", {}).items()
    return {f"{kind_label(name)}: {value}": part for name, values in parts for value, part in values.items()}


def slices(comparison: ComparisonJson) -> dict[str, Mapping[str, Any]]:
    """The parts of the test set by their names in print: kinds, facts in the gold and not, values of fields."""
    return {**kinds(comparison), **gold_facts(comparison), **fields(comparison)}


def slice_test(part: Mapping[str, Any], metric: str) -> Test | None:
    """The test of a part's one pair on a metric, corrected over the parts."""
    return next((test for test in part.get("tests", ()) if test["metric"] == metric), None)


# Tests in words -------------------------------------------------------------------------------------------------------


def tone(test: Test) -> str:
    """`better` or `worse` for the first system of the pair after correction, else `open`."""
    return "open" if not test["better"] else "better" if test["better"] == test["a"] else "worse"


def verdict(test: Test) -> str:
    """One test in words: the better system, or what would be needed to tell."""
    figures = test["comparison"]
    if test["p_holm"] is None or figures["low"] is None:
        return "too few items to tell"
    if test["better"]:
        return f"{arm_label(test['better'])} is better{_disagreement_note(test)}"
    if not figures["difference"]:
        return "no difference"
    if uncorrected_note(test):
        enough = (items_needed(test) or 0) <= figures["n"]
        text = f"not significant after correction{uncorrected_note(test)}"
        return text if enough else f"{text}; {items_needed_text(test)}"
    # Fewer items than there are: the estimate is that of a t-test, which so small a sample does not bear out.
    if (items := items_needed(test)) is not None and items <= figures["n"]:
        return f"not significant{_disagreement_note(test)}"
    return f"not significant{_disagreement_note(test)}; {items_needed_text(test)}"


def verdict_of_pair(test: Test) -> str:
    """The same inside a table of the pair: the first system is better, worse, or nothing is shown."""
    return verdict(test) if tone(test) == "open" else f"{tone(test)}{_disagreement_note(test)}"


def uncorrected_note(test: Test) -> str:
    """The p-value of a test by itself, where only the correction for many tests takes its significance away."""
    if test["better"] or not test["alone"] or test["p_holm"] == test["p_value"]:
        return ""
    return f" ({p_text(test['p_value'])} alone)"


def excludes_zero(test: Test) -> bool:
    """Whether the interval of the difference leaves out 0."""
    figures = test["comparison"]
    return figures["low"] is not None and (figures["low"] > 0 or figures["high"] < 0)


def disagreement(test: Test) -> str:
    """Where interval and uncorrected p say different things: which says what; empty where they agree.

    The interval tells how far the difference could move with other items, p whether equal systems could show it; with
    few or skewed items the two can differ near the level of the test.
    """
    if test["p_value"] is None or test["comparison"]["low"] is None or excludes_zero(test) == test["alone"]:
        return ""
    if test["alone"]:
        return f"the interval holds 0, though {p_text(test['p_value'])} alone"
    return f"the interval leaves out 0, though {p_text(test['p_value'])} alone"


def _disagreement_note(test: Test) -> str:
    return f" ({disagreement(test)})" if disagreement(test) else ""


def items_needed(test: Test) -> float | None:
    """How many items would show the difference that was seen, at the level that the correction leaves to this test.

    Earlier releases wrote the number for one test alone; it stands for what their files do not have.
    """
    return test["items_needed"] if "items_needed" in test else test["comparison"]["items_needed"]


def items_needed_text(test: Test) -> str:
    """The same in words."""
    items = items_needed(test)
    if items is None:
        return "no number of items would show it"
    if items > _MANY:
        return "over a million items would be needed"
    return f"{rounded_up(items):,} items would be needed"


def most_items_needed(comparison: ComparisonJson, tests: list[Test]) -> int | None:
    """How many items would show all the differences that were seen and not shown; None where that is not known."""
    counts = [items_needed(t) for t in tests if not t["better"] and t["comparison"]["difference"]]
    counts = [count for count in counts if count is not None and comparison["overall"]["items"] < count <= _MANY]
    return rounded_up(max(counts)) if counts else None
