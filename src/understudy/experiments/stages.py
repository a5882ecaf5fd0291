"""The stages of a run. Each reads what earlier ones wrote, writes its own folder, and knows nothing of the others.

```text
data ─┬─ teacher_sft ─┬─ answers ─┬─ train:seqkd ───┬─ predict:ARM ─ … ─┐
      ├─ student_sft ─┤           └─ train:distilled┤                   ├─ report
      │               ├─ train:sft ─────────────────┤                   │
      │               └─ train:kd_gold ─────────────┘   speed:MODEL ────┘
```
"""

from __future__ import annotations

import dataclasses
import functools
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from understudy import build
from understudy.data.collate import Collator, Encoder, encode_rows
from understudy.data.load import load_splits
from understudy.data.template import Template
from understudy.errors import DataError, RunError, UnderstudyError
from understudy.evaluation.memory import PeakMemory
from understudy.evaluation.predict import dev_scores, predict, speed
from understudy.experiments.summary import summarise
from understudy.files import disk_fault, fingerprint_folder, read_jsonl, write_json, write_jsonl
from understudy.models.forward import probe
from understudy.models.generate import generate
from understudy.models.load import add_lora, load_model, load_template, merged, pick_device, pick_dtype, resolve
from understudy.recipe import ModelConfig, Recipe, TrainConfig
from understudy.run import AGAIN, Run, whole_folder
from understudy.teachers.local import LocalTeacher
from understudy.training.checkpoints import last_checkpoint
from understudy.training.module import DistillationModule
from understudy.training.objective import Need, Objective
from understudy.training.plan import Plan, plan, training_arguments
from understudy.training.trainer import DistillationTrainer
from understudy.types import Example, Message

Progress = Callable[[int, int, str], None]


@dataclasses.dataclass(frozen=True)
class Context:
    """What every stage is given."""

    run: Run
    recipe: Recipe
    progress: Progress

    @property
    def device(self) -> torch.device:
        """Where models go."""
        return pick_device(self.recipe.device)


def run_stage(
    name: str, needs: Sequence[str], recipe: Recipe, folder: Path, progress: Progress, *, first: bool = True
) -> None:
    """Run one stage to its end and mark it done.

    Args:
        name: `data`, `train:distilled` …; what stands before the colon picks the function.
        needs: the stages that it is made from.
        recipe: the run's recipe.
        folder: the run folder.
        progress: called with (done, total, note).
        first: whether this is the first of several processes, the one that keeps the folder.

    Raises:
        UnderstudyError: for a reason that a user can mend; a full disk and exhausted memory are among them.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    run = Run(folder)
    kind, _, argument = name.partition(":")
    seed_all(recipe.seed)
    begin = time.perf_counter()
    with _mendable(name):
        if first:
            run.begin(name, needs)
        record = STAGES[kind](Context(run, recipe, progress), argument) or {}
        if first:
            run.mark_done(name, {"stage": name, "seconds": round(time.perf_counter() - begin, 3), **record})


@contextmanager
def _mendable(name: str) -> Iterator[None]:
    """Say in one sentence what is no fault of the program: the disk or the memory is full."""
    try:
        yield
    except UnderstudyError:
        raise
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise RunError(
            f"stage {name} ran out of memory",
            hint="lower its micro_batch_size or evaluate.batch_size, then run the same command again",
        ) from error
    except Exception as error:
        reason = disk_fault(error)
        if not reason:
            raise
        raise RunError(f"stage {name} cannot write: {reason}", hint=AGAIN) from error


def seed_all(seed: int) -> None:
    """Seed every generator that a stage may draw from."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


# -- data ------------------------------------------------------------------------------------------------------------


def data(context: Context, _: str) -> dict[str, Any]:
    """Load, split, and check that the two models fit the method, before any weight is loaded."""
    recipe, folder = context.recipe, context.run.folder / "data"
    student, teacher = load_template(recipe.student), load_template(recipe.teacher)
    build.check_pair(recipe, student, teacher)
    context.progress(1, 3, "read")
    splits = load_splits(recipe.data, quarantine_path=folder / "quarantine.jsonl")
    if not splits.test:
        raise DataError("there are no test rows", hint="raise data.test, or give data.test_source")
    if not splits.train:
        raise DataError("there are no training rows with an answer", hint="check data.source and data.gold_share")
    context.progress(2, 3, "write")
    for role in ROLES:
        write_jsonl(folder / f"{role}.jsonl", (as_row(example) for example in getattr(splits, role)))
    notes = {**splits.notes, "student tokenizer": student.notes, "teacher tokenizer": teacher.notes}
    write_json(folder / "notes.json", notes)
    return {"rows": {role: len(getattr(splits, role)) for role in ROLES}, "models": model_folders(recipe)}


def model_folders(recipe: Recipe) -> list[dict[str, str]]:
    """The folders that the two models come from, with their fingerprints; a model of the hub has none."""
    folders = {Path(resolve(config.model)) for config in (recipe.teacher, recipe.student)}
    return [
        {"folder": str(folder.resolve()), "fingerprint": fingerprint_folder(folder)}
        for folder in sorted(folders)
        if folder.is_dir()
    ]


ROLES = ("train", "unlabelled", "dev", "test")


def as_row(example: Example) -> dict[str, Any]:
    """An example as JSON."""
    row = dataclasses.asdict(example)
    return {key: value for key, value in row.items() if value not in (None, (), {}) or key == "question"}


def from_row(row: dict[str, Any]) -> Example:
    """The example that `as_row` wrote."""
    history = tuple(Message(**turn) for turn in row.get("history", ()))
    texts: dict[str, Any] = {key: tuple(row.get(key, ())) for key in ("answers", "choices", "rationales")}
    rest: dict[str, Any] = {key: row[key] for key in ("id", "question", "context", "origin", "meta") if key in row}
    return Example(**rest, **texts, history=history)


def rows_of(run: Run, role: str) -> list[Example]:
    """One split of a run."""
    return [from_row(row) for row in read_jsonl(run.folder / "data" / f"{role}.jsonl")]


# -- supervised fine-tuning before distillation ----------------------------------------------------------------------


def teacher_sft(context: Context, _: str) -> dict[str, Any]:
    """Fine-tune the teacher on the gold answers."""
    return _sft_before(context, "teacher_sft", context.recipe.teacher)


def student_sft(context: Context, _: str) -> dict[str, Any]:
    """Fine-tune the student on the gold answers; every arm starts from it."""
    return _sft_before(context, "student_sft", context.recipe.student)


def _sft_before(context: Context, stage: str, config: ModelConfig) -> dict[str, Any]:
    assert config.sft is not None
    return _train(context, stage, config, None, config.sft, rows_of(context.run, "train"), build.gold_objective())


def teacher_weights(run: Run, recipe: Recipe) -> str | None:
    """The folder of the fine-tuned teacher, or None where it is used as it came."""
    return str(run.stage("teacher_sft") / "model") if recipe.teacher.sft else None


def student_weights(run: Run, recipe: Recipe) -> str | None:
    """The folder of the student that the arms start from, or None where it is used as it came."""
    return str(run.stage("student_sft") / "model") if recipe.student.sft else None


# -- the teacher's answers -------------------------------------------------------------------------------------------


def answers(context: Context, _: str) -> dict[str, Any]:
    """Let the teacher answer the questions without gold (and those with, unless `seqkd.keep_gold`)."""
    run, recipe = context.run, context.recipe
    asked = rows_of(run, "unlabelled")
    if not (recipe.seqkd.keep_gold and asked):
        asked = rows_of(run, "train") + asked
    template = load_template(recipe.teacher, weights=teacher_weights(run, recipe))
    model = load_model(recipe.teacher, context.device, weights=teacher_weights(run, recipe), seed=recipe.seed)
    encoder = Encoder(template, recipe.data)
    counter = Counter(context.progress, len(asked), "questions")
    given = generate(
        model,
        template,
        [encoder.prompt_ids(example) for example in asked],
        max_new_tokens=recipe.data.max_answer_tokens,
        batch_size=recipe.evaluate.batch_size,
        progress=counter,
    )
    kept, dropped = [], {"empty": 0, "unfinished": 0}
    for example, answer in zip(asked, given, strict=True):
        if not answer.text:
            dropped["empty"] += 1
        elif not answer.finished and not recipe.seqkd.keep_unfinished:
            dropped["unfinished"] += 1
        else:
            kept.append(dataclasses.replace(example, answers=(answer.text,), origin="teacher", rationales=()))
    write_jsonl(run.stage("answers") / "answers.jsonl", (as_row(example) for example in kept))
    if not kept:
        raise RunError(
            f"the teacher gave no finished answer to any of {len(asked)} questions",
            hint="raise data.max_answer_tokens, set seqkd.keep_unfinished, or fine-tune it first (teacher.sft)",
        )
    return {"asked": len(asked), "kept": len(kept), "dropped": dropped}


class Counter:
    """Adds up what a worker reports piece by piece."""

    def __init__(self, progress: Progress, total: int, note: str) -> None:
        self.progress, self.total, self.note, self.done = progress, total, note, 0

    def __call__(self, count: int) -> None:
        """`count` more are done."""
        self.done += count
        self.progress(self.done, self.total, self.note)


def distilled_rows(run: Run, recipe: Recipe) -> list[Example]:
    """What the distilled student reads: gold rows, and the unlabelled questions with the teacher's answers.

    Without unlabelled questions it reads the gold rows alone.
    """
    gold = rows_of(run, "train")
    written = [from_row(row) for row in read_jsonl(run.stage("answers") / "answers.jsonl")]
    known = {example.id for example in gold}
    return gold + [example for example in written if example.id not in known]


def seqkd_rows(run: Run, recipe: Recipe) -> list[Example]:
    """What the SeqKD student reads: the same prompts, the teacher's answer wherever it gave one in the gold's place."""
    written = {row["id"]: from_row(row) for row in read_jsonl(run.stage("answers") / "answers.jsonl")}
    return [written.get(example.id, example) for example in distilled_rows(run, recipe)]


# -- the arms --------------------------------------------------------------------------------------------------------


def train(context: Context, arm: str) -> dict[str, Any]:
    """Train one arm. All arms take the same number of steps; SeqKD and distilled read the same prompts."""
    run, recipe = context.run, context.recipe
    gold = rows_of(run, "train")
    steps = equal_steps(run, recipe)
    config = recipe.distil.model_copy(update={"steps": steps})
    stage, weights = f"train:{arm}", student_weights(run, recipe)
    if arm in ("sft", "seqkd"):
        rows = gold if arm == "sft" else seqkd_rows(run, recipe)
        return _train(context, stage, recipe.student, weights, config, rows, build.gold_objective())
    rows = gold if arm == "kd_gold" else distilled_rows(run, recipe)
    return _train(context, stage, recipe.student, weights, config, rows, None)


def equal_steps(run: Run, recipe: Recipe) -> int:
    """Optimiser steps of every arm: `distil.steps`, or `distil.epochs` over what the distilled student reads."""
    if recipe.distil.steps:
        return recipe.distil.steps
    return plan(recipe.distil, len(rows_of(run, "train")) + len(rows_of(run, "unlabelled"))).steps


def _train(
    context: Context,
    stage: str,
    config: ModelConfig,
    weights: str | None,
    training: TrainConfig,
    rows: Sequence[Example],
    objective: Objective | None,
) -> dict[str, Any]:
    """Train `config`'s model on `rows`; `objective` None means: distil as the recipe says."""
    recipe, folder, device = context.recipe, context.run.stage(stage), context.device
    context.progress(0, 1, "load")
    template = load_template(config, weights=weights)
    encoder = Encoder(template, recipe.data)
    teacher_encoder, teacher, needs = None, None, Need.NOTHING
    if objective is None:
        teacher, teacher_encoder, needs = _teacher(context)
    model, autocast = trainable(config, training, device, weights, recipe.seed)
    encoded = encode_rows(rows, encoder, teacher_encoder)
    _probe(model, encoded[0].student.ids, device, stage)
    if objective is None:
        assert teacher is not None
        objective = build.objective(recipe.distil, model, teacher.model)
    numbers = plan(training, len(encoded), processes=_processes())
    dev = rows_of(context.run, "dev")[: training.eval_rows]
    trainer = DistillationTrainer(
        DistillationModule(model, objective.to(device)),
        training_arguments(
            training,
            numbers,
            folder / "training",
            device=device,
            seed=recipe.seed,
            report_to=recipe.report_to,
            name=f"{recipe.name}-{stage}",
            autocast=autocast,
            evaluate=bool(dev),
        ),
        encoded,
        collator(template, teacher_encoder, needs),
        teacher=teacher,
        dev_score=dev_scores(encoder, dev, batch_size=recipe.evaluate.batch_size) if dev else None,
        objective_learning_rate=recipe.distil.projector_learning_rate,
        progress=context.progress,
    )
    checkpoint = last_checkpoint(folder / "training")
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.load_best()
    if trainer.args.should_save:
        base = functools.partial(load_model, config, device, weights=weights, seed=recipe.seed)
        save_model(trainer.module.student, template, folder / "model", reload=base)
        remove_checkpoints(folder / "training")
    return _record(numbers, rows, encoder, trainer, result)


def _record(numbers: Plan, rows: Sequence[Example], encoder: Encoder, trainer: Any, result: Any) -> dict[str, Any]:
    tokens = sum(len(row.student.answer_ids) for row in trainer.train_dataset.rows)
    return {
        "plan": dataclasses.asdict(numbers),
        "rows": len(rows),
        "target_tokens": tokens,
        "best_rougeL": trainer.state.best_metric,
        "best_step": trainer.state.best_global_step,
        "train_seconds": result.metrics["train_runtime"],
        "notes": encoder.notes,
    }


def _teacher(context: Context) -> tuple[LocalTeacher, Encoder, Need]:
    recipe = context.recipe
    weights = teacher_weights(context.run, recipe)
    needs = build.NEEDS[recipe.distil.method]
    template = load_template(recipe.teacher, weights=weights)
    model = load_model(recipe.teacher, context.device, weights=weights, seed=recipe.seed)
    encoder = Encoder(template, recipe.data)
    return LocalTeacher(model, embeddings=Need.EMBEDDINGS in needs), encoder, needs


def trainable(
    config: ModelConfig, training: TrainConfig, device: torch.device, weights: str | None, seed: int
) -> tuple[Any, bool]:
    """A model whose trained weights are float32; half precision then comes by autocast."""
    dtype = pick_dtype(config.dtype, device)
    full = training.lora is None
    chosen = config.model_copy(update={"dtype": "float32"}) if full else config
    quantize = training.lora is not None and training.lora.quantize_4bit
    model = load_model(chosen, device, weights=weights, seed=seed, quantize=quantize)
    if training.lora:
        model = add_lora(model, training.lora)
    return model, full and dtype == torch.bfloat16


def _probe(model: Any, ids: list[int], device: torch.device, stage: str) -> None:
    tokens = torch.tensor([ids[:64]], device=device)
    probe(model, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, name=stage)


def collator(template: Template, teacher: Encoder | None, needs: Need) -> Collator:
    """What pads the rows for a student and, where there is one, its teacher."""
    pad: Any = template.tokenizer.pad_token_id
    teacher_pad: Any = teacher.template.tokenizer.pad_token_id if teacher else None
    return Collator(pad, teacher_pad, same_targets=Need.SAME_VOCABULARY in needs)


def _processes() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def save_model(model: Any, template: Template, folder: Path, *, reload: Callable[[], Any] | None = None) -> None:
    """Write a model folder that `AutoModelForCausalLM.from_pretrained` opens, adapters merged; whole or not at all."""
    final = merged(model, reload)
    final.generation_config.pad_token_id = template.tokenizer.pad_token_id
    final.generation_config.eos_token_id = list(template.stop_ids)
    with whole_folder(folder) as part:
        final.save_pretrained(part)
        template.tokenizer.save_pretrained(part)


def remove_checkpoints(folder: Path) -> None:
    """Checkpoints are for resuming; a finished stage keeps its model and its curves."""
    for path in [*folder.glob("checkpoint-*"), folder / "best"]:
        shutil.rmtree(path, ignore_errors=True)


# -- evaluation ------------------------------------------------------------------------------------------------------


def arm_model(run: Run, recipe: Recipe, arm: str) -> tuple[ModelConfig, str | None]:
    """The configuration and the weights of an arm: teacher, base_student or a trained student."""
    if arm == "teacher":
        return recipe.teacher, teacher_weights(run, recipe)
    if arm == "base_student":
        return recipe.student, None
    return recipe.student, str(run.stage(f"train:{arm}") / "model")


def _arm(context: Context, arm: str) -> tuple[Any, Encoder]:
    config, weights = arm_model(context.run, context.recipe, arm)
    template = load_template(config, weights=weights)
    model = load_model(config, context.device, weights=weights, seed=context.recipe.seed)
    return model, Encoder(template, context.recipe.data)


def held_out(run: Run, recipe: Recipe) -> list[Example]:
    """The test rows that are evaluated."""
    return rows_of(run, "test")[: recipe.evaluate.rows]


def predict_arm(context: Context, arm: str) -> dict[str, Any]:
    """Answer the test rows with one arm."""
    model, encoder = _arm(context, arm)
    rows = held_out(context.run, context.recipe)
    counter = Counter(context.progress, len(rows), "answers")
    predictions = predict(model, encoder, rows, batch_size=context.recipe.evaluate.batch_size, progress=counter)
    write_jsonl(context.run.stage(f"predict:{arm}") / "predictions.jsonl", predictions)
    return {"rows": len(predictions), "notes": encoder.notes}


def speed_of(context: Context, which: str) -> dict[str, Any]:
    """Size and speed of the teacher, or of the student (all arms of the student share one architecture)."""
    memory = PeakMemory()
    model, encoder = _arm(context, which)
    rows = held_out(context.run, context.recipe)[:200]
    figures = speed(model, encoder, rows, batch_size=context.recipe.evaluate.batch_size)
    return {"speed": {**figures, "peak_memory_mb": memory.bytes() / 2**20}}


def report(context: Context, _: str) -> dict[str, Any]:
    """Scores, report, and the student's folder."""
    summarise(context.run, context.recipe)
    return {}


STAGES: dict[str, Callable[[Context, str], dict[str, Any] | None]] = {
    "data": data,
    "teacher_sft": teacher_sft,
    "student_sft": student_sft,
    "answers": answers,
    "train": train,
    "predict": predict_arm,
    "speed": speed_of,
    "report": report,
}
