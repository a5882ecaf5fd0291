"""The monitor as the gateway knows it: an observer that returns at once, and threads that do the work."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from queue import Empty, Full, Queue
from typing import Any

from understudy.database import DATABASE_FAULTS
from understudy.monitor.alerts import Alerts, Thresholds
from understudy.monitor.config import MonitorConfig
from understudy.monitor.drift import DriftWatch
from understudy.monitor.figures import Figures
from understudy.monitor.reference import Reference
from understudy.monitor.shadow import Asked, LiveAgreement, Pair, ShadowSample, ShadowWorker, agreement_from
from understudy.monitor.signals import Observation
from understudy.monitor.store import MonitorStore, Shadow, question_of
from understudy.serve.exchange import Exchange, Thumb

log = logging.getLogger("understudy.monitor")
_WAITING, _TOGETHER = 10_000, 200
_VECTORS = "/v1/embeddings"
_STATE_SECONDS, _FORGET_SECONDS = 2.0, 3600.0


class Monitor:
    """Watches finished requests.

    `finished` costs the gateway a queue's lock. A thread writes what waits in one transaction, then looks at it;
    another asks the teacher. A request that is in the database is there after a kill; the last few that wait in memory
    are not.

    Args:
        store: where requests go.
        config: what is kept and looked for.
        reference: what is usual; None: drift is not looked for.
        teacher: answers sampled requests; None: no shadow.
        names: of the student in use and the candidate, as the database calls them.
        seed: of the coins; None: nobody can foresee them.
    """

    def __init__(
        self,
        store: MonitorStore,
        config: MonitorConfig,
        *,
        reference: Reference | None = None,
        teacher: Asked | None = None,
        names: tuple[str, str] = ("student", ""),
        seed: int | None = None,
    ) -> None:
        self.store, self.config, self.figures = store, config, Figures()
        self.alerts, self._thresholds = Alerts(store, config.alerts.webhook), Thresholds(config.alerts)
        self._drift = DriftWatch(reference, every=config.alerts.false_alarm_every) if reference else None
        self._sample, self._coin = ShadowSample(config, seed=seed), random.Random(seed)
        self._lock, self._news = threading.Lock(), threading.Event()
        self._shadow = self._shadow_worker(teacher)
        self.begin(names)
        self._queue: Queue[Exchange | Callable[[], None] | None] = Queue(_WAITING)
        self._said = self._forgotten = 0.0
        self._thread = threading.Thread(target=self._work, name="monitor", daemon=True)
        self._thread.start()

    def _shadow_worker(self, teacher: Asked | None) -> ShadowWorker | None:
        if teacher is None:
            return None
        return ShadowWorker(teacher, self.store, waiting=self.config.shadow.waiting, told=self._shadowed)

    def begin(self, names: tuple[str, str], current: Asked | None = None, candidate: Asked | None = None) -> None:
        """Compare these two from here on; what the database knows of them already counts.

        Args:
            names: of the student in use, and of the candidate or empty.
            current: asks the student in use.
            candidate: asks the candidate.
        """
        known = agreement_from(self.store.shadows(), self._sample.min_probability, self.config.canary.alpha, *names)
        with self._lock:
            self.agreement: LiveAgreement = known
            if self._shadow is not None:
                self._shadow.pair = Pair(names, current, candidate)
        self._news.set()

    def finished(self, exchange: Exchange) -> None:
        """A request is over; returns at once."""
        if not self.config.on:
            return
        try:
            self._queue.put_nowait(exchange)
        except Full:
            self.figures.lost.inc()

    def thumbed(self, thumb: Thumb) -> None:
        """A thumb was given: on the disk when this returns."""
        if not self.config.on:
            return
        self.store.write_thumb(thumb)
        self.figures.thumbs.labels(thumb.verdict).inc()

    def _work(self) -> None:
        ending = False
        while not ending:
            try:
                entries = [self._queue.get(timeout=_STATE_SECONDS)]
            except Empty:
                # The teacher may have answered since the last request came.
                self._say()
                continue
            while len(entries) < _TOGETHER and not self._queue.empty():
                entries.append(self._queue.get())
            ending = None in entries
            self._take([entry for entry in entries if isinstance(entry, Exchange)])
            for _ in entries:
                self._queue.task_done()

    def _take(self, exchanges: list[Exchange]) -> None:
        self._news.set()
        sampled = [(exchange, self._sample.probability(exchange)) for exchange in exchanges]
        sampled = [(e, p if self._shadow is not None and p > 0 and self._sample.draw(p) else 0.0) for e, p in sampled]
        # Whoever wants vectors asks nothing that a student could be taught to answer.
        asked = [(e, p) for e, p in sampled if e.endpoint != _VECTORS]
        kept = [e for e, p in asked if p or e.status >= 500 or self._coin.random() < self.config.sample]
        try:
            if kept:
                self.store.write(kept)
        except DATABASE_FAULTS as error:
            self.figures.lost.inc(len(kept))
            log.error("%d requests were not written: %s", len(kept), type(error).__name__)
        for exchange, probability in sampled:
            self._look_at(exchange, probability)
        self._say()

    def _look_at(self, exchange: Exchange, probability: float) -> None:
        try:
            self.figures.count(exchange)
            if probability and self._shadow is not None:
                outcome = "asked" if self._shadow.put(exchange, probability) else "passed over"
                self.figures.shadow.labels(outcome).inc()
            for rule, message in self._thresholds.update(exchange):
                self._alert(rule, message)
            if exchange.status < 400 and exchange.answer is not None:
                self._look_at_texts(exchange)
        except Exception:
            log.exception("a request could not be looked at")

    def _look_at_texts(self, exchange: Exchange) -> None:
        question, student = question_of(exchange)[0], exchange.student_answer or exchange.answer or ""
        self.figures.look_at(question, student)
        if self._drift is None:
            return
        for alarm in self._drift.update(Observation(question, student, exchange.confidence)):
            self._alert(f"drift:{alarm.rule.name}", f"{alarm.rule.words} (request {alarm.request})")

    def _shadowed(self, shadow: Shadow | None) -> None:
        """The teacher has answered, or not."""
        if shadow is None:
            self.figures.shadow.labels("failed").inc()
        else:
            self._compare(shadow)
        self._news.set()

    def _compare(self, shadow: Shadow) -> None:
        with self._lock:
            if self._shadow is None or (shadow.current, shadow.candidate) != self._shadow.pair.names:
                # Of the students before the last change: in the database, and of no more interest.
                return
            before = self.agreement.interval
            changed = self.agreement.update(shadow)
            interval, canary = self.agreement.interval, self.agreement.difference
        for bound in ("estimate", "lower", "upper"):
            self.figures.agreement.labels(bound).set(getattr(interval, bound))
        least = self.config.alerts.min_agreement
        if least is not None and interval.upper < least:
            self._alert("agreement", f"agreement with the teacher is below {least:.2f}: at most {interval.upper:.3f}")
        if changed:
            was = f"{before.estimate:.3f} [{before.lower:.3f}, {before.upper:.3f}] over {before.n} requests"
            self._alert("agreement_changed", f"agreement with the teacher is no longer {was}; a new interval begins")
        if canary.n:
            self._say_canary(canary)

    def _say_canary(self, canary: Any) -> None:
        for bound in ("difference", "lower", "upper"):
            self.figures.canary.labels(bound).set(getattr(canary, bound))
        if canary.verdict != "undecided":
            words = f"{canary.difference:+.3f} [{canary.lower:+.3f}, {canary.upper:+.3f}] over {canary.n} requests"
            self._alert(f"canary:{canary.verdict}", f"the {canary.verdict} agrees more with the teacher: {words}")

    def _alert(self, rule: str, message: str) -> None:
        if self.alerts.raise_alert(rule, message):
            self.figures.alerts.labels(rule).inc()

    def _say(self) -> None:
        """The state in the database, now and then; what is too old, every hour."""
        now = time.monotonic()
        if self._news.is_set() and (now - self._said > _STATE_SECONDS or not self._said):
            self._said = now
            self._news.clear()
            self.say_state()
        if now - self._forgotten > _FORGET_SECONDS or not self._forgotten:
            self._forgotten = now
            try:
                self.store.forget_old()
            except DATABASE_FAULTS as error:
                log.error("old requests were not deleted: %s", type(error).__name__)

    def state(self) -> dict[str, Any]:
        """What is known now, as JSON."""
        with self._lock:
            state = self.agreement.state()
        drift = self._drift
        state["drift"] = drift.levels if drift else None
        state["psi"] = asdict(drift.topic_stability()) if drift and drift.num_requests else None
        shadow = self._shadow.waiting if self._shadow else 0
        return state | {"queues": {"requests": self._queue.qsize(), "shadow": shadow}, "time": time.time()}

    def say_state(self) -> None:
        """Write it down, and into the figures."""
        state = self.state()
        for rule, level in (state["drift"] or {}).items():
            self.figures.drift.labels(rule).set(level)
        for bound in ("psi", "lower", "upper") if state["psi"] else ():
            self.figures.psi.labels(bound).set(state["psi"][bound])
        for queue, waiting in state["queues"].items():
            self.figures.waiting.labels(queue).set(waiting)
        state["psi"] = state["psi"] and {k: (v if v == v and abs(v) < 1e9 else None) for k, v in state["psi"].items()}
        try:
            self.store.write_state(state)
        except DATABASE_FAULTS as error:
            log.error("the state was not written: %s", type(error).__name__)

    def drain(self) -> None:
        """Wait until all that came is written and looked at, and the teacher has answered."""
        self._queue.join()
        if self._shadow is not None:
            self._shadow.drain()
        self.say_state()

    def close(self) -> None:
        """Finish what waits, and let go."""
        self._queue.put(None)
        self._thread.join(60)
        if self._shadow is not None:
            self._shadow.close()
        self.say_state()
        self.alerts.close()
        self.store.close()
