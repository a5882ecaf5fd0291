"""What the dashboard shows, computed from the database: any process can, whoever watches."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from sqlalchemy import Row, func, select

from understudy.monitor.store import MonitorStore
from understudy.monitor.tables import ALERTS, REQUESTS, SHADOWS, THUMBS

WINDOWS = ((1, "1 hour"), (24, "24 hours"), (168, "7 days"), (720, "30 days"))
_BUCKETS = 60
_MOST_ALERTS = 50
_COLUMNS = ("at", "seconds", "first_seconds", "completion_tokens", "confidence", "status", "refused", "repeated")
_COLUMNS += ("decision",)


def dashboard(store: MonitorStore, hours: int, now: float | None = None) -> dict[str, Any]:
    """All that the page shows of the last hours, as JSON.

    Args:
        store: of the monitor.
        hours: one of `WINDOWS`.
        now: the end of the window, in seconds since 1970.
    """
    end = now or time.time()
    start = end - 3600 * hours
    columns = [REQUESTS.c[name] for name in _COLUMNS]
    lengths = (func.length(REQUESTS.c.question).label("asked"), func.length(REQUESTS.c.answer).label("answered"))
    shadowed = REQUESTS.outerjoin(SHADOWS, SHADOWS.c.request == REQUESTS.c.id)
    asked = select(*columns, *lengths, SHADOWS.c.agreement, SHADOWS.c.probability).select_from(shadowed)
    with store.reading() as connection:
        rows = list(connection.execute(asked.where(REQUESTS.c.at >= start, REQUESTS.c.at <= end)))
        alerts = list(connection.execute(select(ALERTS).where(ALERTS.c.at >= start).order_by(ALERTS.c.at.desc())))
        thumbs = dict(
            connection.execute(
                select(THUMBS.c.verdict, func.count()).where(THUMBS.c.at >= start).group_by(THUMBS.c.verdict)
            ).all()
        )
    state = store.state()
    return {
        "hours": hours,
        "times": [start + (number + 0.5) * (end - start) / _BUCKETS for number in range(_BUCKETS)],
        "tiles": _tiles(rows, thumbs, state),
        "charts": _charts(rows, start, end),
        "alerts": [
            {"when": moment(alert.at), "rule": alert.rule, "message": alert.message} for alert in alerts[:_MOST_ALERTS]
        ],
        "state": {name: state.get(name) for name in ("agreement", "canary", "drift", "psi", "queues", "time")},
    }


def moment(at: float) -> str:
    """Seconds since 1970 as people write them, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def _tiles(rows: Sequence[Row], thumbs: dict[str, int], state: dict[str, Any]) -> list[dict[str, str]]:
    seconds = [row.seconds for row in rows if row.status < 400]
    failed = sum(row.status >= 500 for row in rows)
    values = {
        "requests": f"{len(rows):,}",
        "failed": f"{failed:,}",
        "median seconds": f"{np.median(seconds):.2f}" if seconds else "–",
        "answered by teacher": f"{sum(row.decision == 'asked' for row in rows):,}",
        "thumbs up / down": f"{thumbs.get('up', 0)} / {thumbs.get('down', 0)}",
        "waiting to be looked at": str(sum((state.get("queues") or {}).values())),
    }
    return [{"name": name, "value": value} for name, value in values.items()]


Measure = Callable[[Sequence[Row]], float | None]


def _charts(rows: Sequence[Row], start: float, end: float) -> list[dict[str, Any]]:
    buckets: list[list[Row]] = [[] for _ in range(_BUCKETS)]
    for row in rows:
        buckets[min(_BUCKETS - 1, int((row.at - start) / (end - start) * _BUCKETS))].append(row)
    width = (end - start) / _BUCKETS
    charts: list[tuple[str, dict[str, Measure]]] = [
        ("Requests a minute", {"all": lambda b: 60 * len(b) / width, "failed": lambda b: 60 * _failed(b) / width}),
        ("Seconds to the last token", {"median": _quantile("seconds", 0.5), "95 in 100": _quantile("seconds", 0.95)}),
        (
            "Seconds to the first token",
            {"median": _quantile("first_seconds", 0.5), "95 in 100": _quantile("first_seconds", 0.95)},
        ),
        ("Tokens written a second", {"of a request, median": _token_rate}),
        ("Confidence", {"mean": _mean("confidence")}),
        ("Characters", {"question": _mean("asked"), "answer": _mean("answered")}),
        ("Share of answers", {"say nothing": _mean("refused"), "from the teacher": _taught}),
        ("Repeated 3-grams, share", {"mean": _mean("repeated")}),
        ("Agreement with the teacher, sampled", {"mean": _agreement}),
    ]
    return [
        {"title": title, "series": [{"name": name, "values": [of(b) for b in buckets]} for name, of in series.items()]}
        for title, series in charts
    ]


def _failed(rows: Sequence[Row]) -> int:
    return sum(row.status >= 500 for row in rows)


def _values(rows: Sequence[Row], name: str) -> list[float]:
    return [float(value) for row in rows if row.status < 400 and (value := getattr(row, name)) is not None]


def _mean(name: str) -> Measure:
    return lambda rows: float(np.mean(values)) if (values := _values(rows, name)) else None


def _quantile(name: str, level: float) -> Measure:
    return lambda rows: float(np.quantile(values, level)) if (values := _values(rows, name)) else None


def _token_rate(rows: Sequence[Row]) -> float | None:
    rates = [row.completion_tokens / row.seconds for row in rows if row.completion_tokens and row.seconds > 0]
    value = float(np.median(rates)) if rates else math.nan
    return None if math.isnan(value) else value


def _agreement(rows: Sequence[Row]) -> float | None:
    """Each sampled request counts for all those that were as likely to be."""
    sampled = [(row.agreement, 1 / row.probability) for row in rows if row.agreement is not None]
    total = sum(weight for _, weight in sampled)
    return sum(value * weight for value, weight in sampled) / total if sampled else None


def _taught(rows: Sequence[Row]) -> float | None:
    answered = [row for row in rows if row.status < 400]
    return sum(row.decision == "asked" for row in answered) / len(answered) if answered else None
