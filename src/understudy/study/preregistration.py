"""What a study says of itself before its first rater: text to register.

Every figure in it is that of `study.yaml`, and the analysis that it announces is the one that `analysis` makes. What
only the people behind a study know – why, and what they expect – is left open, and says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import combinations

from understudy import __version__
from understudy.study.assignment import wave_size
from understudy.study.attention import in_words
from understudy.study.config import HIGHEST, LOWEST, Language, StudyConfig
from understudy.study.items import StudyItem

PAIR_DRAWS = 4000
"""Draws of the permutation tests of two methods, unless another number is asked for."""

_LATER = (
    "Differences between kinds of items, raters' free text and anything else that is looked at later is exploratory "
    "and will be called so."
)
_STRATA = {
    "right": "every method's answer is right",
    "wrong": "no method's answer is right",
    "mixed": "some methods' answers are right",
    "unknown": "no right answer is known",
}


def preregistration(config: StudyConfig, items: Sequence[StudyItem]) -> str:
    """The text, as Markdown.

    Args:
        config: settings of the study.
        items: its items.
    """
    language = config.languages[0]
    sections = [
        f"# Preregistration: {config.title[language]}",
        _head(config),
        "## Questions and hypotheses\n\n" + _hypotheses(config),
        "## Design\n\n" + _design(config, items),
        "## Measures\n\n" + _measures(config, language),
        "## Sample\n\n" + _sample(config, items),
        "## Exclusions\n\n" + _exclusions(config),
        "## Analysis\n\n" + _analysis(config),
        "## What is not decided here\n\n" + _LATER,
    ]
    return "\n\n".join(section.strip() for section in sections) + "\n"


def _head(config: StudyConfig) -> str:
    return (
        f"Study `{config.id}`, seed {config.seed}, made with understudy {__version__}. This text was written when the "
        "study was made, before anybody was asked anything. Fill in what stands in [brackets], register it, and leave "
        "it as it is from then on."
    )


def _hypotheses(config: StudyConfig) -> str:
    names = ", ".join(config.methods)
    if len(config.methods) < 2:
        return f"There is one method ({names}); nothing is compared. [State what its ratings are to show.]"
    asked = (
        "which of two explanations of one answer people prefer"
        if config.pairwise
        else "how people rate explanations, construct by construct and in their mean (quality)"
    )
    hypothesis = "for each two of them, that it makes no difference whose explanation is shown"
    return (
        f"Compared are {len(config.methods)} methods: {names}. The question is {asked}. The null hypothesis is, "
        f"{hypothesis}; all tests are two-sided.\n\n[State which differences you expect, and why.]"
    )


def _design(config: StudyConfig, items: Sequence[StudyItem]) -> str:
    unit = "pairs of explanations" if config.pairwise else "explanations"
    wave = wave_size(len(items), max(1, len(config.methods)), config.per_rater)
    lines = [
        f"- Items: {len(items)}, {_selection(config)}. {_strata(items)}",
        f"- Raters: {config.raters} places of {config.per_rater} {unit} each; a rater meets an item once and is told "
        "neither a method's name nor how many there are.",
        "- Assignment: balanced incomplete blocks drawn at random; counts by method, item, item × method, position × "
        f"method and rater × method differ by at most one (they are equal after every {wave} raters). "
        "`assignment.jsonl` has it.",
    ]
    if config.length_ratio is not None:
        lines.append(f"- Length: the longest text of an item is at most {config.length_ratio:g} times its shortest.")
    if config.pairwise:
        lines.append("- Sides: each two methods stand either way round equally often.")
    if config.simulation:
        lines.append("- Before rating, a rater reads the explanation without the answer and says what the answer is.")
    return "\n".join(lines)


def _selection(config: StudyConfig) -> str:
    return {
        "random": "drawn at random from those that every method explains",
        "disagreement": "drawn within strata of who answers rightly, as even as the strata allow",
        "all": "all that every method explains",
    }[config.selection]


def _strata(items: Sequence[StudyItem]) -> str:
    counts = Counter(item.stratum for item in items)
    parts = [f"{count} where {_STRATA.get(name, name)}" for name, count in sorted(counts.items())]
    weighted = len({round(item.weight, 9) for item in items}) > 1
    return f"By stratum: {'; '.join(parts)}." + (" Sampling weights are kept in `items.jsonl`." if weighted else "")


def _measures(config: StudyConfig, language: Language) -> str:
    if config.pairwise:
        return "One choice a pair: which of the two explanations is better. There is no tie."
    lines = [f"Agreement from {LOWEST} (not at all) to {HIGHEST} (fully) with:", ""]
    lines += [f"- *{construct.name}*: {construct.statement[language]}" for construct in config.constructs]
    if len(config.constructs) > 1:
        lines += ["", f"*Quality* is the mean of the {len(config.constructs)}."]
    if config.simulation:
        lines += ["", "*Foresight*: whether a rater's guess at the model's answer is the model's answer."]
    return "\n".join(lines)


def _sample(config: StudyConfig, items: Sequence[StudyItem]) -> str:
    total = config.raters * config.per_rater
    kind = "choices" if config.pairwise else "rated explanations"
    return (
        f"{config.raters} raters, {total:,} {kind} in all, {total / max(1, len(items)):.1f} an item. Who leaves early "
        "or is excluded while the study runs is replaced. Data collection ends when every place is finished, or on "
        "[date]. Nobody looks at results before.\n\n[State the smallest difference that would matter, and the power "
        "for it: `understudy study plan` computes it.]"
    )


def _exclusions(config: StudyConfig) -> str:
    rules = "\n".join(f"- {words};" for words in in_words(config.exclusion))
    checks = config.attention_checks
    return (
        f"There are {checks} attention checks a rater{_comprehension(config)}. Left out of the main analysis are\n\n"
        f"{rules}\n\nand unfinished visits keep what they answered. All results are also reported with everybody in."
    )


def _comprehension(config: StudyConfig) -> str:
    if not config.comprehension:
        return ""
    return (
        f", and {len(config.comprehension)} questions about the task beforehand, with {config.comprehension_tries} "
        "tries; who fails them rates nothing"
    )


def _analysis(config: StudyConfig) -> str:
    pairs = len(list(combinations(config.methods, 2)))
    if config.pairwise:
        return (
            "1. For each two methods, a permutation test that draws anew which of the two stands first, as the design "
            "drew it; statistic: choices for one minus choices for the other. "
            f"Holm's correction over the {pairs} pair(s), level 5%.\n"
            "2. Bradley and Terry's model; 95% intervals by a bootstrap over raters."
        )
    several = len(config.constructs) > 1
    outcomes = len(config.constructs) + several
    steps = [
        "For each outcome and each two methods, a permutation test by the design's own assignment: ratings are freed "
        "of rater and item (least squares), and the seats of the two methods are shared out between them anew, as the "
        f"design drew them, {PAIR_DRAWS:,} times; statistic: difference of the means. Holm's correction over "
        f"{outcomes} outcome(s) × {pairs} pair(s) = {outcomes * pairs} tests, level 5%. This is the confirmatory "
        "analysis.",
        "The same with ranks in place of ratings, for those to whom a rating is only an order.",
        "A linear mixed model (restricted likelihood; rater and item as crossed random effects, method and the length "
        "of the explanation as fixed effects): 95% intervals of the differences with and without length.",
        "As published elsewhere, for comparison only: Kruskal–Wallis for each construct, Dunn's test with "
        "Bonferroni's and with Holm's correction, Vargha and Delaney's A. It takes ratings of one person as "
        "independent.",
        "Agreement: Krippendorff's alpha (ordinal) and ICC(1) for each construct.",
    ]
    if config.simulation:
        steps.append("Foresight by the same permutation test, corrected by itself.")
    return "\n".join(f"{number}. {step}" for number, step in enumerate(steps, start=1))
