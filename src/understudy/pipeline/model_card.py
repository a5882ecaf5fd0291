"""The student's folder as a run hands it over: the model, and a card that says what it was made from and how good."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from understudy.arms import main_arm
from understudy.files import atomic, whole_folder
from understudy.pipeline.kinds import stage_of
from understudy.recipe import DivergenceConfig, ModelConfig, Recipe, TeacherConfig
from understudy.recipe.student import is_cut
from understudy.report.formatting import number, scale
from understudy.report.verdicts import names_of
from understudy.run import Run

TABLE = ("bundle_f1", "exact_match", "token_f1", "rougeL", "bleu", "chrf", "choice_accuracy")
"""The metrics of short tables: on the card and in the terminal."""

_ENDS = ("value", "low", "high")


def export_student(run: Run, recipe: Recipe, comparison: Mapping[str, Any]) -> None:
    """Copy the run's own student to `student/`, with a model card."""
    arm = main_arm(names_of(comparison))
    with whole_folder(run.folder / "student") as part:
        shutil.copytree(run.stage(stage_of("train", arm).name) / "model", part, dirs_exist_ok=True)
        with atomic(Path(part) / "README.md") as handle:
            handle.write(model_card(recipe, comparison, pipeline_tag=_pipeline_tag(Path(part))))


def _pipeline_tag(folder: Path) -> str:
    from transformers import AutoConfig, PreTrainedConfig

    from understudy.models.kinds import kind_of

    try:
        config = AutoConfig.from_pretrained(folder)
    except (OSError, ValueError, KeyError):  # Of code that came with a hub model.
        config = PreTrainedConfig.from_json_file(folder / "config.json")
    return kind_of(config).pipeline_tag


def model_card(recipe: Recipe, comparison: Mapping[str, Any], *, pipeline_tag: str = "text-generation") -> str:
    """A model card: what it was made from, how, and how well it does."""
    table = comparison["overall"]["table"]
    arm = main_arm(table)
    metrics = [name for name in TABLE if name in table.get(arm, {})]
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {pipeline_tag}",
        f"base_model: {recipe.student.model}",
        "tags: [understudy, distillation]",
        "---",
        f"# {recipe.name}",
        "",
        _how(recipe, arm),
        "",
        f"- teacher: {_before(recipe.teacher) if recipe.teacher else _elsewhere(recipe)}",
        *([f"- heard: {recipe.teachers.words()}"] if recipe.teachers else []),
        f"- student: {_before(recipe.student)}",
        f"- data: `{recipe.data.title}`, seed {recipe.seed}, recipe {recipe.fingerprint()}",
        "",
        "Held-out items, 0 to 100, with bootstrap intervals:",
        "",
        "| arm | " + " | ".join(metrics) + " |",
        "|---" * (len(metrics) + 1) + "|",
    ]
    for arm, values in table.items():
        cells = [_cell(values.get(name), scale(comparison, name)) for name in metrics]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _how(recipe: Recipe, arm: str) -> str:
    divergence = f" with `{recipe.distil.divergence}`" if isinstance(recipe.distil, DivergenceConfig) else ""
    by = f"`{recipe.distil.method}`{divergence} at temperature {recipe.distil.temperature}"
    learns = recipe.arm(arm).learns
    if learns == "candidates" and recipe.candidates:
        return f"A student taught by understudy with several answers to a question: {recipe.candidates.words}."
    if learns != "task_texts" or recipe.tasks is None:
        return f"A student distilled by understudy: {by}{_beside(recipe)}."
    texts = f"task `{recipe.tasks.kind}`, rationales of the step `{recipe.tasks.rationales}`"
    also = f"; beside it the teacher's logits: {by}" if recipe.tasks.logits else ""
    return f"A student taught by understudy with texts of a teacher: {texts}{also}."


def _beside(recipe: Recipe) -> str:
    """What one of the two read beside the question."""
    parts = [", by a teacher with a hint of its own"] if recipe.teacher and recipe.teacher.hint else []
    parts += [", without the context that the teacher read"] if not recipe.student.context else []
    if recipe.features and (states := recipe.features.input):
        weaned = "which it was weaned off" if states.end == 0 else "which it needs: without them it answers worse"
        parts.append(f", with its teacher's hidden states as an input, {weaned}")
    return "".join(parts)


def _before(model: ModelConfig) -> str:
    """A model, and what was done to it before distillation."""
    steps = [
        name for name, on in (("continued pretraining", model.pretrain), ("supervised fine-tuning", model.sft)) if on
    ]
    if isinstance(model, TeacherConfig) and model.remote:
        return f"`{model.model}` on a server, {model.words}"
    if isinstance(model, TeacherConfig) and model.from_student:
        return "the student itself, as its training begins"
    fresh = " (fresh weights)" if model.init == "fresh" else ", cut from the teacher" if is_cut(model) else ""
    return f"`{model.model}`{fresh}{' after ' + ' and '.join(steps) if steps else ''}"


def _elsewhere(recipe: Recipe) -> str:
    """A teacher that was only asked."""
    name = recipe.generate and (recipe.generate.teacher.model if recipe.generate.teacher else recipe.generate.recorded)
    return f"`{name}`, by its texts" if name else "none"


def _cell(interval: Mapping[str, Any] | None, factor: float) -> str:
    """A value with its interval, 0 to 100; too few items have none."""
    if interval is None or interval["value"] is None:
        return "–"
    value, low, high = (number(None if end is None else end * factor) for end in map(interval.get, _ENDS))
    return value if interval["low"] is None else f"{value} [{low}, {high}]"
