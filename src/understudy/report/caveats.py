"""What the figures of a comparison do not show, and how they were made, in sentences composed from the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.arms import main_arm
from understudy.report.formatting import in_a_sentence, items_text, kind_label, listed, metric_label, number, scale
from understudy.report.verdicts import (
    ComparisonJson,
    all_tests,
    are_arms,
    disagreement,
    headline_metric,
    names_of,
    slices,
)

_FEW_ITEMS = 200
_SPEED = (
    "Speed and memory are of this machine, this batch size and whatever ran beside; the order of the models carries "
    "over to other machines better than the numbers do."
)


def limits(comparison: ComparisonJson, *, timed: bool = False) -> list[str]:
    """What a reader must not take from these figures, each sentence true of this very comparison.

    Args:
        comparison: `Comparison.to_dict()`.
        timed: whether speed and memory stand beside the scores.
    """
    return [
        text
        for text in (
            *_not_measured(comparison),
            _sample(comparison),
            _small_slices(comparison),
            _multiplicity(comparison),
            _disagreements(comparison),
            _training(comparison),
            _absent_arms(comparison),
            _constant(comparison),
            _chance(comparison),
            _judge(comparison),
            "The n-gram metrics compare words with references. They see neither whether a differently worded answer "
            "is right nor whether a fluent one is wrong; read the examples.",
            _domain(comparison),
            _SPEED if timed else "",
        )
        if text
    ]


def _not_measured(comparison: ComparisonJson) -> list[str]:
    """One sentence a reason, with all the metrics that it holds for."""
    systems = [system["name"] for system in comparison["systems"]]
    metrics: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for metric, reasons in comparison["not_measured"].items():
        for reason in dict.fromkeys(reasons.values()):
            lacking = tuple(name for name in systems if reasons.get(name) == reason)
            metrics.setdefault((reason, lacking), []).append(metric_label(metric))
    sentences = []
    for (reason, lacking), names in metrics.items():
        of_systems = "" if len(lacking) == len(systems) else f" of {listed(lacking)}"
        sentences.append(f"Not measured: {', '.join(names)}{of_systems} ({reason}). Nothing here speaks of them.")
    return sentences


def _sample(comparison: ComparisonJson) -> str:
    metric, overall = headline_metric(comparison), comparison["overall"]
    items, num_clusters = overall["items"], overall["groups"]
    if metric is None:
        return ""
    least = [test["comparison"]["minimal_detectable"] for test in all_tests(comparison) if test["metric"] == metric]
    least = [value for value in least if value is not None]
    text = f"The test set has {items_text(items)}"
    text += f" in {num_clusters:,} independent groups. " if num_clusters < items else ". "
    if least:
        points = number(max(least) * scale(comparison, metric))
        name = in_a_sentence(metric_label(metric))
        text += (
            f"On {name} a true difference below {points} points would often go unseen: "
            "“not significant” is not “equal”."
        )
    elif items < _FEW_ITEMS:
        text += "That is few: read every figure with its interval."
    return text


def _small_slices(comparison: ComparisonJson) -> str:
    small = [f"{label} ({part['items']})" for label, part in slices(comparison).items() if part["items"] < _FEW_ITEMS]
    return f"Few items, so read with care: {', '.join(small)}." if small else ""


def _multiplicity(comparison: ComparisonJson) -> str:
    family = comparison["comparison"]
    size, alpha = family["family_size"], 1 - family["settings"]["confidence"]
    if size < 2:
        return "One test was made, so nothing had to be corrected; tests on other metrics afterwards would not be."
    return (
        f"{size:,} tests were made together. The verdicts are corrected for that (Holm: the chance of even one false "
        f"finding stays below {alpha:.0%}); intervals are not corrected, so among many some exclude 0 by chance. "
        "Metrics and systems left out of this comparison are not counted."
    )


def _disagreements(comparison: ComparisonJson) -> str:
    """Tests whose interval and uncorrected p say different things."""
    tests = all_tests(comparison)
    num_disagreeing = sum(bool(disagreement(test)) for test in tests)
    if not num_disagreeing:
        return ""
    return (
        f"On {num_disagreeing} of {len(tests)} tests the interval and p disagree before any correction: the tables "
        "say where. The interval comes of drawing other items, p of exchanging the two systems' answers; the verdicts "
        "go by p, which keeps its level with few and unequal groups too. Read such a difference as open."
    )


def _absent_arms(comparison: ComparisonJson) -> str:
    """Of a run: the arms that a reader would look for."""
    names = names_of(comparison)
    if not are_arms(comparison):
        return ""
    rivals = ("distilled", "seqkd", "kd_gold") if main_arm(names) == "distilled" else ()
    absent = [name for name in ("teacher", *rivals, "sft") if name not in names]
    return f"Not part of this run, so nothing is said about it: {listed(absent, most=8)}." if absent else ""


def _chance(comparison: ComparisonJson) -> str:
    if comparison["chance"] is None:
        return ""
    return (
        f"Guessing among the options would score {number(100 * comparison['chance'])} choice accuracy. An option's "
        "likelihood is not what the model would write if asked."
    )


def _training(comparison: ComparisonJson) -> str:
    seeds = {system["name"]: len(system["seeds"]) for system in comparison["systems"]}
    trained = {
        system["name"]
        for system in comparison["systems"]
        if system["arm"] not in ("teacher", "majority", "first_option")
    }
    counts = {name: count for name, count in seeds.items() if name in trained}
    if counts and all(count > 1 for count in counts.values()):
        least = min(counts.values())
        return (
            f"Each trained system was run with {least} seeds or more. Intervals and tests take the answers of all of "
            "them and tell how far the choice of items could move a figure; the standard deviation over seeds says how "
            f"far training moves it, and {least} seeds measure that roughly."
        )
    return (
        "One training run a system: the intervals tell how far the choice of items could move a figure. What another "
        "training seed would move is not in them; compare runs with several seeds before relying on a small difference."
    )


def _constant(comparison: ComparisonJson) -> str:
    share = 100 * comparison["constant_answer"]["share"]
    if share < 2:
        return ""
    answer = comparison["constant_answer"]["answer"]
    answer = answer if len(answer) <= 60 else f"{answer[:57]}…"
    return (
        f"Always answering “{answer}” would be right on {number(share)}% of the items: what lies at or below that "
        "needs no reading of the question."
    )


def _judge(comparison: ComparisonJson) -> str:
    if not comparison["judge"]:
        return ""
    return (
        "Judged metrics are opinions of one language model. How steady it is stands under the judge's reliability; "
        "whether it is right, only people can say."
    )


def _domain(comparison: ComparisonJson) -> str:
    kinds = {kind: part["items"] for kind, part in comparison["kinds"].items()}
    text = "All items come from one test set; nothing is said about questions unlike them, or of another domain."
    if len(kinds) < 2:
        return text
    parts = [f"{kind_label(kind)} {count:,}" for kind, count in sorted(kinds.items(), key=lambda pair: -pair[1])]
    return f"{text} It holds: {listed(parts, most=8)}."


def methods(comparison: ComparisonJson) -> list[str]:
    """How the figures were made, as a paper would want it."""
    family, settings = comparison["comparison"], comparison["comparison"]["settings"]
    test = {"randomisation": "approximate randomisation", "bootstrap": "the paired bootstrap"}[family["family_test"]]
    clustering = "Items of one group are drawn together. " if settings["groups"] < settings["items"] else ""
    texts = [
        f"Intervals are {settings['confidence']:.0%} bootstrap intervals over {settings['resamples']:,} draws of the "
        f"items, the same draws for all systems (seed {settings['seed']}), widened by the jackknife and Student's t. "
        f"{clustering}Corpus metrics are resampled from their counts.",
        f"p-values are two-sided, by {test}, adjusted by Holm over {family['family_size']:,} tests (Benjamini–"
        "Hochberg, Wilcoxon and, for right or wrong, McNemar stand beside them in the JSON). Effect size is Cohen's "
        "d_z of the per-item differences. Detectable differences are for "
        f"{settings['power']:.0%} power at the {settings['alpha']:.0%} level, for one test alone; needed items are for "
        "the level of the test's own step in Holm's correction.",
    ]
    if family["friedman"]:
        texts.append("Ranks are compared by Friedman's test with Nemenyi's critical difference after it.")
    versions = ", ".join(f"{name} {version}" for name, version in comparison["versions"].items())
    return [*texts, f"Versions: {versions}."]


def signatures(comparison: ComparisonJson) -> dict[str, str]:
    """Metric in print -> signature."""
    metrics: Mapping[str, Mapping[str, Any]] = comparison["metrics"]
    return {metric_label(name): figures["signature"] for name, figures in metrics.items()}
