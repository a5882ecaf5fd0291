"""Which completer a section of a recipe means."""

from __future__ import annotations

import os

from understudy.recipe import EndpointConfig
from understudy.types import Completer


def build_completer(
    config: EndpointConfig, cache_folder: str | os.PathLike[str] | None = None, *, account: str = ""
) -> Completer:
    """The language model a recipe names: behind its endpoint, or loaded into this process.

    Nothing is sent or loaded before the first question.

    Args:
        config: the section; without `base_url` the model is loaded here.
        cache_folder: where answers are kept, so that none is paid for twice; may be shared.
        account: what the budget is for, such as the name of a run, so that resuming it does not begin a new budget.
            Default: the completer has a budget of its own.

    Raises:
        ConfigError: `base_url` is no address, or a budget in money has no prices.
    """
    if config.base_url is None:
        from understudy.completers.local_completer import LocalCompleter

        return LocalCompleter(config, cache_folder, account=account)
    from understudy.completers.openai_completer import ApiCompleter

    return ApiCompleter(config, cache_folder, account=account)
