"""How a model makes vectors of texts: what a recipe says, what its config says, what sentence-transformers wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import PreTrainedConfig
from transformers.utils.hub import cached_file

from understudy.errors import ModelError
from understudy.models.sources import revision_of
from understudy.recipe import ModelConfig
from understudy.tokens.passages import Embedding

MARK = "understudy_embedding"
"""The field of a config by which such a model is known again, with its settings."""
_MODULES = ("Transformer", "Pooling", "Normalize")
_POOLINGS = {"cls": "cls", "mean": "mean"}


def embedding_of(config: ModelConfig, architecture: PreTrainedConfig, source: str) -> Embedding:
    """The settings of a model: each from the recipe, else from its config, else from the files beside its weights.

    Args:
        config: the recipe's section.
        architecture: the model's config.
        source: where its weights are, a folder or a hub id.

    Raises:
        ModelError: these files name a layer or a pooling that there is not here.
    """
    own = getattr(architecture, MARK, None)
    said = dict(own) if own else {}
    named = config.embedding.model_dump(exclude_none=True, exclude_unset=True) if config.embedding else {}
    if not own:
        # Weights that were pretrained here have left those files behind.
        places = dict.fromkeys([source, config.model])
        found = (_written(config, place, pooled="pooling" in named) for place in places)
        said = next((settings for settings in found if settings), {})
    return Embedding(**{**said, **named})


def _written(config: ModelConfig, source: str, *, pooled: bool) -> dict[str, Any]:
    """What sentence-transformers wrote beside a model; nothing where it wrote nothing.

    Args:
        config: the recipe's section.
        source: a folder or a hub id.
        pooled: the recipe says how to pool, so that it does not matter what is said here.
    """
    modules = _json(config, source, "modules.json")
    if not isinstance(modules, list):
        return {}
    names = [str(module.get("type", "")).rpartition(".")[2] for module in modules]
    if other := next((name for name in names if name not in _MODULES), None):
        raise ModelError(
            f"{source} has a layer {other} behind its encoder, which understudy does not have",
            hint="take a model of an encoder, a pooling and a normalisation",
        )
    found: dict[str, Any] = {"normalize": "Normalize" in names}
    path = next((module.get("path") for module in modules if str(module.get("type", "")).endswith("Pooling")), "")
    if not pooled and (pooling := _json(config, source, f"{path}/config.json")):
        found["pooling"] = _pooling(pooling, source)
    prompts = (_json(config, source, "config_sentence_transformers.json") or {}).get("prompts") or {}
    for field, keys in (("query_prefix", ("query",)), ("passage_prefix", ("document", "passage"))):
        if prompt := next((prompts[key] for key in keys if prompts.get(key)), None):
            found[field] = prompt
    return found


def _pooling(config: dict[str, Any], source: str) -> str:
    mode = config.get("pooling_mode")
    if mode is None:
        modes = [name for name, on in config.items() if name.startswith("pooling_mode_") and on]
        short = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
        mode = short.get(modes[0], modes[0].removeprefix("pooling_mode_")) if len(modes) == 1 else modes
    if not isinstance(mode, str) or mode not in _POOLINGS:
        raise ModelError(
            f"{source} pools by {mode}, and understudy by mean or cls",
            hint="take another model, or name another pooling: embedding: {pooling: mean}",
        )
    return _POOLINGS[mode]


def _json(config: ModelConfig, source: str, name: str) -> Any:
    folder = Path(source).expanduser()
    if folder.exists() or source.startswith("embedded:"):
        path = str(folder / name) if (folder / name).is_file() else None
    else:
        path = cached_file(
            source,
            name,
            revision=revision_of(config, source),
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
            _raise_exceptions_for_gated_repo=False,
        )
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is no JSON: {error}") from error
