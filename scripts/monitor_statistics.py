"""How often the monitor's statistics are wrong, and how soon they see what has changed: simulations, as JSON.

    python scripts/monitor_statistics.py --out docs/results/monitor_statistics.json [--small]

Coverage, errors and power are of drawn numbers; run lengths and delays of real questions, drawn with replacement from
a pool: the embedded telecom questions, or with --pool a CSV with columns `Question` and `Candidate Answer 1`; with
--other a file of another domain (JSON lines, the question first). The detectors are those of the product.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import chi2

from understudy.data.embedded.telecom import generate, load_facts
from understudy.files import write_json
from understudy.metrics.sequential.canary import PairedCanary, UnpairedCanary
from understudy.metrics.sequential.confidence_sequence import HedgedCapital, RunningMeanSequence
from understudy.metrics.sequential.shift import ConformalRanks, EDetector, edges_of
from understudy.monitor.drift import FALSE_ALARM_EVERY, calibrated, threshold_of
from understudy.monitor.reference import BLOCK, Features, Reference
from understudy.monitor.signals import Observation

LOG_20 = math.log(20)


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
    for design in ("paired", "unpaired"):
        for difference in (0.0, 0.03, 0.05, 0.1):
            verdicts, delays = {"candidate": 0, "current": 0, "undecided": 0}, []
            for _ in range(runs):
                verdict, at = _one_canary(rng, design, difference, steps)
                verdicts[verdict] += 1
                delays.append(at)
            row = {"design": design, "difference": difference, "steps": steps, "runs": runs}
            rows.append({**row, **verdicts, "median_requests": float(np.median(delays))})
    return rows


def _one_canary(rng: np.random.Generator, design: str, difference: float, steps: int) -> tuple[str, int]:
    """Agreement 0.8 of the current student; the two are right together in most cases (correlation about ½)."""
    shared, own = rng.random(steps), rng.random((2, steps))
    same = rng.random(steps) < 0.5
    first, second = (np.where(same, shared, column) for column in own)
    values = (first < 0.8).astype(float), (second < 0.8 + difference).astype(float)
    if design == "paired":
        paired = PairedCanary()
        for step in range(steps):
            if (verdict := paired.update(values[0][step], values[1][step]).verdict) != "undecided":
                return verdict, step + 1
    else:
        unpaired, chosen = UnpairedCanary(min_share=0.5), rng.random(steps) < 0.5
        for step in range(steps):
            value = values[int(chosen[step])][step]
            verdict = unpaired.update(value, candidate=bool(chosen[step]), share=0.5).verdict
            if verdict != "undecided":
                return verdict, step + 1
    return "undecided", steps


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
        "references": references,
        "reference_rows": rows,
        "promised": FALSE_ALARM_EVERY,
    }


def delays(
    pool: Sequence[Observation], shifted: dict[str, Sequence[Observation]], references: int, streams: int, rows: int
) -> list[dict[str, Any]]:
    """Requests after a change until any rule says so, and the share of streams within 500."""
    result = []
    for name in shifted:
        waits, first = [], {}
        for seed in range(references):
            traffic = Traffic(pool, shifted, 100 + seed, rows)
            clean = 500
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


def embedded_pool() -> list[Observation]:
    """Questions of the embedded set with their answers, and a confidence drawn once for each."""
    splits = generate()
    examples = [row for row in (*splits.train, *splits.unlabelled, *splits.dev, *splits.test) if row.answers]
    return _with_confidence([(row.question, row.answers[0]) for row in examples])


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pool", type=Path)
    parser.add_argument("--other", type=Path)
    parser.add_argument("--small", action="store_true", help="a tenth of the runs")
    options = parser.parse_args()
    begun, scale = time.time(), 10 if options.small else 1
    pool = table_pool(options.pool) if options.pool else embedded_pool()
    shifted = {"other language": german(pool), "truncated prompts": truncated(pool)}
    if options.other:
        shifted["other telecom domain"] = other_domain(options.other, pool)
    if options.other:
        foreign = shifted["other telecom domain"]
        shifted["one request in five of it"] = [*foreign, *(pool * 5)[: 4 * len(foreign)]]
    result = {
        "pool": options.pool.name if options.pool else "embedded:telecom",
        "questions": len(pool),
        "coverage": [*coverage(5000 // scale, 2000), moving_coverage(500 // scale, 1000)],
        "canary": canary(1000 // scale, 2000),
        "run_length": run_length(pool, 5, 40 // scale, 10_000, 1000),
        "delays": delays(pool, shifted, 5, 40 // scale, 1000),
    }
    write_json(options.out, result)
    print(json.dumps(result, indent=1), f"\n{time.time() - begun:.0f} s")


if __name__ == "__main__":
    main()
