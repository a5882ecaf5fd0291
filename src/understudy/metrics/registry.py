"""Which metrics there are, in one visible dictionary, and the call that runs them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib import import_module

from understudy.errors import ConfigError, unknown
from understudy.extensions import claim
from understudy.metrics import bundle, corpus, embedding, labels, meteor, ngram, retrieval, speech
from understudy.metrics.scores import MetricInputs, MetricModels, Score

Metric = Callable[[MetricInputs], Score]

NGRAM: tuple[str, ...] = ("bleu", "rouge1", "rouge2", "rougeL", "meteor", "chrf", "token_f1")
"""Metrics of words and characters."""

EMBEDDING: tuple[str, ...] = ("bertscore_f1", "answer_similarity")
"""Metrics of vectors; they need an encoder."""

JUDGED: tuple[str, ...] = (
    "faithfulness",
    "answer_relevance",
    "context_relevance",
    "factual_correctness",
    "answer_correctness",
)
"""Metrics that a language model decides; they need a judge."""

BUNDLE: tuple[str, ...] = (
    *("bundle_precision", "bundle_recall", "bundle_f1", "bundle_coverage", "bundle_exact"),
    *("bundle_intent_f1", "bundle_intent_similarity"),
)
"""Metrics of answers that are bundles of a session's items."""

BUNDLE_PUBLISHED: tuple[str, ...] = (
    *("bundle_precision_published", "bundle_recall_published", "bundle_coverage_published"),
)
"""The same by the conventions of published figures, faults and all."""

LABELS: tuple[str, ...] = ("macro_f1", "entity_f1", "word_accuracy")
"""Of answers that are labels, of a text or of its words."""

SPEECH: tuple[str, ...] = ("wer", "cer")
"""Of what was written down of speech; lower is better."""
RETRIEVAL: tuple[str, ...] = tuple(retrieval.METRICS)
"""Of rankings: passages that were found for a query."""

STUDY_METRICS: tuple[str, ...] = (*NGRAM, *EMBEDDING, *JUDGED)
"""The fourteen of the telecom study, family by family."""

TEXT_METRICS: tuple[str, ...] = ("exact_match", "token_f1", "bleu", "rouge1", "rouge2", "rougeL", "chrf")
"""What is measured unless something else is asked for; `accuracy` is for answers chosen from a list."""


def _judged(name: str, inputs: MetricInputs) -> Score:
    """A judged metric, its module loaded when it is first asked for."""
    metric: Metric = getattr(import_module("understudy.metrics.judged_metrics"), name)
    return metric(inputs)


METRICS: dict[str, Metric] = {
    "exact_match": ngram.exact_match,
    "token_f1": ngram.token_f1,
    "bleu": corpus.bleu,
    "rouge1": partial(ngram.rouge_n, order=1),
    "rouge2": partial(ngram.rouge_n, order=2),
    "rougeL": ngram.rouge_l,
    "meteor": meteor.meteor,
    "chrf": corpus.chrf,
    "accuracy": ngram.accuracy,
    "macro_f1": labels.macro_f1,
    "entity_f1": labels.entity_f1,
    "word_accuracy": labels.word_accuracy,
    "wer": speech.word_error_rate,
    "cer": speech.char_error_rate,
    **retrieval.METRICS,
    "bertscore_f1": embedding.bertscore_f1,
    "answer_similarity": embedding.answer_similarity,
    **{name: partial(_judged, name) for name in JUDGED},
    **{name: getattr(bundle, name) for name in (*BUNDLE, *BUNDLE_PUBLISHED)},
}
"""Name -> metric. Add your own with `register`, or replace one: `METRICS["bleu"] = my_bleu`."""


def register(name: str, metric: Metric) -> None:
    """Add a metric under a name of its own, so that `score`, recipes and reports know it.

    A recipe names the file that registers it in `extensions`.

    Args:
        name: the name, which the `Score` carries too.
        metric: from `MetricInputs` to `Score`; `mean_score` makes one of the latter from a value an item.

    Raises:
        ConfigError: the name is taken, empty or `all`, or the metric cannot be called.
    """
    if not name.strip() or name == "all":
        raise ConfigError(f"a metric cannot be named {name!r}")
    if not callable(metric):
        raise ConfigError(
            f"metric {name!r} is no function", hint="a metric is called with MetricInputs and returns a Score"
        )
    claim("metric", name, METRICS)
    METRICS[name] = metric


def score(
    predictions: Sequence[str],
    references: Iterable[Sequence[str]],
    *,
    questions: Sequence[str] | None = None,
    contexts: Sequence[str | None] | None = None,
    metrics: Iterable[str] = TEXT_METRICS,
    models: MetricModels | None = None,
    rankings: Sequence[Sequence[str]] | None = None,
) -> dict[str, Score]:
    """Score predictions against their references.

    Args:
        predictions: one text an item.
        references: the right answers of each item, at least one.
        questions: what was asked; judged metrics need it.
        contexts: the text that was to be read; `faithfulness` and `context_relevance` need it.
        metrics: names out of `METRICS`, or `"all"` for every one that is there.
        models: the models that some metrics need; a metric whose model is absent comes back as *not measured*.
        rankings: of each item what was found, the best first; metrics of retrieval need it.

    Returns:
        One score a metric, in the order asked for.

    Raises:
        ConfigError: no metric of that name (the nearest one is named), one named twice, or a registered metric that
            returns something else than the score of these items.
        DataError: nothing to score, lengths differ, or an item has no reference.
    """
    inputs = MetricInputs(
        tuple(predictions),
        tuple(() if isinstance(item, str) else tuple(item) for item in references),
        None if questions is None else tuple(questions),
        None if contexts is None else tuple(contexts),
        models or MetricModels(),
        None if rankings is None else tuple(map(tuple, rankings)),
    )
    return {
        name: _checked(name, metric(inputs), len(inputs.predictions)) for name, metric in _selected(metrics).items()
    }


def _selected(names: Iterable[str]) -> dict[str, Metric]:
    """The metrics of these names, all looked up before the first one runs."""
    if isinstance(names, str):
        if names != "all":
            raise ConfigError(f"metrics is the text {names!r}", hint=f"give a list: metrics=[{names!r}], or 'all'")
        return dict(METRICS)
    selected: dict[str, Metric] = {}
    for name in names:
        if name in selected:
            raise ConfigError(f"metric {name!r} is asked for twice", hint="name each metric once")
        selected[name] = _metric(name)
    return selected


def _metric(name: str) -> Metric:
    if name not in METRICS:
        raise unknown("metric", name, METRICS)
    return METRICS[name]


def _checked(name: str, result: Score, items: int) -> Score:
    """The score itself, once it is known to fit: what is resampled later must have one row an item."""
    if not isinstance(result, Score):
        raise ConfigError(
            f"metric {name!r} returned {type(result).__name__}, not a Score", hint="mean_score makes one from values"
        )
    if len(result.per_example) != items or len(result.statistics) != items:
        raise ConfigError(
            f"metric {name!r} returned {len(result.per_example)} values and {len(result.statistics)} rows of "
            f"statistics for {items} items",
            hint="one of each an item; NaN and a row of zeros where an item cannot be measured",
        )
    if result.name != name:
        raise ConfigError(
            f"metric {name!r} returned a score named {result.name!r}", hint="register it under the name of its score"
        )
    return result
