"""How often the methods' answers are right, to stand beside what people think of their explanations."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from understudy.errors import UnderstudyError
from understudy.metrics.significance.bootstrap import Interval, bootstrap_interval, resampled_figure
from understudy.metrics.significance.resampling import Resampling
from understudy.study.findings import MethodAccuracy
from understudy.study.folder import Study
from understudy.study.rating_findings import ratio


def accuracies(study: Study, resampling: Resampling) -> tuple[MethodAccuracy, ...]:
    """How often each method's answers are right: on all test items of its run, else on the study's items."""
    found = []
    for method in study.config.methods:
        correct = _of_run(study, method)
        if correct:
            found.append(MethodAccuracy(method, bootstrap_interval(correct, resampling=resampling), "run"))
            continue
        rows = [(item.weight, item.methods[method].correct) for item in study.items.values()]
        known = np.array([(weight * right, weight) for weight, right in rows if right is not None], dtype=np.float64)
        if len(known):
            figure = resampled_figure(known, ratio, resampling=resampling)
            bounds = figure.bounds(resampling.confidence, len(known))
            found.append(MethodAccuracy(method, Interval(figure.value, *bounds, len(known)), "study"))
    return tuple(found)


def _of_run(study: Study, method: str) -> list[float]:
    """1 and 0 for each test item of the method's run; empty where the run is not there any more."""
    from understudy.study.sources import read_methods

    config = study.config.methods[method]
    if not Path(config.source).exists():
        return []
    try:
        found = read_methods([config.source], finished_only=False)
    except UnderstudyError:
        return []
    mine = [texts for texts in found if texts.config.arm == config.arm and (config.arm or texts.name == method)]
    rows = mine[0].explained.values() if mine and mine[0].config.fingerprint == config.fingerprint else ()
    return [float(row.text.correct) for row in rows if row.text.correct is not None]
