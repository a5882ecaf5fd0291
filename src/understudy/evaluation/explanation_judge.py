"""What a language model as judge says of a student's explanations, beside what can be counted in them."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.evaluation.explanation_results import NotMeasured
from understudy.evaluation.explanations import groups_of
from understudy.metrics import Interval, MetricModels, score
from understudy.metrics.significance import DEFAULT_RESAMPLING, Resampling, bootstrap_interval
from understudy.records import ExplainedPrediction

NOTHING_WRITTEN = "no explanation was written"
NO_CONTEXT = "no row has a context that claims could be held against"


def judged_explanations(
    rows: Sequence[ExplainedPrediction],
    tools: MetricModels,
    *,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> dict[str, Interval | NotMeasured]:
    """Judge explanations by the metrics that need no right explanation.

    `answer_relevance`: whether the explanation speaks to the question. `faithfulness`: the share of its claims that the
    row's context supports, on rows with a context. The definitions are those of the metrics of answers, with the
    explanation in the answer's place; what could not be judged is missing, never 0.

    Args:
        rows: of `predict_explained`.
        tools: with the judge, and an embedding model for `answer_relevance`.
        resampling: draws, level of the intervals, seed.

    Returns:
        Metric → figure with its interval over groups of items, or why there is none.
    """
    texts = [row for row in rows if row.explanation]
    parts = {"answer_relevance": (texts, NOTHING_WRITTEN)}
    parts["faithfulness"] = ([row for row in texts if row.context], NO_CONTEXT if texts else NOTHING_WRITTEN)
    found: dict[str, Interval | NotMeasured] = {}
    for metric, (judged, reason) in parts.items():
        if not judged:
            found[metric] = NotMeasured(f"not measured: {reason}")
            continue
        made = score(
            [row.explanation or "" for row in judged],
            [list(row.references) for row in judged],
            questions=[row.question or "" for row in judged],
            contexts=[row.context for row in judged],
            metrics=(metric,),
            tools=tools,
        )[metric]
        if not made.measured.any():
            found[metric] = NotMeasured(f"not measured: {made.reason or 'the judge gave no verdict'}")
            continue
        found[metric] = bootstrap_interval(made.per_example, groups=groups_of(judged), resampling=resampling)
    return found
