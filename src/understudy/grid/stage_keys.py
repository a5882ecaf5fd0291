"""The key of a stage: the recipe fields that can change it, the files they name, and the stages it is made from.

Two cells share a stage where these agree. Which fields a stage reads stands with its kind (`pipeline.kinds`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy.files import fingerprint, fingerprint_file, fingerprint_folder, fingerprint_tree
from understudy.pipeline.kinds import is_shared, reads_of
from understudy.pipeline.stage import Stage
from understudy.recipe import CACHE_FILE, LATER_FIELDS, Recipe
from understudy.recipe.own_arms import for_arm
from understudy.sessions.joining import place_of

FILES = (
    *("source", "dev_source", "test_source", "unlabelled_source", "catalogue", "corpus"),
    *("model", "tokenizer", "cache"),
    *("recorded", "recorded_questions", "demonstrations", "prompts", "own_steps", "difficulty_from"),
)
"""Last parts of the fields that may name a file or a folder; what stands in it belongs to a stage's identity."""


def keys(recipe: Recipe, stages: Sequence[Stage], contents: Mapping[str, str], *, processes: int = 1) -> dict[str, str]:
    """Stage name → key, for every stage of a plan that may be shared.

    Args:
        recipe: of the cell.
        stages: its stages, in order of need.
        contents: what a file or folder holds, as `contents_of` gives it.
        processes: of a training stage; it multiplies the batch.
    """
    keys_of_stages: dict[str, str] = {}
    for stage in stages:
        if not is_shared(stage):
            continue
        fields = for_arm(recipe, stage.argument).identity()
        values = {path: _value_at(fields, path) for path in reads_of(stage, recipe) if _is_in(fields, path)}
        files = sorted({name for path, value in values.items() for name in _names(path, value) if name in contents})
        identity = {"stage": stage.name, "fields": values, "files": {name: contents[name] for name in files}}
        if "extensions" in fields:
            identity["extensions"] = fields["extensions"]
        identity["needs"] = {need: keys_of_stages[need] for need in stage.needs}
        if stage.distributed and processes > 1:
            identity["processes"] = processes
        keys_of_stages[stage.name] = fingerprint(identity, length=12)
    return keys_of_stages


def _is_in(fields: Mapping[str, Any], path: str) -> bool:
    path = path.removesuffix("?")
    section, _, name = path.rpartition(".")
    return path not in LATER_FIELDS or name in (fields[section] if section else fields)


def _value_at(fields: Any, path: str) -> Any:
    for key in path.removesuffix("?").split("."):
        fields = fields[key]
    return fields is not None if path.endswith("?") else fields


def _names(path: str, value: Any) -> Iterator[str]:
    """Files and folders that a field names, within a section too."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _names(f"{path}.{name}", inner)
    elif path == "knowledge.folder" and value:
        yield str(place_of(value))  # Of a run no more than its knowledge.
    elif path.rpartition(".")[2] in FILES or path.startswith("data.sources."):
        yield from [value] if isinstance(value, str) else value if isinstance(value, list) else ()


def files_of(recipe: Recipe) -> set[str]:
    """Everything a recipe names that may be a file or a folder."""
    fields = recipe.model_dump(mode="json")
    sections = ("data", "teacher", "teachers", "student", "generate", "knowledge")
    return {name for section in sections for name in _names(section, fields[section])} | set(recipe.extensions)


def contents_of(name: str) -> str | None:
    """A fingerprint of the file or folder; None where there is none (a hub id, an embedded model)."""
    path = Path(name).expanduser()
    if path.is_file():
        return fingerprint_folder(path) if path.suffix.lower() == ".gguf" else fingerprint_file(path)
    if (path / CACHE_FILE).is_file():
        return fingerprint_file(path / CACHE_FILE)  # Whose it is and what it keeps; rows may come to it.
    if path.is_dir():
        return fingerprint_folder(path) if (path / "config.json").is_file() else fingerprint_tree(path)
    return None
