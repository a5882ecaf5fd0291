"""What an analysis finds, as plain rows that become JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from understudy.metrics.significance.agreement import RaterAgreement
from understudy.metrics.significance.bootstrap import Interval
from understudy.metrics.significance.crossed import FixedEffect
from understudy.metrics.significance.preferences import Strength
from understudy.metrics.significance.rank_tests import DunnPair, KruskalWallis
from understudy.metrics.significance.results import Effect, Result
from understudy.study.attention import Attention


@dataclass(frozen=True, slots=True)
class MethodMean(Result):
    """One method's mean of one outcome.

    Attributes:
        method: name.
        outcome: name.
        mean: over its ratings; the interval is a bootstrap's over raters.
        weighted: the same with the items' sampling weights, which speaks of the questions that items were drawn from;
            None where all weigh the same.
        counts: rating -> how often it was given; of quality empty.
    """

    method: str
    outcome: str
    mean: Interval
    weighted: Interval | None
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PairFinding(Result):
    """Two methods on one outcome; every difference is a minus b.

    Attributes:
        outcome: name.
        a: one method.
        b: the other.
        difference: of the means of ratings that are freed of rater and item.
        p_value: of the permutation test.
        p_ranks: the same on ranks.
        holm: p corrected over outcomes × pairs.
        holm_ranks: the same on ranks.
        model: the difference by the mixed model with its interval; None where it could not be fitted.
        length_free: the same at equal length; None where lengths are not known.
        effect: Vargha and Delaney's A of a over b.
        better: the method that is significantly better after correction, or None.
    """

    outcome: str
    a: str
    b: str
    difference: float
    p_value: float
    p_ranks: float
    holm: float
    holm_ranks: float
    model: FixedEffect | None
    length_free: FixedEffect | None
    effect: Effect
    better: str | None


@dataclass(frozen=True, slots=True)
class OutcomeFinding(Result):
    """One outcome over all methods.

    Attributes:
        name: of it.
        any_method: p of the permutation test of all methods together.
        any_method_ranks: the same on ranks.
        kruskal: as published: Kruskal and Wallis' test.
        dunn: as published: Dunn's test, corrected by Bonferroni.
        dunn_holm: the same, corrected by Holm.
        alpha: Krippendorff's, ordinal, over explanations that several people rated.
        text_icc: ICC(1) of explanations: what raters share.
        rater_icc: ICC(1) of raters: the share of variance that is the rater's habit.
        variances: of rater, item and noise in the mixed model with length where it is known; empty without a fit.
        length: change of the rating with 100 more characters; None where not known.
    """

    name: str
    any_method: float
    any_method_ranks: float
    kruskal: KruskalWallis
    dunn: tuple[DunnPair, ...]
    dunn_holm: tuple[DunnPair, ...]
    alpha: RaterAgreement
    text_icc: RaterAgreement
    rater_icc: RaterAgreement
    variances: Mapping[str, float]
    length: FixedEffect | None


@dataclass(frozen=True, slots=True)
class Findings(Result):
    """All that a set of ratings shows.

    Attributes:
        raters: how many people.
        explanations: how many were rated, each rating row once.
        items: how many items.
        fewest: explanations of whoever rated fewest.
        most: of whoever rated most.
        means: one a method and outcome.
        outcomes: one an outcome.
        pairs: one a pair and outcome.
        family_size: how many tests were corrected together.
        cronbach: alpha of the constructs as one scale; NaN with one construct.
        lengths: method -> mean length of what was rated, in characters; empty where not known.
        notes: what to know before reading it.
    """

    raters: int
    explanations: int
    items: int
    fewest: int
    most: int
    means: tuple[MethodMean, ...]
    outcomes: tuple[OutcomeFinding, ...]
    pairs: tuple[PairFinding, ...]
    family_size: int
    cronbach: float
    lengths: Mapping[str, float]
    notes: tuple[str, ...]

    def outcome(self, name: str) -> OutcomeFinding:
        """One outcome by its name."""
        return next(outcome for outcome in self.outcomes if outcome.name == name)

    def mean(self, method: str, outcome: str) -> MethodMean:
        """One mean."""
        return next(row for row in self.means if (row.method, row.outcome) == (method, outcome))


@dataclass(frozen=True, slots=True)
class PreferencePair(Result):
    """Two methods that were shown side by side.

    Attributes:
        a: one.
        b: the other.
        chosen: choices for a, ties half.
        shown: how often the two were shown together.
        share: of choices for a, with the bootstrap's interval over raters.
        p_value: of the permutation test that draws sides anew.
        holm: corrected over the pairs.
        better: which is significantly preferred, or None.
    """

    a: str
    b: str
    chosen: float
    shown: int
    share: Interval
    p_value: float
    holm: float
    better: str | None


@dataclass(frozen=True, slots=True)
class PreferenceFindings(Result):
    """All preferences.

    Attributes:
        raters: how many people.
        choices: how many.
        strengths: by Bradley and Terry's model.
        pairs: one a pair.
        first_share: share of choices for whatever stood first; 0.5 is no habit.
    """

    raters: int
    choices: int
    strengths: tuple[Strength, ...]
    pairs: tuple[PreferencePair, ...]
    first_share: Interval


@dataclass(frozen=True, slots=True)
class MethodAccuracy(Result):
    """How often a method's answers are right.

    Attributes:
        method: name.
        accuracy: share of right answers with its interval over items.
        source: `run`: all test items of its run; `study`: the study's items, by their weights.
    """

    method: str
    accuracy: Interval
    source: str


@dataclass(frozen=True, slots=True)
class JudgeConstruct(Result):
    """A judge beside people on one construct.

    Attributes:
        construct: name.
        texts: explanations that both rated.
        missing: explanations without a verdict.
        spearman: rank correlation of the judge's ratings with people's means.
        low: lower bound of its interval.
        high: upper bound.
        alpha: Krippendorff's, ordinal, of the judge and one person at a time: as if the judge were one more rater.
        people_alpha: Krippendorff's of people among themselves.
        bias: mean of the judge minus mean of people.
        method_bias: method -> the judge minus people on it.
    """

    construct: str
    texts: int
    missing: int
    spearman: float | None
    low: float | None
    high: float | None
    alpha: RaterAgreement
    people_alpha: RaterAgreement
    bias: float
    method_bias: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class JudgeFindings(Result):
    """A judge beside people.

    Attributes:
        judge: its name.
        signature: judge, prompt, version.
        asked: questions put to it.
        constructs: one a construct, quality last.
    """

    judge: str
    signature: str
    asked: int
    constructs: tuple[JudgeConstruct, ...]


@dataclass(frozen=True, slots=True)
class Settings(Result):
    """How an analysis was made.

    Attributes:
        draws: of the permutation tests of two methods.
        confidence: level of the intervals.
        alpha: level of the tests.
        resamples: of the bootstraps.
        seed: of all of them.
        mechanism: what was drawn anew: `design` or `within raters`.
    """

    draws: int
    confidence: float
    alpha: float
    resamples: int
    seed: int
    mechanism: str


@dataclass(frozen=True, slots=True)
class StudyAnalysis(Result):
    """All that is said of a study.

    Attributes:
        title: of it.
        simulated: whether no person gave the answers.
        methods: names.
        constructs: name -> statement; the name again where no statement is known.
        planned: raters and explanations a rater that the design has; None without a design.
        settings: how it was made.
        attention: who was left out.
        main: ratings by the rules that the study states; of everybody where it states none.
        other: the other way: of everybody, or without those whom the default rules leave out; None where it is the
            same.
        foresight: forward simulation; None where there was none.
        preferences: None where there were none.
        accuracies: of the methods, where known.
        judge: beside people; None where none was asked.
        registered: what is known of the preregistration, in a sentence; empty without a study.
    """

    title: str
    simulated: bool
    methods: tuple[str, ...]
    constructs: Mapping[str, str]
    planned: tuple[int, int] | None
    settings: Settings
    attention: Attention
    main: Findings | None
    other: Findings | None
    foresight: Findings | None
    preferences: PreferenceFindings | None
    accuracies: tuple[MethodAccuracy, ...]
    judge: JudgeFindings | None
    registered: str
