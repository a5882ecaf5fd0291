"""The last stage: predictions to scores, scores to `report.run_page`, and the student's folder with its model card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.arms import main_arm
from understudy.evaluation.compare import compare
from understudy.evaluation.metric_models import metric_names, tools_for
from understudy.evaluation.scoring import score_systems
from understudy.evaluation.systems import run_systems
from understudy.files import atomic, read_json, read_jsonl, whole_folder, write_json
from understudy.metrics.significance import Resampling
from understudy.pipeline.knowledge_report import taught_note, texts_of
from understudy.recipe import ModelConfig, Recipe, dump_recipe
from understudy.report import ReportInputs, render_report
from understudy.report.headline import headline
from understudy.report.verdicts import names_of
from understudy.run import Run

TABLE = ("exact_match", "token_f1", "rougeL", "bleu", "chrf", "choice_accuracy")


def summarise(run: Run, recipe: Recipe) -> None:
    """Write `scores.json`, `summary.json`, `report.run_page` and `student/` of a run whose arms are all answered."""
    asked = recipe.evaluate
    # Where the folder lies is nothing that a page to show around should tell.
    arms = [replace(system, origin=run.folder.name) for system in run_systems(run)]
    scored = score_systems(arms, metric_names(asked.metrics), tools_for(asked, account=run.folder.name))
    comparison = compare(scored, resampling=Resampling(asked.resamples, asked.confidence)).to_dict()
    write_json(run.folder / "scores.json", comparison)
    write_json(run.folder / "summary.json", summary(comparison))
    render_report(report_inputs(run, recipe, comparison), run.folder / "report.html")
    if run.is_done(f"train-{main_arm(names_of(comparison))}"):
        export_student(run, recipe, comparison)


def summary(comparison: Mapping[str, Any]) -> dict[str, Any]:
    """What the terminal shows: a small table and the headline."""
    table = {
        arm: {
            name: interval["value"]
            for name, interval in values.items()
            if name in TABLE and interval["value"] is not None
        }
        for arm, values in comparison["overall"]["table"].items()
    }
    shown = [name for name in TABLE if any(name in values for values in table.values())]
    outcome = headline(comparison)
    return {"metrics": shown, "arms": table, "headline": [outcome.verdict, *outcome.sentences]}


def report_inputs(run: Run, recipe: Recipe, comparison: Mapping[str, Any]) -> ReportInputs:
    """Gather what the report shows from the run folder."""
    notes = {**read_json(run.folder / "data" / "notes.json"), **run.record("pair")["tokenizers"]}
    environment = read_json(run.folder / "environment.json")
    rows = run.record("data")["rows"]
    return ReportInputs(
        name=recipe.name,
        comparison=comparison,
        recipe=dump_recipe(recipe),
        curves=curves(run),
        models={name: run.record(f"speed-{name}")["speed"] for name in TIMED if run.is_done(f"speed-{name}")},
        data={**{f"{role} rows": count for role, count in rows.items()}, **_plain(notes), **stage_notes(run)},
        fingerprints={source["name"]: source["fingerprint"] for source in notes.get("sources", ())},
        versions={
            "understudy": environment["understudy"],
            "python": environment["python"],
            "platform": environment["platform"],
            **environment["packages"],
        },
        texts=texts_of(run, recipe),
        notes=sentences(run, recipe),
    )


TIMED = ("teacher", "student")


def _plain(notes: Mapping[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in notes.items() if isinstance(value, str | int | float) and value not in ("", 0)}
    flat |= {key: "; ".join(value) for key, value in notes.items() if key.endswith("tokenizer") and value}
    return flat


def stage_notes(run: Run) -> dict[str, Any]:
    """What was cut, dropped or shortened on the way, by stage."""
    found: dict[str, Any] = {}
    for path in sorted((run.folder / "stages").iterdir()):
        record = run.record(path.name) if run.is_done(path.name) else {}
        found |= {f"{path.name}: {what}": count for what, count in (record.get("notes") or {}).items()}
        found |= {f"{path.name}: {what} answers dropped": n for what, n in (record.get("dropped") or {}).items() if n}
    return found


def curves(run: Run) -> dict[str, list[dict[str, Any]]]:
    """The training curves of each stage that trained."""
    found = {}
    for path in sorted((run.folder / "stages").glob("*/training/metrics.jsonl")):
        found[path.parent.parent.name.removeprefix("train-")] = read_jsonl(path)
    return found


def sentences(run: Run, recipe: Recipe) -> list[str]:
    """What a reader has to know to judge the figures."""
    trained = [arm for arm in ("sft", "seqkd", "kd_gold", "distilled", "explained") if run.is_done(f"train-{arm}")]
    steps = {run.record(f"train-{arm}")["plan"]["steps"] for arm in trained}
    lines = (
        [f"Every trained student took {steps.pop():,} optimiser steps of {recipe.distil.batch_size} rows."]
        if steps
        else []
    )
    for side in ("teacher", "student"):
        if run.is_done(f"{side}_pretrain"):
            record = run.record(f"{side}_pretrain")
            lines.append(
                f"Before anything else the {side} read raw text: {record['documents']:,} documents of "
                f"{record['target_tokens']:,} tokens, {record['plan']['steps']:,} optimiser steps."
            )
    if run.is_done("answers"):
        record = run.record("answers")
        lines.append(
            f"The teacher was asked {record['asked']:,} questions; {record['kept']:,} answers were kept. "
            "SeqKD and distilled read the same prompts."
        )
    lines += [note] if (note := taught_note(recipe)) else []
    if "distilled" in trained and not run.record("data")["rows"]["unlabelled"]:
        lines.append("There were no unlabelled questions: distillation saw the gold rows alone.")
    return lines


# -- the student's folder --------------------------------------------------------------------------------------------


def export_student(run: Run, recipe: Recipe, comparison: Mapping[str, Any]) -> None:
    """Copy the run's own student to `student/`, with a model card."""
    arm = main_arm(names_of(comparison))
    with whole_folder(run.folder / "student") as part:
        shutil.copytree(run.stage(f"train-{arm}") / "model", part, dirs_exist_ok=True)
        with atomic(Path(part) / "README.md") as handle:
            reads = read_json(Path(part) / "config.json").get("is_encoder_decoder", False)
            handle.write(model_card(recipe, comparison, encoder_decoder=reads))


def model_card(recipe: Recipe, comparison: Mapping[str, Any], *, encoder_decoder: bool = False) -> str:
    """A model card: what it was made from, how, and how well it does."""
    table = comparison["overall"]["table"]
    arm = main_arm(table)
    metrics = [name for name in TABLE if name in table.get(arm, {})]
    lines = [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {'text2text-generation' if encoder_decoder else 'text-generation'}",
        f"base_model: {recipe.student.model}",
        "tags: [understudy, distillation]",
        "---",
        f"# {recipe.name}",
        "",
        _how(recipe, arm),
        "",
        f"- teacher: {_before(recipe.teacher) if recipe.teacher else _elsewhere(recipe)}",
        f"- student: {_before(recipe.student)}",
        f"- data: `{recipe.data.source}`, seed {recipe.seed}, recipe {recipe.fingerprint()}",
        "",
        "Held-out items, with bootstrap intervals:",
        "",
        "| arm | " + " | ".join(metrics) + " |",
        "|---" * (len(metrics) + 1) + "|",
    ]
    for arm, values in table.items():
        cells = [_cell(values.get(name)) for name in metrics]
        lines.append(f"| {arm} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _how(recipe: Recipe, arm: str) -> str:
    by = f"`{recipe.distil.method}` with `{recipe.distil.divergence}` at temperature {recipe.distil.temperature}"
    if arm == "distilled" or recipe.tasks is None:
        return f"A student distilled by understudy: {by}."
    texts = f"task `{recipe.tasks.kind}`, rationales of the step `{recipe.tasks.rationales}`"
    also = f"; beside it the teacher's logits: {by}" if recipe.tasks.logits else ""
    return f"A student taught by understudy with texts of a teacher: {texts}{also}."


def _before(model: ModelConfig) -> str:
    """A model, and what was done to it before distillation."""
    steps = [
        name for name, on in (("continued pretraining", model.pretrain), ("supervised fine-tuning", model.sft)) if on
    ]
    fresh = " (fresh weights)" if model.init == "fresh" else ""
    return f"`{model.model}`{fresh}{' after ' + ' and '.join(steps) if steps else ''}"


def _elsewhere(recipe: Recipe) -> str:
    """A teacher that was only asked."""
    asked = recipe.generate and (recipe.generate.teacher.model if recipe.generate.teacher else recipe.generate.recorded)
    return f"`{asked}`, by its texts" if asked else "none"


def _cell(interval: Mapping[str, Any] | None) -> str:
    """A value with its interval; too few items have none."""
    if interval is None or interval["value"] is None:
        return "–"
    around = "" if interval["low"] is None else f" [{interval['low']:.3f}, {interval['high']:.3f}]"
    return f"{interval['value']:.3f}{around}"
