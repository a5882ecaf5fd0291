"""Systems side by side: every figure with its interval, every pair tested, and what it would take to be sure.

`compare.py` answers what distillation added within one run; this module sets any systems side by side – arms, runs,
runs with several seeds, files of other tools – and leaves the statistics to `understudy.metrics.significance`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from statistics import mean, stdev
from typing import Any

from understudy import __version__
from understudy.arms import contrasts
from understudy.errors import ConfigError, DataError
from understudy.evaluation.disagreements import disagreements
from understudy.evaluation.scoring import Scored
from understudy.metrics.registry import JUDGED
from understudy.metrics.significance import SystemsComparison, compare_many
from understudy.metrics.significance.mixed import seeds_model

_MODELLED = ("exact_match", "token_f1", "rougeL", "choice_accuracy", "answer_correctness")

_PACKAGES = ("sacrebleu", "rouge-score", "nltk", "bert-score", "sentence-transformers", "numpy", "scipy", "statsmodels")


@dataclass(frozen=True)
class SideBySide:
    """What a comparison of systems found.

    Attributes:
        scored: the systems, their items and their scores.
        found: the tests, of the pairs that were asked for.
        settings: resamples, confidence, seed.
    """

    scored: Scored
    found: SystemsComparison
    settings: Mapping[str, Any]

    def to_dict(self, *, examples: int = 3) -> dict[str, Any]:
        """JSON-able: all that tables and report are made of, with up to `examples` items a contest."""
        scored, settings = self.scored, self.settings
        return {
            "systems": [
                {"name": s.name, "origin": s.origin, "arm": s.arm, "seeds": list(scored.by_seed.get(s.name, ()))}
                for s in scored.systems
            ],
            "items": len(scored.rows),
            "groups": len(set(scored.groups)),
            "kinds": dict(Counter(row["kind"] for row in scored.rows if row.get("kind"))),
            "metrics": scored.metrics(),
            "not_measured": {name: dict(reasons) for name, reasons in scored.not_measured.items()},
            "table": {
                name: {metric: interval.to_dict() for metric, interval in row.items()}
                for name, row in scored.intervals(**settings).items()
            },
            "comparison": self.found.to_dict(),
            "seeds": _seeds(scored),
            "seeds_model": _seeds_models(scored, settings["confidence"]),
            "judge": _judge(scored),
            "constant_answer": _constant_answer(scored),
            "examples": _examples(scored, self.found, examples),
            "notes": [*scored.notes, *_resolution(self.found)],
            "versions": versions(),
        }


def side_by_side(
    scored: Scored,
    *,
    pairs: Sequence[tuple[str, str]] | None = None,
    baseline: str | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> SideBySide:
    """Test the systems against each other.

    Args:
        scored: two systems or more, measured on the same items.
        pairs: which to test, first minus second; pairs with an absent system are passed over. Default: the arms of a
            run as `arms.contrasts` names them, any other systems all against all.
        baseline: test every system against this one only.
        resamples: draws of the bootstrap and of the randomisation.
        confidence: level of the intervals; 1 − confidence is the level of the tests.
        seed: seed of the draws.

    Raises:
        ConfigError: fewer than two systems, or no such baseline.
    """
    names = [system.name for system in scored.systems]
    if len(names) < 2:
        raise ConfigError(
            f"there is one system only ({names[0]}): nothing to compare it with",
            hint="`understudy evaluate` scores one; give a second run or file to compare",
        )
    if baseline is not None and baseline not in names:
        raise ConfigError(f"no system named {baseline!r}", hint=f"there are: {', '.join(names)}")
    if baseline is not None:
        pairs = [(name, baseline) for name in names if name != baseline]
    elif pairs is None and {"distilled", "sft"} <= set(names) and all(system.arm for system in scored.systems):
        pairs = tuple(contrasts(names))
    settings = {"resamples": resamples, "confidence": confidence, "seed": seed}
    if pairs is not None:
        pairs = [(a, b) for a, b in pairs if a in names and b in names]
    found = compare_many(scored.scores, pairs=pairs, groups=_groups(scored), **settings)
    return SideBySide(scored, found, settings)


def _groups(scored: Scored) -> Sequence[int] | None:
    """Group numbers, where any two items share one."""
    return scored.groups if len(set(scored.groups)) < len(scored.groups) else None


# What else a reader has to know ---------------------------------------------------------------------------------------


def _resolution(found: SystemsComparison) -> list[str]:
    """A warning where so many tests share so few resamples that none could come out significant."""
    least = found.family_size / (found.settings.resamples + 1)
    if least < found.settings.alpha:
        return []
    return [
        f"With {found.settings.resamples:,} resamples no corrected p-value of {found.family_size:,} tests can fall "
        f"below {min(1.0, least):.2f}, so none can be significant: ask for more resamples or fewer metrics"
    ]


def _seeds(scored: Scored) -> dict[str, dict[str, dict[str, Any]]]:
    """System -> metric -> value of each seed, their mean and standard deviation."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for name, by_seed in scored.by_seed.items():
        for metric in scored.scores[name]:
            values = {str(seed): scores[metric].value for seed, scores in by_seed.items()}
            figures = {"values": values, "mean": mean(values.values()), "sd": stdev(values.values())}
            found.setdefault(name, {})[metric] = figures
    return found


def _seeds_models(scored: Scored, confidence: float) -> dict[str, dict[str, Any]]:
    """Metric -> systems set against the first with seeds and items as random effects; only where seeds matter."""
    found = {}
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
            model = seeds_model(runs, baseline=baseline, groups=_groups(scored), confidence=confidence)
            found[metric] = model.to_dict()
    return found


def _judge(scored: Scored) -> dict[str, dict[str, Any]]:
    """Metric -> system -> what a judged metric found out about its judge."""
    found: dict[str, dict[str, Any]] = {}
    for name, scores in scored.scores.items():
        for metric, result in scores.items():
            if metric in JUDGED:
                found.setdefault(metric, {})[name] = dict(result.details)
    return found


def _constant_answer(scored: Scored) -> dict[str, Any]:
    """The one answer that is right most often, and on which share of the items: what reading nothing could score."""
    counts = Counter(answer for row in scored.rows for answer in {text.strip().lower() for text in row["references"]})
    answer, count = min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return {"answer": answer, "share": count / len(scored.rows)}


def _examples(scored: Scored, found: SystemsComparison, limit: int) -> list[dict[str, Any]]:
    """Items on which the systems of the first pairs disagree most, in both directions."""
    pairs = list(dict.fromkeys((test.a, test.b) for test in found.tests))[:2]
    contests = [contest for a, b in pairs for contest in ((a, b), (b, a))]
    shown = dict.fromkeys(name for pair in pairs for name in pair)
    answers = {name: scored.predictions[name] for name in shown}
    return disagreements(answers, contests=contests, limit=limit)


def versions() -> dict[str, str]:
    """Package -> version, of those that compute scores and tests."""
    found = {"understudy": __version__}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
