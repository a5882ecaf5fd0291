"""Systems against each other: every figure with its interval, every pair tested, and what it would take to be sure.

The one engine for all that is compared – the arms of a run, runs, runs with several seeds, files of other tools. The
statistics are those of `understudy.metrics.significance`: intervals by bootstrap, p by randomisation with Holm over all
tests that are shown. For the arms of a run come the parts of its test set and the gap recovered (`slices`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata
from itertools import combinations
from statistics import mean, stdev
from typing import Any

from understudy import __version__
from understudy.arms import ARMS, main_arm
from understudy.arms import contrasts as declared_contrasts
from understudy.errors import ConfigError, DataError, listed
from understudy.evaluation.disagreements import disagreements
from understudy.evaluation.gap import Gap, gaps_recovered
from understudy.evaluation.score_rows import chance
from understudy.evaluation.scoring import Scored
from understudy.evaluation.slices import Slice, slices_of
from understudy.metrics.registry import JUDGED
from understudy.metrics.significance import DEFAULT_RESAMPLING, Resampling, SystemsComparison, compare_many
from understudy.metrics.significance.mixed import seeds_model
from understudy.records import Contest

_MODELLED = ("exact_match", "token_f1", "rougeL", "choice_accuracy", "answer_correctness")

_PACKAGES = ("sacrebleu", "rouge-score", "nltk", "bert-score", "sentence-transformers", "numpy", "scipy", "statsmodels")

_FEW_CLUSTERS = 10


@dataclass(frozen=True)
class Comparison:
    """Systems set against each other.

    Attributes:
        scored: the systems, their items and their scores.
        overall: figures on all items.
        tests: every pair that was asked for, on every metric that both have.
        resampling: draws, level and seed of intervals and tests.
        kinds: kind of question -> figures; without systems where these are no arms of a run.
        gold_facts: `in_gold` and `not_in_gold` -> figures on items whose fact stood, or did not stand, in the gold.
        fields: field of the data (`evaluate.slices`) -> value -> figures.
        gaps: metric -> share of the way from SFT-only to the teacher that the run's own student went.
    """

    scored: Scored
    overall: Slice
    tests: SystemsComparison
    resampling: Resampling
    kinds: Mapping[str, Slice] = field(default_factory=dict)
    gold_facts: Mapping[str, Slice] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, Slice]] = field(default_factory=dict)
    gaps: Mapping[str, Gap] = field(default_factory=dict)

    def to_dict(self, *, examples: int = 3) -> dict[str, Any]:
        """JSON-able: all that tables and report are made of, with up to `examples` items a contest."""
        scored = self.scored
        return {
            "systems": [
                {"name": s.name, "origin": s.origin, "arm": s.arm, "seeds": list(scored.by_seed.get(s.name, ()))}
                for s in scored.systems
            ],
            "metrics": {name: info.to_json() for name, info in scored.metrics().items()},
            "not_measured": {name: dict(reasons) for name, reasons in scored.not_measured.items()},
            "overall": self.overall.to_dict(),
            "comparison": self.tests.to_dict(),
            "kinds": {kind: part.to_dict() for kind, part in self.kinds.items()},
            "gold_facts": {label: part.to_dict() for label, part in self.gold_facts.items()},
            "fields": {
                name: {value: part.to_dict() for value, part in values.items()} for name, values in self.fields.items()
            },
            "gaps": {metric: gap.to_dict() for metric, gap in self.gaps.items()},
            "chance": chance(scored.predictions),
            "seeds": _seeds(scored),
            "seeds_model": _seeds_models(scored, self.resampling.confidence),
            "judge": _judge(scored),
            "constant_answer": _constant_answer(scored),
            "examples": [contest.to_json() for contest in _contests(scored, self.tests, examples)],
            "notes": [*scored.notes, *_few_draws(self.tests), *_few_clusters(self.tests)],
            "versions": versions(),
        }


def compare(
    scored: Scored,
    *,
    contrasts: Sequence[tuple[str, str]] | None = None,
    baseline: str | None = None,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Comparison:
    """Test systems against each other.

    Args:
        scored: two systems or more, measured on the same items.
        contrasts: which to test, first minus second; pairs with an absent system are passed over. Default: the arms of
            a run as `arms.contrasts` names them, any other systems all against all.
        baseline: test every system against this one only.
        resampling: draws of bootstrap and randomisation, their seed, and the level of the intervals; 1 − confidence is
            the level of the tests.

    Raises:
        ConfigError: fewer than two systems, or no such baseline.
    """
    names = [system.name for system in scored.systems]
    tests = compare_many(
        scored.scores,
        contrasts=_contrasts_of(names, scored, contrasts, baseline),
        clusters=scored.shared_clusters,
        resampling=resampling,
    )
    overall = Slice.of(scored, resampling)
    if not scored.are_arms:
        return Comparison(scored, overall, tests, resampling, kinds=slices_of(scored, resampling, empty=True)[0])
    main = main_arm(names)
    kinds, gold_facts, fields = slices_of(scored, resampling, pair=(main, "sft"))
    gaps = gaps_recovered(scored.scores, (main, "sft", "teacher"), scored.clusters, resampling)
    return Comparison(scored, overall, tests, resampling, kinds, gold_facts, fields, gaps)


def _contrasts_of(
    names: Sequence[str], scored: Scored, contrasts: Sequence[tuple[str, str]] | None, baseline: str | None
) -> Sequence[tuple[str, str]] | None:
    """The pairs to test; None for all."""
    if len(names) < 2:
        raise ConfigError(
            f"there is one system only ({names[0]}): nothing to compare it with",
            hint="`understudy evaluate` scores one; give a second run or file to compare",
        )
    if baseline is not None and baseline not in names:
        raise ConfigError(f"no system named {baseline!r}", hint=f"there are: {listed(names)}")
    if baseline is not None:
        return [(name, baseline) for name in names if name != baseline]
    if contrasts is not None:
        return [(a, b) for a, b in contrasts if a in names and b in names]
    if not scored.are_arms:
        return None
    # A run has a report whatever could be measured; only pairs that share a metric can be tested.
    likes = {system.arm: system.like for system in scored.systems if system.like}
    declared = list(declared_contrasts(names, likes)) or list(combinations(names, 2))
    return [(a, b) for a, b in declared if scored.scores[a].keys() & scored.scores[b].keys()]


# What else a reader has to know ---------------------------------------------------------------------------------------


def _few_draws(tests: SystemsComparison) -> list[str]:
    """A warning where so many tests share so few draws that none could come out significant."""
    least = tests.family_size / (tests.settings.resamples + 1)
    if least < tests.settings.alpha:
        return []
    return [
        f"With {tests.settings.resamples:,} resamples no corrected p-value of {tests.family_size:,} tests can fall "
        f"below {min(1.0, least):.2f}, so none can be significant: ask for more resamples or fewer metrics"
    ]


def _few_clusters(tests: SystemsComparison) -> list[str]:
    """A warning where so few groups have few signs to exchange."""
    count = min((test.comparison.groups for test in tests.tests), default=_FEW_CLUSTERS + 1)
    if count > _FEW_CLUSTERS:
        return []
    return [
        f"There are {count} independent groups: no p-value can fall below {2.0 ** (1 - count):.2g} before correction "
        f"(2 of 2^{count} exchanges), and p is exact only where the two systems are alike in every group, not only on "
        "average; intervals over so few groups are often too short"
    ]


def _seeds(scored: Scored) -> dict[str, dict[str, dict[str, Any]]]:
    """System -> metric -> value of each seed, their mean and standard deviation."""
    figures: dict[str, dict[str, dict[str, Any]]] = {}
    for name, by_seed in scored.by_seed.items():
        for metric in scored.scores[name]:
            values = {str(seed): scores[metric].value for seed, scores in by_seed.items()}
            spread = {"values": values, "mean": mean(values.values()), "sd": stdev(values.values())}
            figures.setdefault(name, {})[metric] = spread
    return figures


def _seeds_models(scored: Scored, confidence: float) -> dict[str, dict[str, Any]]:
    """Metric -> systems set against the first with seeds and items as random effects; only where seeds matter."""
    models = {}
    for metric in _MODELLED:
        runs = {
            name: [scores[metric] for scores in by_seed.values() if metric in scores]
            for name, by_seed in scored.by_seed.items()
        }
        runs = {name: seeds for name, seeds in runs.items() if len({score.per_example for score in seeds}) > 1}
        if len(runs) < 2:
            continue
        baseline = next((name for name in runs if name.rpartition(":")[2] == "sft"), None)
        with suppress(DataError):
            model = seeds_model(runs, baseline=baseline, clusters=scored.shared_clusters, confidence=confidence)
            models[metric] = model.to_dict()
    return models


def _judge(scored: Scored) -> dict[str, dict[str, Any]]:
    """Metric -> system -> what a judged metric found out about its judge."""
    details: dict[str, dict[str, Any]] = {}
    for name, scores in scored.scores.items():
        for metric, result in scores.items():
            if metric in JUDGED:
                details.setdefault(metric, {})[name] = dict(result.details)
    return details


def _constant_answer(scored: Scored) -> dict[str, Any]:
    """The one answer that is right most often, and on which share of the items: what reading nothing could score."""
    counts = Counter(answer for row in scored.rows for answer in {text.strip().lower() for text in row.references})
    answer, count = min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return {"answer": answer, "share": count / len(scored.rows)}


def _contests(scored: Scored, tests: SystemsComparison, limit: int) -> list[Contest]:
    """Items on which the systems of the first pairs disagree most, in both directions; for a run its teacher too."""
    contrasts_tested = list(dict.fromkeys((test.a, test.b) for test in tests.tests))
    contests = [contest for a, b in contrasts_tested[: 1 if scored.are_arms else 2] for contest in ((a, b), (b, a))]
    names = dict.fromkeys(name for contest in contests for name in contest)
    if scored.are_arms:
        contests += [(a, b) for a, b in contrasts_tested if a == "teacher" and b in names][:1]
        names = {name: None for name in scored.predictions if name not in ARMS or ARMS[name].model}
    return disagreements({name: scored.predictions[name] for name in names}, contests=contests, limit=limit)


def versions() -> dict[str, str]:
    """Package -> version, of those that compute scores and tests."""
    installed = {"understudy": __version__}
    for name in _PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            installed[name] = metadata.version(name)
    return installed
