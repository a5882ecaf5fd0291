"""From a recipe's words to what `understudy.metrics.score` needs: names of metrics, and the models behind some."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from understudy.errors import ConfigError, unknown
from understudy.files import cache_folder
from understudy.metrics import BUNDLE, BUNDLE_PUBLISHED, LABELS, METRICS, RETRIEVAL, SPEECH, TEXT_METRICS, MetricModels
from understudy.metrics.registry import NGRAM
from understudy.recipe import EvaluateConfig

# Right or wrong of an option chosen from a list; `choice_accuracy` is measured wherever rows carry likelihoods.
_OF_CHOICES = ("accuracy",)
_OF_BUNDLES = (*BUNDLE, *BUNDLE_PUBLISHED)


def metric_names(requested: str | Iterable[str]) -> tuple[str, ...]:
    """The metrics that a word stands for: `all` of texts, `text` (those that need no model), `bundles`, or names.

    Args:
        requested: `all`, `text`, `bundles`, names with commas between them, or a sequence of these.

    Raises:
        ConfigError: no metric of that name; the nearest one is named.
    """
    entries = requested.split(",") if isinstance(requested, str) else requested
    names: list[str] = []
    for entry in filter(None, (entry.strip() for entry in entries)):
        if entry == "all":
            names += [
                name for name in METRICS if name not in (*_OF_CHOICES, *LABELS, *SPEECH, *RETRIEVAL, *_OF_BUNDLES)
            ]
        elif entry == "bundles":
            names += _OF_BUNDLES
        elif entry == "text":
            names += [name for name in METRICS if name in TEXT_METRICS or name in NGRAM]
        elif entry in METRICS:
            names.append(entry)
        else:
            raise unknown("metric", entry, ("all", "text", "bundles", *METRICS))
    if not names:
        raise ConfigError("no metric asked for", hint=f"there are: all, text, bundles, {', '.join(METRICS)}")
    return tuple(dict.fromkeys(names))


def metric_models_of(config: EvaluateConfig, cache: Path | None = None, *, account: str = "") -> MetricModels:
    """The models and settings of a recipe's metrics; the judge is made ready, but asked nothing yet.

    Args:
        config: the `evaluate` section of a recipe.
        cache: where the judge's answers are kept, so that none is paid for twice; default: the user's own.
        account: what the judge's budget is for, such as the name of a run, so that resuming begins no new budget.

    Raises:
        ConfigError: the judge cannot be reached as described (no key in the environment, no such model).
    """
    judge, repeats = None, 1
    if config.judge is not None:
        from understudy.completers.factory import build_completer

        judge, repeats = (
            build_completer(config.judge, cache or cache_folder("judge"), account=account),
            config.judge.repeats,
        )
    return MetricModels(config.embedding_model, config.bertscore_model, judge, repeats, config.normalise)
