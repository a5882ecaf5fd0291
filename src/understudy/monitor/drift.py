"""All rules of drift on one stream, with one promise: together a false alarm in so many requests at most."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from understudy.metrics.sequential.shift import ShiftDetector, edges_of
from understudy.metrics.sequential.two_samples import Stability, stability
from understudy.monitor.reference import BLOCK, RULES, Features, Reference, Rule, block_rows
from understudy.monitor.signals import Observation

Array = NDArray[np.float64]

FALSE_ALARM_EVERY = 70_000
"""Mean number of requests to a false alarm of any rule, at least: a week at 10,000 a day."""
PSI_WINDOW = 1000


@dataclass(frozen=True, slots=True)
class DriftAlarm:
    """A rule says that the stream has changed.

    Attributes:
        rule: which.
        request: number of the request, counted from 1.
    """

    rule: Rule
    request: int


def threshold_of(rule: Rule, rules: Sequence[Rule] = RULES, every: float = FALSE_ALARM_EVERY) -> float:
    """c_j with Σ_j 1/(b_j c_j) = 1/every: each of k rules has an equal part of the false alarms, block b or not."""
    return every * len(rules) / rule.block


class DriftWatch:
    """Watches a stream of requests against a reference.

    Requests without a confidence are not seen by the rule about it, and it is left out where the reference has none.

    Args:
        reference: what is usual.
        every: mean number of requests to a false alarm, at least, of all rules together.
        seed: of the order among equal scores.
    """

    def __init__(self, reference: Reference, *, every: float = FALSE_ALARM_EVERY, seed: int = 0) -> None:
        self._reference, self.num_requests = reference, 0
        self._detectors = dict(_detectors(reference, every, seed))
        self._block: list[Features] = []
        self._topics: list[int] = []

    @property
    def levels(self) -> dict[str, float]:
        """How near each rule is to an alarm, in [0, 1]."""
        return {rule.name: detector.level for rule, detector in self._detectors.items()}

    def update(self, row: Observation) -> list[DriftAlarm]:
        """Take one request; the alarms that it raises."""
        self.num_requests += 1
        features = self._reference.features([row])
        scores = {name: float(values[0]) for name, values in self._reference.request_scores([row], features).items()}
        scores |= self._of_block(features)
        seen = ((rule, scores[rule.name]) for rule in self._detectors if rule.name in scores)
        return [
            DriftAlarm(rule, self.num_requests)
            for rule, score in seen
            if not np.isnan(score) and self._detectors[rule].update(score)
        ]

    def _of_block(self, features: Features) -> dict[str, float]:
        """Scores of the block that this request completes; none where it completes none."""
        self._block.append(features)
        self._topics = [*self._topics[1 - PSI_WINDOW :], int(features.topics[0])]
        if len(self._block) < BLOCK:
            return {}
        block, self._block = Features.joined(self._block), []
        return self._reference.block_scores(block)

    def topic_stability(self) -> Stability:
        """PSI of the topics of the last 1000 questions, with its interval; looked at once it holds 95%."""
        usual = self._reference.topic_counts
        return stability(np.bincount(self._topics, minlength=len(usual)), usual)


def _detectors(reference: Reference, every: float, seed: int) -> Iterator[tuple[Rule, ShiftDetector]]:
    samples = calibrated(reference)
    for number, (rule, (first, second)) in enumerate(samples.items()):
        threshold = threshold_of(rule, list(samples), every)
        detector = ShiftDetector(
            edges_of(first), second, direction=rule.direction, threshold=threshold, seed=seed + number
        )
        yield rule, detector


def calibrated(reference: Reference) -> dict[Rule, tuple[Array, Array]]:
    """Scores of both halves of a reference by each rule that it has something to say to."""
    halves = [reference.features(part) for part in (reference.rows, reference.calibration)]
    singles = [reference.own_scores(), reference.request_scores(reference.calibration, halves[1])]
    samples: dict[Rule, tuple[Array, Array]] = {}
    for rule in RULES:
        if rule.block > 1:
            first, second = (block_rows(half, reference.block_scores, rule.name) for half in halves)
        else:
            first, second = (single[rule.name][~np.isnan(single[rule.name])] for single in singles)
        if len(first) and len(second):
            samples[rule] = first, second
    return samples
