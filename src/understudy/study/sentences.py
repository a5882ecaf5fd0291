"""What a study's report says in sentences: the verdict, how it was made, what it does not show."""

from __future__ import annotations

from collections.abc import Sequence

from understudy import __version__
from understudy.metrics.significance.bootstrap import Interval
from understudy.metrics.significance.crossed import FixedEffect
from understudy.report.formatting import in_a_sentence, number, p_text
from understudy.study.findings import Findings, PairFinding, StudyAnalysis
from understudy.study.ratings import QUALITY

SIMULATED = "Simulated ratings: no person gave them. They show what the analysis does, and nothing about explanations."


def outcome_label(name: str) -> str:
    """An outcome's name in print."""
    return name.replace("_", " ").capitalize()


def main_outcome(found: Findings) -> str:
    """The outcome that the verdict is about: quality, or the first construct where there is one alone."""
    names = [outcome.name for outcome in found.outcomes]
    return QUALITY if QUALITY in names else names[0]


def names(values: Sequence[str]) -> str:
    """Names in a sentence: a, b and c."""
    return " and ".join([", ".join(values[:-1]), values[-1]] if len(values) > 1 else list(values))


def points(figure: Interval | FixedEffect, digits: int = 2, *, sign: bool = False) -> str:
    """A figure with its interval."""
    return f"{number(figure.value, digits, sign=sign)} ({bounds(figure, digits, sign=sign)})"


def bounds(figure: Interval | FixedEffect, digits: int = 2, *, sign: bool = False) -> str:
    """The interval alone."""
    if figure.low != figure.low:
        return "no interval"
    return f"{number(figure.low, digits, sign=sign)} to {number(figure.high, digits, sign=sign)}"


def verdict(analysis: StudyAnalysis) -> tuple[str, list[str], str]:
    """Heading, sentences, and the tone of the headline."""
    if analysis.main is None:
        return _preference_verdict(analysis)
    found = analysis.main
    outcome = main_outcome(found)
    rows = [pair for pair in found.pairs if pair.outcome == outcome]
    better = [pair for pair in rows if pair.better]
    label = in_a_sentence(outcome_label(outcome))
    sentences = [_significant(pair, label) for pair in better]
    if len(better) < len(rows):
        open_pairs = [f"{pair.a} and {pair.b}" for pair in rows if not pair.better]
        sentences.append(f"Not shown to differ in {label}: {'; '.join(open_pairs)}.")
    sentences += _other_constructs(found, outcome)
    sentences += _with_and_without(analysis)
    return _heading(better, rows, label), sentences, "better" if better else ""


def _heading(better: Sequence[PairFinding], rows: Sequence[PairFinding], label: str) -> str:
    if not better:
        return f"No method's explanations are shown to be rated higher in {label}"
    winners = {pair.better for pair in better}
    beaten = {pair.b if pair.better == pair.a else pair.a for pair in better}
    best = sorted(name for name in winners - beaten if name)
    if len(best) == 1:
        others = sorted(pair.b if pair.better == pair.a else pair.a for pair in better if pair.better == best[0])
        return f"{best[0]} is rated higher in {label} than {names(others)}"
    return f"Methods differ in {label}: {len(better)} of {len(rows)} pairs"


def _significant(pair: PairFinding, label: str) -> str:
    worse = pair.b if pair.better == pair.a else pair.a
    sign = 1 if pair.better == pair.a else -1
    text = f"{pair.better} against {worse}: {number(sign * pair.difference, 2, sign=True)} points of {label}"
    if pair.length_free is not None:
        text += f", {number(sign * pair.length_free.value, 2, sign=True)} at equal length"
    return f"{text} (corrected {p_text(pair.holm)})."


def _other_constructs(found: Findings, outcome: str) -> list[str]:
    others = [row.name for row in found.outcomes if row.name != outcome]
    if not others:
        return []
    parts = []
    for name in others:
        count = sum(pair.better is not None for pair in found.pairs if pair.outcome == name)
        parts.append(f"{name} {count}")
    total = len({(pair.a, pair.b) for pair in found.pairs})
    return [f"Pairs that differ significantly, of {total}: {', '.join(parts)}."]


def _with_and_without(analysis: StudyAnalysis) -> list[str]:
    if analysis.main is None or analysis.other is None:
        return []
    changed = [
        f"{one.outcome}: {one.a} and {one.b}"
        for one, other in zip(analysis.main.pairs, analysis.other.pairs, strict=True)
        if one.better != other.better
    ]
    who = "with everybody in" if analysis.attention.stated else "without inattentive raters"
    if not changed:
        return [f"The same pairs differ significantly {who}."]
    return [f"Otherwise {who}: {'; '.join(changed)}."]


def _preference_verdict(analysis: StudyAnalysis) -> tuple[str, list[str], str]:
    found = analysis.preferences
    if found is None:
        return "No ratings and no preferences", ["Raters' guesses at the answers stand below."], ""
    better = [pair for pair in found.pairs if pair.better]
    sentences = []
    for pair in better:
        worse = pair.b if pair.better == pair.a else pair.a
        share = pair.share.value if pair.better == pair.a else 1 - pair.share.value
        sentences.append(
            f"{pair.better} is preferred to {worse} in {number(100 * share, 0)}% of {pair.shown} choices "
            f"(corrected {p_text(pair.holm)})."
        )
    if len(better) < len(found.pairs):
        open_pairs = [f"{pair.a} and {pair.b}" for pair in found.pairs if not pair.better]
        sentences.append(f"Not shown to differ: {'; '.join(open_pairs)}.")
    heading = f"{len(better)} of {len(found.pairs)} pairs differ" if better else "No method is shown to be preferred"
    return heading, sentences, "better" if better else ""


def methods_text(analysis: StudyAnalysis) -> list[str]:
    """How the study was made and analysed, with the actual figures, ready for a paper."""
    settings, paragraphs = analysis.settings, []
    level = f"{100 * settings.confidence:g}%"
    if analysis.simulated:
        paragraphs.append(SIMULATED)
    paragraphs.append(_who(analysis))
    if analysis.main is not None:
        paragraphs += [_rating_methods(analysis, analysis.main, level), _published_methods()]
    if analysis.preferences is not None:
        paragraphs.append(
            f"Preferences ({analysis.preferences.choices:,} choices of {analysis.preferences.raters} raters) were "
            "tested pair by pair by drawing anew which of the two stood first, as the design had drawn it, with the "
            "chosen side fixed; p-values were corrected by Holm's method. Strengths are those of Bradley and Terry's "
            f"model, with {level} intervals of a bootstrap over raters."
        )
    if analysis.foresight is not None:
        paragraphs.append(
            f"Foresight ({analysis.foresight.explanations:,} guesses) was tested as ratings were, on 0 and 1, and "
            "corrected by itself."
        )
    paragraphs.append(f"Computed with understudy {__version__}, seed {settings.seed}.")
    return paragraphs


def _who(analysis: StudyAnalysis) -> str:
    attention, found = analysis.attention, analysis.main
    kept = attention.raters - len(attention.left_out)
    text = f"{attention.raters} {'simulated raters' if analysis.simulated else 'people'} took part"
    if analysis.planned:
        text += f" ({analysis.planned[0]} places of {analysis.planned[1]} each were planned)"
    if attention.left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in attention.by_reason.items())
        text += (
            f"; by rules stated beforehand {len(attention.left_out)} were left out ({reasons}) and {kept} remain"
            if attention.stated
            else f"; none is left out of the main result, for no rules were stated beforehand (by the default rules "
            f"{len(attention.left_out)} would be: {reasons})"
        )
    text += "."
    if found is not None:
        text += (
            f" Each rated {found.fewest} to {found.most} explanations of {len(analysis.methods)} methods, "
            f"{found.explanations:,} in all, of {found.items} items, on {len(analysis.constructs)} construct(s)."
        )
    return f"{text} {analysis.registered}".strip()


def _rating_methods(analysis: StudyAnalysis, found: Findings, level: str) -> str:
    settings = analysis.settings
    draw = (
        "methods were drawn anew as the design had drawn them, the seats of the two methods shared out between them "
        "with raters, items and positions as they were"
        if settings.mechanism == "design"
        else "the two methods' labels were permuted among what a rater rated, for no assignment was at hand"
    )
    length = (
        " and the length of the explanation in characters, as fixed effects; differences are given without and with "
        "length"
        if found.lengths
        else " as a fixed effect"
    )
    return (
        "Each two methods were compared on each outcome by a permutation test: ratings were freed of rater and item by "
        f"least squares, and {draw} ({settings.draws:,} draws; statistic: difference of the means; two-sided). "
        f"p-values were corrected by Holm's method over all {found.family_size} tests at {100 * settings.alpha:g}%. "
        f"The same was done on ranks. Differences and their {level} intervals are those of a linear mixed model with "
        f"raters and items as crossed random effects (restricted likelihood), and method{length}. Means have {level} "
        f"bootstrap intervals over raters ({settings.resamples:,} draws). Agreement is Krippendorff's ordinal alpha "
        f"and ICC(1)."
    )


def _published_methods() -> str:
    return (
        "As published elsewhere, and for comparison only, there are Kruskal and Wallis' test of each outcome, Dunn's "
        "test with Bonferroni's and with Holm's correction, and Vargha and Delaney's A. These take the ratings of one "
        "person as independent of each other."
    )


def limits(analysis: StudyAnalysis) -> list[str]:
    """What the figures do not show."""
    texts = []
    if analysis.simulated:
        texts.append(SIMULATED)
    found = analysis.main
    if found is not None:
        texts += _rating_limits(analysis, found)
    if analysis.preferences is not None and abs(analysis.preferences.first_share.value - 0.5) > 0.1:
        share = number(100 * analysis.preferences.first_share.value, 0)
        texts.append(f"Whatever stood first was chosen in {share}% of the cases: raters have a habit of side.")
    if analysis.settings.mechanism != "design":
        texts.append(
            "There is no assignment at hand. The tests take it that each rater was shown the methods in random order; "
            "if the design did something else, their p-values are not exact."
        )
    texts.append("A difference that is not shown is not shown to be none: look at its interval.")
    texts.append("Ratings say what people think of explanations, not whether these are true of the model.")
    return texts


def _rating_limits(analysis: StudyAnalysis, found: Findings) -> list[str]:
    texts = [f"{note}." for note in found.notes]
    if found.lengths and max(found.lengths.values()) > 1.25 * min(found.lengths.values()):
        parts = ", ".join(f"{name} {number(length, 0)}" for name, length in found.lengths.items())
        texts.append(
            f"Methods write at different length (mean characters: {parts}). Differences at equal length lean on the "
            "model's straight line; only texts matched in length would show them."
        )
    if any(row.weighted is not None for row in found.means):
        texts.append(
            "Items were drawn within strata. Tests and unweighted means speak of the items that were shown; weighted "
            "means of the questions they were drawn from."
        )
    if len({row.source for row in analysis.accuracies}) > 1:
        texts.append("Accuracies are of different items: some of a whole run, some of the study's items.")
    texts.append(
        "The mixed model has no slopes: if raters differ in what they think of a method, its intervals are somewhat "
        "too short. The permutation tests do not lean on it."
    )
    return texts
