"""The last stage: predictions to scores, scores to `report.html`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from understudy.arms import DISTILLED, SEQKD, main_arm
from understudy.evaluation.compare import compare
from understudy.evaluation.judge_check import check_judge
from understudy.evaluation.metric_models import metric_models_of, metric_names
from understudy.evaluation.scoring import score_systems
from understudy.evaluation.systems import run_systems
from understudy.files import read_json, read_jsonl, write_json
from understudy.metrics.significance import Resampling
from understudy.pipeline.kinds import left_out, stage_of, stages
from understudy.pipeline.knowledge_report import taught_note, texts_of
from understudy.pipeline.learning_report import learning_sentences, memory_sentences
from understudy.pipeline.model_card import TABLE, export_student
from understudy.pipeline.set_aside import set_aside_note
from understudy.pipeline.stage import Stage
from understudy.recipe import Recipe, dump_recipe
from understudy.records import (
    AnswersNotes,
    CacheNotes,
    CandidatesNotes,
    CutNotes,
    DataNotes,
    Environment,
    ModelSpeed,
    PairNotes,
    PretrainingNotes,
    RunSummary,
    SpeedNotes,
    TrainingNotes,
)
from understudy.report import ReportInputs, render_report
from understudy.report.headline import headline
from understudy.report.verdicts import names_of
from understudy.run import Run


def summarise(run: Run, recipe: Recipe) -> None:
    """Write `scores.json`, `summary.json`, `report.html` and `student/` of a run whose arms are all answered.

    Raises:
        RunError: of a metric the judge was not heard at all.
    """
    config = recipe.evaluate
    # Where the folder lies is nothing that a page to show around should tell.
    arms = [replace(system, origin=run.folder.name) for system in run_systems(run)]
    scored = score_systems(arms, metric_names(config.metrics), metric_models_of(config, account=run.folder.name))
    if config.judge is not None:
        not_measured = scored.not_measured.items()
        check_judge(config.judge.model, ((name, why) for name, reasons in not_measured for why in reasons.values()))
    comparison = compare(scored, resampling=Resampling(config.resamples, config.confidence)).to_dict()
    write_json(run.folder / "scores.json", comparison)
    write_json(run.folder / "summary.json", summary(comparison).to_json())
    render_report(report_inputs(run, recipe, comparison), run.folder / "report.html")
    if run.is_done(stage_of("train", main_arm(names_of(comparison))).name):
        export_student(run, recipe, comparison)


def summary(comparison: Mapping[str, Any]) -> RunSummary:
    """What the terminal shows: a small table and the headline."""
    table = {
        arm: {
            name: interval["value"]
            for name, interval in values.items()
            if name in TABLE and interval["value"] is not None
        }
        for arm, values in comparison["overall"]["table"].items()
    }
    metrics = tuple(name for name in TABLE if any(name in values for values in table.values()))
    outcome = headline(comparison)
    return RunSummary(metrics, table, (outcome.verdict, *outcome.sentences))


def report_inputs(run: Run, recipe: Recipe, comparison: Mapping[str, Any]) -> ReportInputs:
    """Gather what the report shows from the run folder."""
    notes = {**read_json(run.folder / "data" / "notes.json"), **run.notes("pair", PairNotes).tokenizers}
    environment = Environment.from_json(read_json(run.folder / "environment.json"))
    rows = run.notes("data", DataNotes).rows
    return ReportInputs(
        name=recipe.name,
        comparison=comparison,
        recipe=dump_recipe(recipe),
        curves=curves(run, recipe),
        models=speeds(run, recipe),
        data={**{f"{role} rows": count for role, count in rows.items()}, **_plain(notes), **stage_notes(run, recipe)},
        fingerprints={source["name"]: source["fingerprint"] for source in notes.get("sources", ())},
        versions={
            "understudy": environment.understudy,
            "python": environment.python,
            "platform": environment.platform,
            **environment.packages,
        },
        texts=texts_of(run, recipe),
        notes=sentences(run, recipe),
    )


def finished(run: Run, recipe: Recipe) -> list[Stage]:
    """The stages of a run that are done, in the order of the plan."""
    unlabelled = run.notes(stage_of("data").name, DataNotes).has_unlabelled
    return [planned for planned in stages(recipe, unlabelled=unlabelled) if run.is_done(planned.name)]


def speeds(run: Run, recipe: Recipe) -> dict[str, ModelSpeed]:
    """Size and speed of the models that were timed."""
    return {s.argument: run.notes(s.name, SpeedNotes).speed for s in finished(run, recipe) if s.kind == "speed"}


def _plain(notes: Mapping[str, Any]) -> dict[str, Any]:
    flat = {key: value for key, value in notes.items() if isinstance(value, str | int | float) and value not in ("", 0)}
    flat |= notes.get("blemishes", {})
    flat |= {key: "; ".join(value) for key, value in notes.items() if key.endswith("tokenizer") and value}
    return flat


def stage_notes(run: Run, recipe: Recipe) -> dict[str, Any]:
    """What was cut, dropped or shortened on the way, by stage."""
    notes: dict[str, Any] = {}
    for name in sorted(stage.name for stage in finished(run, recipe)):
        stage_notes = run.record(name).notes  # of any kind, those of extensions too
        notes |= {f"{name}: {what}": count for what, count in (stage_notes.get("notes") or {}).items()}
        notes |= {f"{name}: {what} answers dropped": n for what, n in (stage_notes.get("dropped") or {}).items() if n}
    return notes


def curves(run: Run, recipe: Recipe) -> dict[str, list[dict[str, Any]]]:
    """The training curves of each stage that trained, by arm, or by stage where it is no arm's own."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for stage in sorted(finished(run, recipe), key=lambda stage: stage.name):
        path = run.stage(stage.name) / "training" / "metrics.jsonl"
        if stage.distributed and path.is_file():
            rows[stage.argument if stage.kind == "train" else stage.name] = read_jsonl(path)
    return rows


def sentences(run: Run, recipe: Recipe) -> list[str]:
    """What a reader has to know to judge the figures."""
    done = finished(run, recipe)
    trained = {stage.argument: run.notes(stage.name, TrainingNotes) for stage in done if stage.kind == "train"}
    lines = steps_sentences({name: notes.plan.steps for name, notes in trained.items()}, recipe)
    rates = {rate for notes in trained.values() if (rate := notes.plan.learning_rate)}
    if recipe.distil.learning_rate is None and rates:
        peaks = " and ".join(f"{rate:g}" for rate in sorted(rates))
        lines.append(f"The peak learning rate of the students was chosen by their size: {peaks}.")
    for name, notes in trained.items():
        lines += learning_sentences(name, notes, recipe)
    for stage in done:
        if stage.kind in ("sft", "pretrain"):
            kind = PretrainingNotes if stage.kind == "pretrain" else TrainingNotes
            lines += memory_sentences(f"the {stage.argument}", run.notes(stage.name, kind))
        if stage.kind == "pretrain":
            who = stage.argument if stage.argument in ("teacher", "student") else f"student of {stage.argument}"
            notes = run.notes(stage.name, PretrainingNotes)
            lines.append(
                f"Before anything else the {who} read raw text: {notes.documents:,} documents of "
                f"{notes.target_tokens:,} tokens, {notes.plan.steps:,} optimiser steps."
            )
        if stage.kind == "cut":
            lines.append(cut_sentence(run.notes(stage.name, CutNotes), stage.argument))
        if stage.kind == "cache":
            lines.append(cache_sentence(run.notes(stage.name, CacheNotes)))
        if stage.kind == "candidates":
            lines.append(candidates_sentence(run.notes(stage.name, CandidatesNotes), stage.argument))
        if stage.kind == "answers":
            lines.append(answers_sentence(run.notes(stage.name, AnswersNotes), stage.argument, trained))
    lines += unseen_sentences(recipe)
    hearing = [name for name in recipe.signal_arms if name in trained]
    if recipe.served_teacher and hearing:
        lines.append(
            f"The teacher was asked on a server. {' and '.join(hearing)} learned {recipe.served_teacher.words}."
        )
    if recipe.teachers and hearing:
        lines.append(f"{' and '.join(hearing)} learned from several teachers: {recipe.teachers.words()}.")
    unlabelled = run.notes("data", DataNotes).has_unlabelled
    lines += run.notes("data", DataNotes).remarks or ()
    lines += [f"{sentence[:1].upper()}{sentence[1:]}." for sentence in run.notes("pair", PairNotes).warnings]
    lines += [note for note in (taught_note(recipe), set_aside_note(run)) if note]
    lines += left_out(recipe, unlabelled=unlabelled)
    if DISTILLED.name in trained and not unlabelled:
        lines.append("There were no unlabelled questions: distillation saw the gold rows alone.")
    return lines


def cut_sentence(notes: CutNotes, argument: str) -> str:
    """What of the teacher a student is, and how it began."""
    who = "The student" if argument == "student" else f"The student of {argument}"
    blocks = " and ".join(", ".join(map(str, kept)) for kept in notes.blocks.values())
    sizes = "".join(f", {name} {size:,}" for name, size in notes.shape.items())
    return (
        f"{who} was cut from the teacher: blocks {blocks}{sizes}; {notes.num_parameters:,} of "
        f"{notes.teacher_parameters:,} parameters. Before any training of its own its perplexity was "
        f"{notes.perplexity:.3g}, the teacher's {notes.teacher_perplexity:.3g}; both found the same token likeliest at "
        f"{notes.agreement:.0%} of {notes.target_tokens:,} target tokens."
    )


def cache_sentence(notes: CacheNotes) -> str:
    """What of the teacher the students learned from."""
    targets = notes.targets
    kept = {
        "topk": "the {k} likeliest tokens and the mass of all others, {bits} bits a probability",
        "sampled": "the {k} likeliest tokens and {draws} drawn from the others, {bits} bits a probability",
        "states": "the hidden state, as {dtype}",
        "candidates": "all its logits over options or labels",
    }[targets["kind"]].format_map(targets)
    return (
        "The students learned from what the teacher said once, kept on disk: of each target token "
        f"{kept}; {notes.bytes_per_token:g} bytes a token."
    )


def unseen_sentences(recipe: Recipe) -> list[str]:
    """What one of the two models read and the other did not."""
    teacher, lines = recipe.teacher, []
    if teacher is not None and teacher.from_student:
        lines.append("The teacher is the student itself, as its training begins.")
    if teacher is not None and teacher.hint is not None:
        told = {"instructions": teacher.hint.system, "solved questions": teacher.hint.examples}
        parts = [name for name, value in told.items() if value]
        parts += [f"the field {teacher.hint.field} of each row"] if teacher.hint.field else []
        lines.append(f"The teacher alone read {' and '.join(parts)}, where it is measured too.")
    if not recipe.student.context:
        lines.append(
            "The students went without the contexts that the teacher read, unless an arm's own recipe says so."
        )
    return lines


def candidates_sentence(notes: CandidatesNotes, arm: str) -> str:
    """What the teacher weighed for an arm (empty: for all), and how often it finds the gold answer likeliest."""
    whom = f" for {arm}" if arm else ""
    text = (
        f"The teacher weighed {notes.candidates:,} answers to {notes.rows:,} of {notes.questions:,} questions{whom}, "
        f"more than one to {notes.several:,} of them"
    )
    if not notes.gold_rows:
        return f"{text}."
    share = notes.gold_likeliest / notes.gold_rows
    return f"{text}; it found the gold answer likeliest on {share:.0%} of the {notes.gold_rows:,} that have one."


def answers_sentence(notes: AnswersNotes, arm: str, trained: Collection[str]) -> str:
    """What the teacher was asked for an arm (empty: for all), and who of the trained arms read the same prompts."""
    whom = f" for {arm}" if arm else ""
    text = f"The teacher was asked {notes.asked:,} questions{whom}; {notes.kept:,} answers were kept."
    return f"{text} SeqKD and distilled read the same prompts." if {SEQKD.name, DISTILLED.name} <= {*trained} else text


def steps_sentences(steps: Mapping[str, int], recipe: Recipe) -> list[str]:
    """How long the students were trained; arms of one's own may differ in that."""
    if len(set(steps.values())) == 1:
        return [
            f"Every trained student took {next(iter(steps.values())):,} optimiser steps of "
            f"{recipe.distil.batch_size} rows."
        ]
    counts = ", ".join(f"{name} {count:,}" for name, count in steps.items())
    return [f"The students took different numbers of optimiser steps: {counts}."] if steps else []
