"""Where a model's files are read from."""

from __future__ import annotations

from understudy.recipe import ModelConfig


def revision_of(config: ModelConfig, source: str) -> str:
    """The revision to read; folders of earlier stages and other sources have none of the recipe's."""
    return config.revision or "main" if source == config.model else "main"
