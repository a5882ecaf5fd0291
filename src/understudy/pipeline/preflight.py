"""Whether what a run needs is there: asked before its first stage, not hours later; no torch here."""

from __future__ import annotations

from importlib.util import find_spec

from understudy.distribution import install_command
from understudy.errors import ConfigError
from understudy.recipe import Recipe
from understudy.recipe.own_arms import for_arm


def check_trackers(recipe: Recipe) -> None:
    """Whether the trackers of `report_to` are installed.

    Raises:
        ConfigError: one is not; the Trainer would only say so after the first stage.
    """
    for tracker in recipe.report_to:
        if find_spec(tracker) is None:
            raise ConfigError(f"report_to names {tracker}, which is not installed", hint=install_command(tracker))


def check_lengths(recipe: Recipe) -> None:
    """Whether the longest answer leaves a prompt any token of `data.max_length`.

    Raises:
        ConfigError: it does not. Rows would only say so one by one, after all of them were read.
    """
    if recipe.data.max_length <= recipe.data.max_answer_tokens:
        # Only now, for it loads torch: a model that points writes no answers.
        from understudy import build

        build.check_lengths(recipe)


def check_evaluation(recipe: Recipe) -> None:
    """Whether the metrics of `evaluate.metrics` exist, its judge has an address, and `generate` can be done.

    And whether `knowledge.folder` holds any.

    Raises:
        ConfigError: one does not; it would otherwise show after the last training stage.
        DataError: the demonstrations cannot be read.
    """
    from understudy.evaluation.metric_models import metric_models_of, metric_names

    metric_names(recipe.evaluate.metrics)
    if recipe.generate:
        from understudy.knowledge.pipeline import check

        check(recipe.generate)
    folders = {config.folder for arm in recipe.evaluate.arms if (config := for_arm(recipe, arm).knowledge)}
    for folder in filter(None, folders):
        from understudy.sessions.joining import knowledge_in

        knowledge_in(folder)
    if recipe.evaluate.judge and recipe.evaluate.judge.base_url:
        metric_models_of(recipe.evaluate)
