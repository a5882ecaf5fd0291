"""What the figures of a comparison do not show, and how they were made, in sentences composed from the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.report.comparison_summary import Comparison, headline_metric, listed, tests_of
from understudy.report.run_summary import in_a_sentence, items_text, kind_label, metric_label, number, scale

_FEW_ITEMS = 200


def limits(comparison: Comparison) -> list[str]:
    """What a reader must not take from these figures, each sentence true of this very comparison."""
    return [
        text
        for text in (
            *_not_measured(comparison),
            _sample(comparison),
            _multiplicity(comparison),
            _training(comparison),
            _constant(comparison),
            _judge(comparison),
            "The n-gram metrics compare words with references. They see neither whether a differently worded answer "
            "is right nor whether a fluent one is wrong; read the examples.",
            _domain(comparison),
        )
        if text
    ]


def _not_measured(comparison: Comparison) -> list[str]:
    """One sentence a reason, with all the metrics that it holds for."""
    systems = [system["name"] for system in comparison["systems"]]
    metrics: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for metric, reasons in comparison["not_measured"].items():
        for why in dict.fromkeys(reasons.values()):
            who = tuple(name for name in systems if reasons.get(name) == why)
            metrics.setdefault((why, who), []).append(metric_label(metric))
    found = []
    for (why, who), names in metrics.items():
        of = "" if len(who) == len(systems) else f" of {listed(who)}"
        found.append(f"Not measured: {', '.join(names)}{of} ({why}). Nothing here speaks of them.")
    return found


def _sample(comparison: Comparison) -> str:
    metric, items, groups = headline_metric(comparison), comparison["items"], comparison["groups"]
    if metric is None:
        return ""
    least = [test["comparison"]["minimal_detectable"] for test in tests_of(comparison) if test["metric"] == metric]
    least = [value for value in least if value is not None]
    text = f"The test set has {items_text(items)}"
    text += f" in {groups:,} independent groups. " if groups < items else ". "
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


def _multiplicity(comparison: Comparison) -> str:
    found = comparison["comparison"]
    size, alpha = found["family_size"], 1 - found["settings"]["confidence"]
    if size < 2:
        return "One test was made, so nothing had to be corrected; tests on other metrics afterwards would not be."
    return (
        f"{size:,} tests were made together. The verdicts are corrected for that (Holm: the chance of even one false "
        f"finding stays below {alpha:.0%}); intervals are not corrected, so among many some exclude 0 by chance. "
        "Metrics and systems left out of this comparison are not counted."
    )


def _training(comparison: Comparison) -> str:
    seeds = {system["name"]: len(system["seeds"]) for system in comparison["systems"]}
    trained = {system["name"] for system in comparison["systems"] if system["arm"] not in ("teacher", "majority")}
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


def _constant(comparison: Comparison) -> str:
    share = 100 * comparison["constant_answer"]["share"]
    if share < 2:
        return ""
    answer = comparison["constant_answer"]["answer"]
    answer = answer if len(answer) <= 60 else f"{answer[:57]}…"
    return (
        f"Always answering “{answer}” would be right on {number(share)}% of the items: what lies at or below that "
        "needs no reading of the question."
    )


def _judge(comparison: Comparison) -> str:
    if not comparison["judge"]:
        return ""
    return (
        "Judged metrics are opinions of one language model. How steady it is stands under the judge's reliability; "
        "whether it is right, only people can say."
    )


def _domain(comparison: Comparison) -> str:
    kinds: Mapping[str, int] = comparison["kinds"]
    text = "All items come from one test set; nothing is said about questions unlike them, or of another domain."
    if len(kinds) < 2:
        return text
    parts = [f"{kind_label(kind)} {count:,}" for kind, count in sorted(kinds.items(), key=lambda pair: -pair[1])]
    return f"{text} It holds: {listed(parts, most=8)}."


def methods(comparison: Comparison) -> list[str]:
    """How the figures were made, as a paper would want it."""
    found, settings = comparison["comparison"], comparison["comparison"]["settings"]
    test = {"randomisation": "approximate randomisation", "bootstrap": "the paired bootstrap"}[found["family_test"]]
    drawn = "Items of one group are drawn together. " if settings["groups"] < settings["items"] else ""
    texts = [
        f"Intervals are {settings['confidence']:.0%} bootstrap intervals over {settings['resamples']:,} draws of the "
        f"items, the same draws for all systems (seed {settings['seed']}). {drawn}Corpus metrics are resampled from "
        "their counts.",
        f"p-values are two-sided, by {test}, adjusted by Holm over {found['family_size']:,} tests (Benjamini–Hochberg, "
        "Wilcoxon and, for right or wrong, McNemar stand in comparison.json). Effect size is Cohen's d_z of the "
        f"per-item differences. Detectable differences and needed items are for {settings['power']:.0%} power at the "
        f"{settings['alpha']:.0%} level, for one test alone.",
    ]
    if found["friedman"]:
        texts.append("Ranks are compared by Friedman's test with Nemenyi's critical difference after it.")
    versions = ", ".join(f"{name} {version}" for name, version in comparison["versions"].items())
    return [*texts, f"Versions: {versions}."]


def signatures(comparison: Comparison) -> dict[str, str]:
    """Metric in print -> signature."""
    about: Mapping[str, Mapping[str, Any]] = comparison["metrics"]
    return {metric_label(name): figures["signature"] for name, figures in about.items()}
