"""The recipe of a pilot: made of a data set and two models, with the method of distillation that suits the pair."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from understudy.errors import ConfigError
from understudy.inspection.doctor import examine
from understudy.inspection.doctor_report import DoctorReport
from understudy.recipe import Recipe, parse_recipe
from understudy.recipe.reading import override

ARMS = ("sft", "seqkd", "distilled")
FULL_EPOCHS = 3
"""Passes of the full run, where nobody says otherwise."""
METRICS = ("exact_match", "token_f1", "rougeL")
ACROSS = ("byte_aligned", "dskd_v2", "min_edit", "uld")
"""Methods between two vocabularies, the one that is tried first in front (`understudy docs crossvocab`).

`dskd_cma` is not among them: it is weak for every pair.
"""
RESAMPLES = 2000
OF_THE_PILOT = ("metrics", "resamples", "speed")
"""Fields of `evaluate` in which a pilot spares time."""


@dataclass(frozen=True)
class Choice:
    """The method of a pilot: its name, and why it is this one."""

    method: str
    why: str


def mapping_of(data: str, teacher: str, student: str, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The mapping of the recipe that a full run would have, but for the method.

    Raises:
        ConfigError: an override cannot be read, or it sets what the pilot decides.
    """
    value: dict[str, Any] = {
        "name": name_of(data),
        "data": {"source": data},
        "teacher": {"model": teacher},
        "student": {"model": student},
        "distil": {"batch_size": 32, "micro_batch_size": 8},
        "evaluate": {"arms": list(ARMS), "metrics": list(METRICS), "resamples": RESAMPLES, "speed": False},
    }
    for text in overrides:
        key = text.partition("=")[0]
        if key in ("axes", "exclude", "where", "grid", "data.train_share", "evaluate.arms", "arms", "output"):
            raise ConfigError(f"{key} is what the pilot decides itself", hint="leave it out")
        value = override(value, text)
    distil = value["distil"] if isinstance(value["distil"], dict) else {}
    return value if distil.keys() & {"steps", "epochs"} else override(value, f"distil.epochs={FULL_EPOCHS}")


def name_of(data: str) -> str:
    """What a pilot on some data is called."""
    stem = PurePosixPath(data.replace("\\", "/").rstrip("/")).name.partition(".")[0].replace(":", "-")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-._") or "data"


def choose(mapping: dict[str, Any]) -> Choice:
    """The method by what the doctor says of the pair: `kd` for one vocabulary, else the first sound one of `ACROSS`.

    Raises:
        ConfigError: a teacher on a server, a method that was asked for and is unsound, or no sound one.
        UnderstudyError: data or tokenizers cannot be read.
    """
    asked = (mapping.get("distil") or {}).get("method")
    recipe = parse_recipe(with_method(mapping, asked or "kd"), origin="pilot")
    if recipe.served_teacher or recipe.teacher is None:
        raise ConfigError(
            "a pilot needs a teacher whose weights are here", hint="`understudy doctor` examines one on a server"
        )
    report = examine(recipe)
    if report.refused:
        raise ConfigError(report.refused, hint=report.refused_hint)
    return choice_of(report, asked)


def choice_of(report: DoctorReport, asked: str | None = None) -> Choice:
    """The method out of a report of the doctor.

    Raises:
        ConfigError: see `choose`.
    """
    if asked:
        judged = report.methods[asked]
        if judged.verdict == "unsound":
            raise ConfigError(f"{asked} is unsound for this pair: {judged.why}", hint=judged.hint)
        return Choice(asked, f"asked for; the doctor says {judged.verdict}")
    if report.methods["kd"].verdict == "sound":
        return Choice("kd", "teacher and student have one vocabulary")
    for name in ACROSS:
        if report.methods[name].verdict == "sound":
            return Choice(name, f"the vocabularies differ; {report.methods[name].why}")
    weak = next((name for name in ACROSS if report.methods[name].verdict == "weak"), None)
    if weak is None:
        raise ConfigError(
            f"no method suits this pair: {report.methods['uld'].why}", hint="`understudy doctor` says more of it"
        )
    return Choice(weak, f"no method is sound for this pair, and this one is weak: {report.methods[weak].why}")


def with_method(mapping: dict[str, Any], method: str) -> dict[str, Any]:
    """The mapping with a method of distillation."""
    return {**mapping, "distil": {**(mapping.get("distil") or {}), "method": method}}


def with_answers(mapping: dict[str, Any], *, unlabelled: bool) -> dict[str, Any]:
    """Without questions of unknown answer, SeqKD learns the teacher's answers to the training questions."""
    if unlabelled or "keep_gold" in (mapping.get("seqkd") or {}):
        return mapping
    return {**mapping, "seqkd": {**(mapping.get("seqkd") or {}), "keep_gold": False}}


def recipe_of(mapping: dict[str, Any]) -> Recipe:
    """The validated recipe of the full run."""
    return parse_recipe(mapping, origin="pilot")
