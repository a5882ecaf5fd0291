"""Where a model's files are read from: a folder, a hub id, or a GGUF file in either."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from understudy.models.gguf import check_gguf, hub_file, is_gguf
from understudy.recipe import ModelConfig


def revision_of(config: ModelConfig, source: str) -> str:
    """The revision to read; folders of earlier stages and other sources have none of the recipe's."""
    return config.revision or "main" if source == config.model else "main"


@contextmanager
def pretrained(config: ModelConfig, source: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and arguments with which `from_pretrained` of `transformers` opens a source.

    Args:
        config: the recipe's section.
        source: a folder, a hub id, or a GGUF file, as `models.load.resolve` gives it.

    Raises:
        ModelError: a GGUF file, and what reads one is not installed, or cannot read this one.
        ValueError: the body found the file broken.
    """
    trusted = {"trust_remote_code": config.trust_remote_code}
    revision = revision_of(config, source)
    if not is_gguf(source):
        yield source, {"revision": revision, **trusted}
        return
    check_gguf(source)
    path = hub_file(source, revision) or str(Path(source).resolve())
    # From an empty folder: what lies beside the file (a tokenizer.json, an adapter) would take the place of what the
    # file itself says.
    with tempfile.TemporaryDirectory() as empty:
        try:
            yield empty, {"gguf_file": path, **trusted}
        except (struct.error, IndexError, TypeError, AttributeError, NotImplementedError, OverflowError) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
