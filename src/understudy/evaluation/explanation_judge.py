"""What a language model as judge says of a student's explanations, beside what can be counted in them."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.evaluation.explanation_results import NotMeasured
from understudy.evaluation.explanations import cluster_names
from understudy.metrics import Interval, MetricModels, score
from understudy.metrics.significance import DEFAULT_RESAMPLING, Resampling, bootstrap_interval
from understudy.records import ExplainedPrediction

NOTHING_WRITTEN = "no explanation was written"
NO_CONTEXT = "no row has a context that claims could be held against"


def judged_explanations(
    rows: Sequence[ExplainedPrediction],
    models: MetricModels,
    *,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> dict[str, Interval | NotMeasured]:
    """Judge explanations by the metrics that need no right explanation.

    `answer_relevance`: whether the explanation speaks to the question. `faithfulness`: the share of its claims that the
    row's context supports, on rows with a context. The definitions are those of the metrics of answers, with the
    explanation in the answer's place; what could not be judged is missing, never 0.

    Args:
        rows: of `predict_explained`.
        models: with the judge, and an embedding model for `answer_relevance`.
        resampling: draws, level of the intervals, seed.

    Returns:
        Metric → figure with its interval over groups of items, or why there is none.
    """
    texts = [row for row in rows if row.explanation]
    judged_rows = {"answer_relevance": (texts, NOTHING_WRITTEN)}
    judged_rows["faithfulness"] = ([row for row in texts if row.context], NO_CONTEXT if texts else NOTHING_WRITTEN)
    figures: dict[str, Interval | NotMeasured] = {}
    for metric, (judged, reason) in judged_rows.items():
        if not judged:
            figures[metric] = NotMeasured(f"not measured: {reason}")
            continue
        result = score(
            [row.explanation or "" for row in judged],
            [list(row.references) for row in judged],
            questions=[row.question or "" for row in judged],
            contexts=[row.context for row in judged],
            metrics=(metric,),
            models=models,
        )[metric]
        if not result.measured.any():
            figures[metric] = NotMeasured(f"not measured: {result.reason or 'the judge gave no verdict'}")
            continue
        figures[metric] = bootstrap_interval(result.per_example, clusters=cluster_names(judged), resampling=resampling)
    return figures
