"""The report of a calibration, its figures by the real functions from answers that are drawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from understudy.confidence import Calibration, Confidence
from understudy.confidence.fitting import best_measure, fit_maps
from understudy.deployment.calibrate import CalibrationReport, reliability_of
from understudy.deployment.cascade import Prices, Rule, Side, curve, thresholds_of
from understudy.metrics import mean_score
from understudy.metrics.significance import Resampling

RESAMPLING = Resampling(draws=200)


def _side(generator: np.random.Generator, right: np.ndarray, prices: Prices) -> Side:
    scores = {name: mean_score(name, right * share, "drawn") for name, share in (("exact_match", 1.0), ("rougeL", 0.9))}
    read, written = (generator.integers(5, 40, len(right)).astype(float) for _ in range(2))
    return Side(scores, generator.random(len(right)), read, written, prices)


def calibration_report(name: str = "drawn", rows: int = 300) -> dict[str, Any]:
    """As `report.json` holds it: a student that is right as a logistic curve of its log-probability says."""
    generator = np.random.default_rng(0)
    logps = generator.normal(-1.5, 1.0, rows)
    right = generator.random(rows) < 1 / (1 + np.exp(-2 * (logps + 1.5)))
    confidences = [
        Confidence(mean_logp=float(a), min_logp=float(b), first_logp=float(b))
        for a, b in zip(logps, logps + generator.normal(size=rows), strict=True)
    ]
    maps = fit_maps(confidences, right.tolist(), list(range(rows)))
    measure = best_measure(maps)
    assert measure is not None
    early = best_measure(maps, early=True)
    student = _side(generator, right.astype(float), Prices(0.01, 0.02))
    teacher = _side(generator, (generator.random(rows) < 0.8).astype(float), Prices(1.0, 4.0))
    calibration = Calibration("1a2b", "3c4d", "distilled", "exact_match", measure, early, maps, rule=Rule().words)
    p = np.array([calibration.probability(confidence) for confidence in confidences])
    threshold = Rule().threshold(p, student, teacher, "exact_match")
    calibration = replace(calibration, threshold=threshold, early_threshold=threshold)
    steps = sorted({*thresholds_of(p, 21), threshold})
    points = curve(p, student, teacher, steps, clusters=list(range(rows)), resampling=RESAMPLING)
    chosen = points[steps.index(threshold)]
    return CalibrationReport(
        name=name,
        arm="distilled",
        teacher="org/a-teacher-with-a-very-long-name-of-its-own-v0.1-instruct",
        calibration=calibration,
        dev_rows=rows,
        reliability=reliability_of(p, right, list(range(rows)), RESAMPLING),
        measures=dict.fromkeys(maps, 0.7),
        metric="exact_match",
        maxima={"exact_match": 1.0, "rougeL": 1.0},
        confidence=0.95,
        points=tuple(points),
        chosen=chosen,
        early=chosen,
        priced=True,
        batch_size=16,
    ).to_json()
