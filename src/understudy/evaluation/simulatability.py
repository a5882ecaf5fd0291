"""Do a student's explanations help an observer to foresee the student's answers?

The observer is any model: it sees a question with its options and is right where the option it finds likeliest is the
one that the student chose. It is asked three times: with the question, with question and explanation, and with the
explanation alone. With ŷ the student's answer, x the question, e the explanation and 1[ŷ|·] whether the observer
foresees it,

```text
gain  = mean of 1[ŷ|x,e] − 1[ŷ|x]
k     = 1[ŷ|e]                                     the explanation *leaks* the answer
LAS_k = mean of 1[ŷ|x,e] − 1[ŷ|x] over the items with that k
LAS   = (LAS_0 + LAS_1) / 2
```

Leakage-adjusted simulatability: Hase, Zhang, Xie and Bansal, 2020 (arXiv 2010.04119). An explanation that merely names
the answer gains much and explains little; its items are one half of LAS, however many they are. There the observer is
trained on the student's own answers, with question or explanation dropped at random; here it is whatever model is
given, and `observer_prompts` are the three prompts to train one on. Where no item leaks, or all do, LAS is not
defined, and is null.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import nn

from understudy.evaluation.explanation_results import NO_VALUE, NotMeasured, Simulatability
from understudy.evaluation.explanations import cluster_names, interval, option_scores
from understudy.metrics import Interval
from understudy.metrics.significance import (
    DEFAULT_RESAMPLING,
    Resampling,
    count_clusters,
    randomisation_test,
    resampled_figure,
)
from understudy.records import ExplainedPrediction, Prediction
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.types import Example

QUESTION_ALONE, BOTH, EXPLANATION_ALONE = "question", "both", "explanation"
WITHHELD = "Which of these does the text speak for?"
"""Stands where the question was, when the observer sees the explanation alone."""


def observer_prompts(example: Example, explanation: str) -> dict[str, Example]:
    """What an observer is asked: with the question, with both, with the explanation alone.

    The explanation is put as a text to be read before the question, behind whatever else there is to read.
    """
    context = f"{example.context}\n\n{explanation}" if example.context else explanation
    return {
        QUESTION_ALONE: example,
        BOTH: replace(example, context=context),
        EXPLANATION_ALONE: replace(example, question=WITHHELD, context=explanation, history=()),
    }


def simulate(
    observer: nn.Module,
    tokenizer: ExampleTokenizer,
    rows: Sequence[ExplainedPrediction],
    *,
    batch_size: int,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Simulatability | NotMeasured:
    """Let an observer foresee a student's answers, with and without its explanations.

    Args:
        observer: a causal language model or an encoder–decoder; options are compared by likelihood.
        tokenizer: its template and the lengths.
        rows: of `predict_explained`. Rows without options, without an explanation, or whose answer names no option are
            left out.
        batch_size: sequences at once.
        resampling: draws, level of the intervals, seed.
    """
    usable = [row for row in rows if row.choices and row.explanation and row.chosen is not None]
    left_out = len(rows) - len(usable)
    if not usable:
        reason = "not measured: no row has options, an explanation and an answer that names an option"
        return NotMeasured(reason, left_out)
    prompts = [observer_prompts(_example(row), row.explanation or "") for row in usable]
    foreseen = {}
    for view in (QUESTION_ALONE, BOTH, EXPLANATION_ALONE):
        examples = [prompts_of_row[view] for prompts_of_row in prompts]
        scores = option_scores(observer, tokenizer, examples, "answer", batch_size=batch_size)
        foreseen[view] = [_foresees(scores_of_row, row) for scores_of_row, row in zip(scores, usable, strict=True)]
    figures = leakage_adjusted(
        foreseen[BOTH],
        foreseen[QUESTION_ALONE],
        foreseen[EXPLANATION_ALONE],
        clusters=cluster_names(usable),
        resampling=resampling,
    )
    return replace(figures, left_out=left_out)


def _example(row: Prediction) -> Example:
    return Example(row.id, row.question or "", context=row.context, choices=row.choices)


def _foresees(scores: list[float] | None, row: ExplainedPrediction) -> bool:
    assert scores is not None
    assert row.chosen is not None
    # Two options that read the same are one answer.
    return row.choices[int(np.argmax(scores))] == row.choices[row.chosen]


def leakage_adjusted(
    both: Sequence[bool],
    question_alone: Sequence[bool],
    explanation_alone: Sequence[bool],
    *,
    clusters: Sequence[Hashable] | None = None,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Simulatability:
    """Gain and LAS of an observer's hits, with bootstrap intervals over whole clusters.

    Args:
        both: whether the observer foresaw each answer from question and explanation.
        question_alone: from the question.
        explanation_alone: from the explanation: whether that leaks the answer.
        clusters: what is resampled together; default: each item by itself.
        resampling: draws, level of the intervals, seed.
    """
    with_explanation, without, leaks = (
        np.asarray(hits, dtype=float) for hits in (both, question_alone, explanation_alone)
    )

    def mean(values: Any) -> Interval:
        return interval(values, clusters, resampling)

    gain = with_explanation - without
    return Simulatability(
        items=len(gain),
        question_alone=mean(without),
        both=mean(with_explanation),
        leaking=mean(leaks),
        gain=mean(gain),
        p_value=randomisation_test(with_explanation, without, clusters=clusters, resampling=resampling).p_value,
        gain_leaking=mean(np.where(leaks == 1, gain, np.nan)),
        gain_not_leaking=mean(np.where(leaks == 0, gain, np.nan)),
        las=_las(gain, leaks, clusters, resampling),
    )


def _las(
    gain: np.ndarray,
    leaks: np.ndarray,
    clusters: Sequence[Hashable] | None,
    resampling: Resampling,
) -> Interval:
    """The mean of the two strata's means; every draw has strata of its own sizes."""
    columns = np.stack([gain * leaks, leaks, gain * (1 - leaks), 1 - leaks], axis=1)

    def las(totals: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):
            return (totals[..., 0] / totals[..., 1] + totals[..., 2] / totals[..., 3]) / 2

    if not np.isfinite(las(columns.sum(axis=0))):
        return replace(NO_VALUE, n=len(gain))
    figure = resampled_figure(columns, las, resampling=resampling, clusters=clusters)
    return Interval(figure.value, *figure.bounds(resampling.confidence, count_clusters(len(gain), clusters)), len(gain))
