"""Which metrics there are, in one visible dictionary, and the call that runs them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from understudy.errors import ConfigError
from understudy.metrics import ngram
from understudy.metrics.scores import Score, Texts, Tools

Metric = Callable[[Texts], Score]

METRICS: dict[str, Metric] = {
    "exact_match": ngram.exact_match,
    "token_f1": ngram.token_f1,
    "bleu": ngram.bleu,
    "rouge1": partial(ngram.rouge_n, order=1),
    "rouge2": partial(ngram.rouge_n, order=2),
    "rougeL": ngram.rouge_l,
    "chrf": ngram.chrf,
    "accuracy": ngram.accuracy,
}
"""Name -> metric. Add your own: `METRICS["mine"] = my_metric`, a callable from `Texts` to `Score`."""

TEXT_METRICS: tuple[str, ...] = ("exact_match", "token_f1", "bleu", "rouge1", "rouge2", "rougeL", "chrf")
"""The metrics of written answers; `accuracy` is for answers chosen from a list."""


def score(
    predictions: Sequence[str],
    references: Iterable[Sequence[str]],
    *,
    questions: Sequence[str] | None = None,
    contexts: Sequence[str | None] | None = None,
    metrics: Iterable[str] = TEXT_METRICS,
    tools: Tools | None = None,
) -> dict[str, Score]:
    """Score predictions against their references.

    Args:
        predictions: one text an item.
        references: the right answers of each item, at least one.
        questions: what was asked; judged metrics need it.
        contexts: the text that was to be read; `faithfulness` and `context_relevance` need it.
        metrics: names out of `METRICS`.
        tools: the models that some metrics need.

    Returns:
        One score a metric, in the order asked for.

    Raises:
        ConfigError: no metric of that name (the nearest one is named).
        DataError: nothing to score, lengths differ, or an item has no reference.
    """
    texts = Texts(
        tuple(predictions),
        tuple(() if isinstance(item, str) else tuple(item) for item in references),
        None if questions is None else tuple(questions),
        None if contexts is None else tuple(contexts),
        tools or Tools(),
    )
    return {name: _metric(name)(texts) for name in metrics}


def _metric(name: str) -> Metric:
    if name in METRICS:
        return METRICS[name]
    near = difflib.get_close_matches(name, METRICS, n=1)
    raise ConfigError(
        f"no metric named {name!r}",
        hint=f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(METRICS)}",
    )
