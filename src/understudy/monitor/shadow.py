"""A share of the traffic is answered by the teacher too, behind the user's back and never in their way."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from queue import Empty, Full, Queue
from typing import Any

from understudy.metrics.sequential.canary import CanaryResult, PairedCanary
from understudy.metrics.sequential.confidence_sequence import ConfidenceSequence, LiveInterval
from understudy.monitor.config import MonitorConfig
from understudy.monitor.signals import agreement
from understudy.monitor.store import MonitorStore, Shadow
from understudy.serve.exchange import Exchange

log = logging.getLogger("understudy.monitor")

Asked = Callable[[Exchange], str]
"""Answers a request once more; raises whatever it likes where it cannot."""
Agreement = Callable[[str, str], float]


class ShadowSample:
    """Which requests the teacher sees: by a coin whose probability was known before.

    In a cascade the teacher has answered the unsure ones already; those were certain to be sampled.

    Args:
        config: the shares.
        seed: of the coin; None: nobody can foresee it.
    """

    def __init__(self, config: MonitorConfig, *, seed: int | None = None) -> None:
        self._shadow, self._coin = config.shadow, random.Random(seed)

    @property
    def min_probability(self) -> float:
        """The least probability above 0 with which anything is sampled; 1 where nothing is."""
        shares = [self._shadow.share, self._shadow.unsure_share or self._shadow.share]
        return min([share for share in shares if share > 0], default=1.0)

    def probability(self, exchange: Exchange) -> float:
        """With which it is shown to the teacher; 0 for requests that have no answer."""
        if exchange.status >= 400 or exchange.answer is None:
            return 0.0
        if exchange.decision == "asked" and exchange.student_answer is not None:
            return 1.0
        unsure = exchange.confidence is not None and exchange.confidence < self._shadow.unsure_below
        return (self._shadow.unsure_share if unsure else None) or self._shadow.share

    def draw(self, probability: float) -> bool:
        """Whether this one is."""
        return self._coin.random() < probability


class LiveAgreement:
    """Agreement of the student in use with the teacher, and of a candidate beside it.

    The interval is about an agreement that stays the same. Once no value fits any more, it begins anew: from there on
    it holds at all times again, whatever was before. An agreement that does stay the same is given up so with
    probability 0.05 at most.

    Args:
        min_probability: the least with which a request is sampled.
        alpha: of the canary.
    """

    def __init__(self, min_probability: float, alpha: float) -> None:
        self.least = min_probability
        self.sequence = ConfidenceSequence(min_probability=min_probability)
        self.canary = PairedCanary(alpha=alpha, min_probability=min_probability)
        self.since: float | None = None

    def update(self, shadow: Shadow) -> bool:
        """Take a sampled request; whether no value fits any more, and the interval has begun anew."""
        probability = max(shadow.probability, self.least)
        if shadow.candidate_agreement is not None:
            self.canary.update(shadow.agreement, shadow.candidate_agreement, probability)
        if self.sequence.update(shadow.agreement, probability).consistent:
            return False
        self.since, self.sequence = shadow.at or time.time(), ConfidenceSequence(min_probability=self.least)
        return True

    @property
    def interval(self) -> LiveInterval:
        """The agreement so far.

        While it moves and is not known to have moved, the mean of all may lie beyond the bounds; these are widened to
        it, for what is likeliest must not look impossible.
        """
        now = self.sequence.interval
        if math.isnan(now.estimate):
            return now
        return replace(now, lower=min(now.lower, now.estimate), upper=max(now.upper, now.estimate))

    @property
    def difference(self) -> CanaryResult:
        """Candidate minus current so far, with bounds as those of `interval`."""
        now = self.canary.result
        if math.isnan(now.difference):
            return now
        return replace(now, lower=min(now.lower, now.difference), upper=max(now.upper, now.difference))

    def state(self) -> dict[str, Any]:
        """As JSON; `since`: when the interval has begun anew, in seconds since 1970."""
        canary = asdict(self.difference)
        return {
            "agreement": _finite(asdict(self.interval)) | {"since": self.since},
            "canary": _finite(canary) if canary["n"] else None,
        }


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value != value else value for name, value in values.items()}


@dataclass(frozen=True)
class Pair:
    """The students that are compared with the teacher.

    Attributes:
        names: of the student in use and the candidate, empty without one.
        current: asks the student in use, for requests that the candidate has answered.
        candidate: asks the candidate; None without one.
    """

    names: tuple[str, str] = ("student", "")
    current: Asked | None = None
    candidate: Asked | None = None


class ShadowWorker:
    """Asks the teacher, and the candidate where there is one, in a thread; what does not fit into its queue is lost.

    A request that is lost because the queue is full was not sampled, as if the coin had said no. That keeps the
    interval right as long as the student is not worse when there is much to do; losses are counted.

    Args:
        teacher: answers a request.
        store: where shadows go.
        waiting: requests that may wait.
        told: gets each shadow when it is on the disk, or None where there was none.
        name: of the teacher.
        compare: how far two answers agree, in [0, 1].
    """

    def __init__(
        self,
        teacher: Asked,
        store: MonitorStore,
        *,
        waiting: int,
        told: Callable[[Shadow | None], None],
        name: str = "teacher",
        compare: Agreement = agreement,
    ) -> None:
        self._teacher, self._store, self._told, self._compare, self._name = teacher, store, told, compare, name
        self.pair = Pair()
        self._queue: Queue[tuple[Exchange, float]] = Queue(waiting)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return self._queue.qsize()

    def put(self, exchange: Exchange, probability: float) -> bool:
        """Hand a request on; False where the queue is full. Returns at once."""
        try:
            self._queue.put_nowait((exchange, probability))
        except Full:
            return False
        return True

    def _work(self) -> None:
        while not (self._closing.is_set() and self._queue.empty()):
            try:
                exchange, probability = self._queue.get(timeout=0.2)
            except Empty:
                continue
            try:
                shadow = self.shadow_of(exchange, probability)
                self._store.write([exchange], [shadow])
                self._told(shadow)
            except Exception as error:
                # A teacher that is down must not end the watching; its words may hold a key and are not logged.
                log.warning("a shadow failed: %s", type(error).__name__)
                self._told(None)
            finally:
                self._queue.task_done()

    def shadow_of(self, exchange: Exchange, probability: float) -> Shadow:
        """Ask whoever has not answered yet, and compare both students with the teacher."""
        pair = self.pair
        taught = exchange.decision == "asked" and exchange.student_answer is not None
        teacher = (exchange.answer or "") if taught else self._teacher(exchange)
        said = (exchange.student_answer if taught else exchange.answer) or ""
        tried = exchange.source == "candidate"
        current = pair.current(exchange) if tried and pair.current else said
        candidate = said if tried else pair.candidate(exchange) if pair.candidate else None
        return Shadow(
            exchange.id,
            probability,
            self._name,
            teacher,
            self._compare(current, teacher),
            pair.names[0],
            pair.names[1],
            candidate,
            None if candidate is None else self._compare(candidate, teacher),
        )

    def drain(self) -> None:
        """Wait until nothing waits."""
        self._queue.join()

    def close(self) -> None:
        """Answer what waits, and end."""
        self._closing.set()
        self._thread.join(30)


def agreement_from(shadows: Sequence[Any], least: float, alpha: float, current: str, candidate: str) -> LiveAgreement:
    """What was known of these two before a restart, from the database; of a further pair nothing is.

    Args:
        shadows: rows of the database, in the order in which they came.
        least: least probability that requests are sampled with.
        alpha: of the canary.
        current: the student in use.
        candidate: the one beside it; empty without one.
    """
    live = LiveAgreement(least, alpha)
    for row in shadows:
        if row.current != current or row.probability < least * (1 - 1e-9):
            continue
        other = row.candidate_agreement if candidate and row.candidate == candidate else None
        shadow = Shadow(row.request, row.probability, row.teacher, "", row.agreement, current, "", None, other, row.at)
        live.update(shadow)
    return live
