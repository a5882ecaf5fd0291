"""What a cache is bound to, written beside its shards, and the refusal of one that is bound to something else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from understudy.errors import RunError
from understudy.files import fingerprint, fingerprint_folder, read_json, write_json
from understudy.models.load import pick_dtype, resolve
from understudy.models.sources import revision_of
from understudy.recipe import CACHE_FILE, ModelConfig
from understudy.teachers.cache.formats import CandidatesFormat, SampledFormat, StatesFormat, TargetFormat, TopKFormat
from understudy.tokens.template import Template

FILE = CACHE_FILE
VERSION = 1

_FORMATS: dict[str, type[TargetFormat]] = {
    "topk": TopKFormat,
    "sampled": SampledFormat,
    "states": StatesFormat,
    "candidates": CandidatesFormat,
}


def teacher_identity(
    config: ModelConfig, weights: str | None, template: Template, device: torch.device, seed: int
) -> dict[str, Any]:
    """Whose targets they are: weights, how they are computed, tokenizer and chat template, each as a fingerprint.

    Args:
        config: the teacher's section.
        weights: folder of its own training's weights; None: as the model came.
        template: its tokenizer.
        device: where it runs, which decides on its dtype.
        seed: of fresh weights.
    """
    source = weights or resolve(config.model)
    folder = Path(source)
    named = fingerprint_folder(folder) if folder.exists() else f"{source}@{revision_of(config, source)}"
    identity = {
        "weights": named,
        "dtype": str(pick_dtype(config.dtype, device)).removeprefix("torch."),
        **tokenizer_identity(template),
    }
    if config.init == "fresh" and weights is None:
        identity |= {"fresh weights": fingerprint([config.config, config.seed_or(seed)])}
    return identity


def tokenizer_identity(template: Template) -> dict[str, str]:
    """What of a cache's identity is the tokenizer's: its vocabulary and its chat template, as fingerprints."""
    tokenizer = template.tokenizer
    vocabulary = fingerprint([sorted(tokenizer.get_vocab().items()), sorted(map(str, tokenizer.all_special_tokens))])
    pictures = {"pictures": template.picture_identity} if template.picture_identity else {}
    pictures |= {"recordings": template.audio_identity} if template.audio_identity else {}
    return {"tokenizer": vocabulary, "chat template": fingerprint(str(tokenizer.chat_template)), **pictures}


def write_identity(folder: Path, targets: TargetFormat, teacher: Mapping[str, Any]) -> None:
    """Say in `cache.json` what a folder holds."""
    write_json(folder / FILE, {"version": VERSION, "targets": targets.describe(), "teacher": dict(teacher)})


def stored_format(folder: Path) -> TargetFormat:
    """The format of the targets in a folder.

    Raises:
        RunError: the folder is no cache, or one of another version.
    """
    if not (folder / FILE).is_file():
        raise RunError(
            f"{folder} is no cache of a teacher: it has no {FILE}", hint="`understudy cache RECIPE` writes one"
        )
    stored = read_json(folder / FILE)
    if stored.get("version") != VERSION:
        raise RunError(
            f"the cache {folder} is of version {stored.get('version')}, and this understudy reads {VERSION}",
            hint="remove it, or give teacher.cache.folder another name",
        )
    described: dict[str, Any] = dict(stored["targets"])
    kind, temperatures = _FORMATS[described.pop("kind")], tuple(described.pop("temperatures"))
    if "k" in described:
        described["count"] = described.pop("k")
    return kind(temperatures=temperatures, **described)


def check_identity(folder: Path, wanted: TargetFormat, teacher: Mapping[str, Any]) -> TargetFormat:
    """The format of a cache that holds what is wanted.

    Raises:
        RunError: it holds other targets, or another teacher's; what differs is named.
    """
    stored = stored_format(folder)
    asked, held = wanted.describe(), stored.describe()
    missing = [temperature for temperature in wanted.temperatures if temperature not in stored.temperatures]
    differing = [
        f"{name} {held.get(name)} there, {asked.get(name)} here"
        for name in sorted(asked.keys() | held.keys())
        if name != "temperatures" and asked.get(name) != held.get(name)
    ]
    if missing:
        differing.append(f"temperatures {_words(stored.temperatures)} there, {_words(missing)} asked for here")
    bound = read_json(folder / FILE)["teacher"]
    other = [name for name in sorted(bound.keys() | teacher.keys()) if bound.get(name) != teacher.get(name)]
    if other:
        differing.append(f"the teacher's {', '.join(other)} {'differ' if len(other) > 1 else 'differs'}")
    if differing:
        raise RunError(
            f"the cache {folder} holds something else: {'; '.join(differing)}",
            hint="give teacher.cache.folder another name, or remove the folder to have it written anew",
        )
    return stored


def _words(temperatures: Any) -> str:
    return ", ".join(f"{temperature:g}" for temperature in temperatures)
