"""Figures for Prometheus. Names end in their unit; labels are few and never what a client chooses freely."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from understudy.monitor.signals import is_refusal, repetition
from understudy.serve.exchange import Exchange

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_SHARES = tuple(step / 10 for step in range(1, 10))
_LENGTHS = (10, 30, 100, 300, 1000, 3000, 10_000)


class Figures:
    """Counters, gauges and histograms of one watching process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._new(Counter, "requests", "Finished requests.", "source", "status", "decision")
        self.tokens = self._new(Counter, "tokens", "Tokens read and written.", "kind")
        self.seconds = self._new(Histogram, "request_seconds", "From arrival to the last token.", buckets=_SECONDS)
        self.first = self._new(Histogram, "first_token_seconds", "To the first token sent.", buckets=_SECONDS)
        self.rate = self._new(Gauge, "tokens_per_second", "Tokens written a second, of the last request.")
        self.confidence = self._new(Histogram, "confidence", "Of the student.", buckets=_SHARES)
        self.question = self._new(Histogram, "question_characters", "Length of questions.", buckets=_LENGTHS)
        self.answer = self._new(Histogram, "answer_characters", "Length of answers.", buckets=_LENGTHS)
        self.refusals = self._new(Counter, "refusals", "Answers that say nothing.")
        self.repetition = self._new(Histogram, "repetition_share", "Repeated 3-grams of answers.", buckets=_SHARES)
        self.thumbs = self._new(Counter, "thumbs", "Thumbs of users.", "verdict")
        self.alerts = self._new(Counter, "alerts", "Alerts.", "rule")
        self.drift = self._new(Gauge, "drift_level", "How near a rule of drift is to an alarm, 0 to 1.", "rule")
        self.psi = self._new(Gauge, "topic_psi", "PSI of the topics, the last 1000 questions.", "bound")
        self.shadow = self._new(Counter, "shadow", "Requests shown to the teacher.", "outcome")
        self.agreement = self._new(Gauge, "shadow_agreement", "With the teacher; bounds hold at all times.", "bound")
        self.waiting = self._new(Gauge, "queue", "Entries that wait, by queue.", "queue")
        self.load = self._new(Gauge, "gateway_answers", "Answers under way; in local engines too.", "state")
        self.load_now: Callable[[], Mapping[str, int]] | None = None
        self.lost = self._new(Counter, "unwritten", "Requests that could not be written.")
        self.canary = self._new(Gauge, "canary_difference", "Candidate minus current, in agreement.", "bound")

    def _new(self, kind: Any, name: str, words: str, *labels: str, **options: Any) -> Any:
        return kind(f"understudy_{name}", words, labels, registry=self.registry, **options)

    def watch_load(self, load: Callable[[], Mapping[str, int]]) -> None:
        """Ask a gateway for its load whenever somebody looks."""
        self.load_now = load
        for state in load():
            self.load.labels(state).set_function(lambda state=state: load()[state])

    def count(self, exchange: Exchange) -> None:
        """Take a finished request."""
        self.requests.labels(exchange.source, str(exchange.status), exchange.decision).inc()
        self.tokens.labels("read").inc(exchange.prompt_tokens)
        self.tokens.labels("written").inc(exchange.completion_tokens)
        self.tokens.labels("teacher").inc(exchange.teacher_tokens)
        self.seconds.observe(exchange.seconds)
        if exchange.first_seconds is not None:
            self.first.observe(exchange.first_seconds)
        if exchange.completion_tokens and exchange.seconds > 0:
            self.rate.set(exchange.completion_tokens / exchange.seconds)
        if exchange.confidence is not None:
            self.confidence.observe(exchange.confidence)

    def look_at(self, question: str, answer: str) -> None:
        """Take the texts of an answered request."""
        self.question.observe(len(question))
        self.answer.observe(len(answer))
        self.repetition.observe(repetition(answer))
        self.refusals.inc(is_refusal(answer))

    def text(self) -> bytes:
        """All of them in Prometheus' format."""
        return generate_latest(self.registry)
