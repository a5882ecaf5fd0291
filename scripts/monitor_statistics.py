"""How often the monitor's statistics are wrong, and how soon they see what has changed: simulations, as JSON.

    python scripts/monitor_statistics.py --out docs/results/monitor_statistics.json [--scale 0.1]

Coverage, errors and power are of drawn numbers; run lengths and delays of real questions, drawn with replacement from
a pool: the embedded telecom questions without those about radio, which are the other domain; or with --pool a CSV with
columns `Question` and `Candidate Answer 1`, and with --other a file of another domain (JSON lines, the question first).
The detectors are those of the product. `checks` says of each promise whether it was kept; the command fails where one
was not.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binom, chi2

from understudy.data.embedded.telecom import generate, load_facts
from understudy.files import write_json
from understudy.metrics.sequential.confidence_sequence import HedgedCapital, RunningMeanSequence
from understudy.metrics.sequential.shift import ConformalRanks, EDetector, edges_of
from understudy.monitor.drift import FALSE_ALARM_EVERY, calibrated, threshold_of
from understudy.monitor.reference import BLOCK, Features, Reference
from understudy.monitor.signals import Observation

DILUTED = "one request in five of it"
LOG_20 = math.log(20)
RADIO = ("nr_bands", "five_qi")
"""Topics of the embedded questions that are the other domain."""


def coverage(runs: int, steps: int, seed: int = 0) -> list[dict[str, Any]]:
    """Share of sequences whose interval holds the mean at every one of the steps, by design."""
    rng, rows = np.random.default_rng(seed), []
    designs: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
        "binary 0.8, one probability": lambda: _weighted(rng, runs, 0.8, varied=False),
        "binary 0.8, by confidence": lambda: _weighted(rng, runs, 0.8, varied=True),
        "binary 0.98, by confidence": lambda: _weighted(rng, runs, 0.98, varied=True),
        "beta(8, 2)": lambda: (rng.beta(8, 2, runs), np.ones(runs)),
    }
    means = {"beta(8, 2)": 0.8}
    for name, draw in designs.items():
        true = means.get(name, 0.98 if "0.98" in name else 0.8)
        capital, missed = HedgedCapital(np.full(runs, true)), np.zeros(runs, bool)
        for _ in range(steps):
            capital.update(*draw())
            missed |= capital.log_capital >= LOG_20
        rows.append({"design": name, "runs": runs, "steps": steps, "covered": float(1 - missed.mean())})
    return rows


def _weighted(rng: np.random.Generator, runs: int, mean: float, *, varied: bool) -> tuple[np.ndarray, np.ndarray]:
    """One request each: unsure ones are wrong more often and sampled ten times as often."""
    if not varied:
        return (rng.random(runs) < mean).astype(float), np.ones(runs)
    unsure = rng.random(runs) < 0.1
    wrong = (1 - mean) * np.where(unsure, 5, 5 / 9)
    value = (rng.random(runs) >= wrong).astype(float)
    probability = np.where(unsure, 0.5, 0.05)
    return value, (rng.random(runs) < probability) * 0.05 / probability


def moving_coverage(runs: int, steps: int, seed: int = 1) -> dict[str, Any]:
    """The same of the average so far, where the agreement falls from 0.9 to 0.6 over the steps."""
    rng, held = np.random.default_rng(seed), 0
    for _ in range(runs):
        sequence, total, good = RunningMeanSequence(min_probability=0.2), 0.0, True
        for step in range(steps):
            mean = 0.9 - 0.3 * step / steps
            total += mean
            sampled, agrees = rng.random() < 0.2, float(rng.random() < mean)
            interval = sequence.update(agrees if sampled else None, 0.2)
            good &= interval.lower <= total / (step + 1) <= interval.upper
        held += good
    return {"design": "0.9 falling to 0.6, probability 0.2", "runs": runs, "steps": steps, "covered": held / runs}


def canary(runs: int, steps: int, seed: int = 2) -> list[dict[str, Any]]:
    """Share of verdicts of a paired and an unpaired canary, looked at after every request."""
    rng, rows = np.random.default_rng(seed), []
    for design, differences_of in (("paired", paired_differences), ("unpaired", unpaired_differences)):
        for difference in (0.0, 0.03, 0.05, 0.1):
            better, at = verdicts(differences_of(*_answers(rng, difference, (steps, runs)), rng))
            counts = {"candidate": better == 1, "current": better == -1, "undecided": better == 0}
            row = {"design": design, "difference": difference, "steps": steps, "runs": runs}
            row |= {name: int(hits.sum()) for name, hits in counts.items()}
            rows.append({**row, "median_requests": float(np.median(at))})
    return rows


def _answers(rng: np.random.Generator, difference: float, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Agreement 0.8 of the current student; the two are right together in most cases (correlation about ½)."""
    shared, own, same = rng.random(shape), rng.random((2, *shape)), rng.random(shape) < 0.5
    first, second = (np.where(same, shared, column) for column in own)
    return (first < 0.8).astype(float), (second < 0.8 + difference).astype(float)


def paired_differences(current: np.ndarray, candidate: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What `PairedCanary` tests, mapped to [0, 1]: `[steps, runs]`."""
    return (candidate - current + 1) / 2


def unpaired_differences(current: np.ndarray, candidate: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What `UnpairedCanary(min_share=0.5)` tests, mapped to [0, 1]: `[steps, runs]`."""
    chosen = rng.random(current.shape) < 0.5
    value = np.where(chosen, candidate, current)
    before = np.cumsum(np.vstack([np.full(value.shape[1], 0.5), value]), axis=0)[:-1]
    foreseen = before / np.arange(1, len(value) + 1)[:, None]
    return np.clip(((value - foreseen) * np.where(chosen, 1, -1) + 1) / 2, 0, 1)


def verdicts(differences: np.ndarray, alpha: float = 0.05) -> tuple[np.ndarray, np.ndarray]:
    """The first verdict of each run – 1 candidate, −1 current, 0 none – and the request at which it came.

    The test of `PairedCanary` and `UnpairedCanary`, for all runs at once and without their intervals.
    """
    steps, runs = differences.shape
    test, better, at = HedgedCapital(np.full(runs, 0.5), alpha=alpha), np.zeros(runs, int), np.full(runs, steps)
    for step, values in enumerate(differences):
        test.update(values)
        new = (better == 0) & (test.log_evidence >= math.log(1 / alpha))
        better[new], at[new] = np.where(test.up > test.down, 1, -1)[new], step + 1
    return better, at


class Traffic:
    """Scores of a pool of requests under one reference, drawn from the same pool, for many streams at once."""

    def __init__(self, pool: Sequence[Observation], shifted: dict[str, Sequence[Observation]], seed: int, rows: int):
        self.rng = np.random.default_rng(seed)
        self.reference = Reference([pool[place] for place in self.rng.integers(len(pool), size=rows)], seed=seed)
        self.samples = calibrated(self.reference)
        self.tables = {name: self._table(requests) for name, requests in {"": pool, **shifted}.items()}

    def _table(self, requests: Sequence[Observation]) -> tuple[Features, dict[str, np.ndarray]]:
        features = self.reference.features(requests)
        return features, self.reference.request_scores(requests, features)

    def alarms(self, streams: int, steps: int, shift: str = "", clean: int = 0) -> np.ndarray:
        """Requests since the change at which each stream raised its alarms `[streams, blocks, rules]`, block by block.

        An alarm before the change counts as one; detectors start anew after each.
        """
        rules = list(self.samples)
        ranks, bets = {}, {}
        for rule, (first, second) in self.samples.items():
            ranks[rule] = ConformalRanks(edges_of(first), np.tile(second, (streams, 1)))
            bets[rule] = EDetector(rule.direction, threshold_of(rule, rules), streams=streams)
        total = np.zeros((streams, (clean + steps) // BLOCK, len(rules)), bool)
        for block in range(total.shape[1]):
            features, scores = self.tables["" if block * BLOCK < clean else shift]
            draws = self.rng.integers(len(features.topics), size=(streams, BLOCK))
            blocks = [self.reference.block_scores(features[row]) for row in draws]
            for number, rule in enumerate(rules):
                columns = scores[rule.name][draws].T if rule.block == 1 else [[row[rule.name] for row in blocks]]
                for column in columns:
                    p = ranks[rule].p_values(column, self.rng.uniform(size=streams))
                    total[:, block, number] |= bets[rule].update(p)
        return total


def run_length(pool: Sequence[Observation], references: int, streams: int, steps: int, rows: int) -> dict[str, Any]:
    """Requests to a false alarm of any rule, over several references; bounds by the Poisson law of rare events."""
    alarms, requests = 0, 0
    for seed in range(references):
        # Rules that alarm in the same block are one alarm.
        hits = Traffic(pool, {}, seed, rows).alarms(streams, steps)
        alarms += int(hits.any(axis=2).sum())
        requests += streams * steps
    lower = 2 * requests / chi2.ppf(0.975, 2 * alarms + 2)
    return {
        "requests": requests,
        "false_alarms": alarms,
        "mean_run_length": requests / alarms if alarms else None,
        "lower_95": float(lower),
        "upper_95": float(2 * requests / chi2.ppf(0.025, 2 * alarms)) if alarms else None,
        "references": references,
        "reference_rows": rows,
        "promised": FALSE_ALARM_EVERY,
    }


def delays(
    pool: Sequence[Observation], shifted: dict[str, Sequence[Observation]], references: int, streams: int, rows: int
) -> list[dict[str, Any]]:
    """Requests after a change until any rule says so, and the share of streams within 500."""
    result = []
    traffics = [Traffic(pool, shifted, 100 + seed, rows) for seed in range(references)]
    for name in shifted:
        waits, first, clean = [], {}, 500
        for traffic in traffics:
            hits = traffic.alarms(streams, 500, name, clean)[:, clean // BLOCK :]
            any_rule = hits.any(axis=2)
            waits += [(row.argmax() + 1) * BLOCK if row.any() else math.inf for row in any_rule]
            for number, rule in enumerate(traffic.samples):
                first[rule.name] = first.get(rule.name, 0) + int(hits[:, :, number].any(axis=1).sum())
        array = np.array(waits)
        share = float((array <= 500).mean())
        low = {rule: count / len(array) for rule, count in first.items() if count}
        row = {"shift": name, "streams": len(array), "within_500": share, "median_requests": float(np.median(array))}
        result.append({**row, "p95_requests": float(np.quantile(array, 0.95, method="higher")), "rules": low})
    return result


def embedded_pools() -> tuple[list[Observation], list[Observation]]:
    """Questions of the embedded set with the answers of their facts and a confidence drawn once for each; those about
    radio, which are another domain, apart.
    """
    splits, facts = generate(), {fact.id: fact for fact in load_facts()}
    parts: tuple[list, list] = ([], [])
    for row in (*splits.train, *splits.unlabelled, *splits.dev, *splits.test):
        fact = facts[row.meta["fact"][-1]]
        parts[fact.topic in RADIO].append((row.question, fact.answer))
    usual = _with_confidence(parts[0])
    return usual, reworded(usual, [question for question, _ in parts[1]])


def _with_confidence(pairs: Sequence[tuple[str, str]]) -> list[Observation]:
    drawn = np.random.default_rng(3).beta(6, 2, len(pairs))
    return [Observation(*pair, float(value)) for pair, value in zip(pairs, drawn, strict=True)]


def table_pool(path: Path) -> list[Observation]:
    """Questions and first answers of a CSV."""
    with path.open(encoding="utf-8", newline="") as handle:
        return _with_confidence([(row["Question"], row["Candidate Answer 1"]) for row in csv.DictReader(handle)])


def other_domain(path: Path, pool: Sequence[Observation], most: int = 2000) -> list[Observation]:
    """Questions of a file of JSON arrays, the question first, answered and trusted as the pool's are."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    return reworded(pool, [json.loads(line)[0] for line in lines[:most]])


def german(pool: Sequence[Observation]) -> list[Observation]:
    """Questions about the embedded facts in German."""
    ways = ("Was bedeutet {}?", "Erklären Sie kurz, wofür {} steht.", "Welche Aufgabe hat {} im Mobilfunknetz?")
    subjects = sorted({fact.subject for fact in load_facts()})
    return reworded(pool, [way.format(subject) for subject in subjects for way in ways])


def truncated(pool: Sequence[Observation], share: float = 0.5) -> list[Observation]:
    """The same questions without their second half."""
    return [Observation(row.question[: int(len(row.question) * share)], row.answer, row.confidence) for row in pool]


def reworded(pool: Sequence[Observation], questions: Sequence[str]) -> list[Observation]:
    """Other questions with the pool's answers and confidences: only the input has changed."""
    return [
        Observation(question, pool[number % len(pool)].answer, pool[number % len(pool)].confidence)
        for number, question in enumerate(questions)
    ]


def checks(result: dict[str, Any]) -> dict[str, bool]:
    """The promises. Of a share, what its 95% interval still allows counts as kept; one that is diluted has none."""
    equal = [row for row in result["canary"] if row["difference"] == 0]
    shifts = [row for row in result["delays"] if row["shift"] != DILUTED]
    length = result["run_length"]
    return {
        "coverage at all times at least 95%": all(
            _at_least(row["covered"], 0.95, row["runs"]) for row in result["coverage"]
        ),
        "a canary of equal students errs in at most 5%": all(
            _at_least(row["undecided"] / row["runs"], 0.95, row["runs"]) for row in equal
        ),
        "a candidate that is better is never called worse in more than 5%": all(
            _at_least(1 - row["current"] / row["runs"], 0.95, row["runs"]) for row in result["canary"]
        ),
        f"mean run length to a false alarm at least {FALSE_ALARM_EVERY}": length["upper_95"] is None
        or length["upper_95"] >= FALSE_ALARM_EVERY,
        "a shift is found within 500 requests in 95%": all(
            _at_least(row["within_500"], 0.95, row["streams"]) for row in shifts
        ),
    }


def _at_least(share: float, promised: float, runs: int) -> bool:
    """Whether a share of runs is not significantly below what was promised (binomial, 2.5%)."""
    return bool(binom.cdf(round(share * runs), runs, promised) > 0.025)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--scale", type=float, default=1.0, help="this share of runs and references")
    options = parser.parse_args()
    begun = time.time()

    def some(runs: int) -> int:
        return max(1, round(runs * options.scale))

    pool, foreign = (table_pool(options.pool), []) if options.pool else embedded_pools()
    foreign = other_domain(options.other, pool) if options.other else foreign
    shifted = {"other language": german(pool), "truncated prompts": truncated(pool)}
    if foreign:
        shifted["other telecom domain"] = foreign
        shifted[DILUTED] = [*foreign, *(pool * 5)[: 4 * len(foreign)]]
    result: dict[str, Any] = {
        "pool": options.pool.name if options.pool else "embedded:telecom",
        "questions": len(pool),
        "coverage": [*coverage(some(10_000), 5000), moving_coverage(some(2000), 1000)],
        "canary": canary(some(2000), 4000),
        "run_length": run_length(pool, some(20), 40, 10_000, 1000),
        "delays": delays(pool, shifted, some(20), 40, 1000),
    }
    result["checks"] = checks(result)
    write_json(options.out, result)
    print(json.dumps(result, indent=1), f"\n{time.time() - begun:.0f} s")
    sys.exit(not all(result["checks"].values()))


if __name__ == "__main__":
    main()
