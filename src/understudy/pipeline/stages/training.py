"""The stages that train on questions and answers: fine-tuning before distillation, and the arms."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from understudy import build
from understudy.evaluation.predict import dev_scores
from understudy.models.forward import probe
from understudy.models.load import add_lora, load_model, load_template, merged, pick_dtype
from understudy.pipeline.stages.answers import distilled_rows, seqkd_rows
from understudy.pipeline.stages.context import (
    Context,
    pretrained_weights,
    rows_of,
    student_weights,
    teacher_weights,
)
from understudy.pipeline.stages.knowledge import lessons
from understudy.recipe import ModelConfig, Recipe, TrainConfig
from understudy.run import Run, whole_folder
from understudy.teachers.local import LocalTeacher
from understudy.tokens.align import CrossTokenizer
from understudy.tokens.collate import (
    Collator,
    EncodedRow,
    ExampleRows,
    ExampleTokenizer,
    encode_rows,
    move,
    short_inputs,
)
from understudy.tokens.template import Template
from understudy.training.checkpoints import last_checkpoint
from understudy.training.module import DistillationModule
from understudy.training.objective import Need, Objective
from understudy.training.schedule import plan, training_arguments
from understudy.training.trainer import DevScore, DistillationTrainer
from understudy.types import Example


def teacher_sft(context: Context, _: str) -> dict[str, Any]:
    """Fine-tune the teacher on the gold answers."""
    return _sft_before(context, "teacher", context.recipe.local_teacher)


def student_sft(context: Context, _: str) -> dict[str, Any]:
    """Fine-tune the student on the gold answers; every arm starts from it."""
    return _sft_before(context, "student", context.recipe.student)


@dataclasses.dataclass(frozen=True)
class Lessons:
    """What a stage teaches, before it is tokenised.

    Attributes:
        num: how many examples it comes from.
        encode: rows for a student, and for a teacher with what lies between their tokenizers, where there is one.
        objective: of the student's model, the teacher's and what lies between; the last two may be None.
        signal: whether the teacher is heard.
        dev_score: of an encoder and the development rows; default: plain answers.
    """

    num: int
    encode: Callable[
        [ExampleTokenizer, ExampleTokenizer | None, CrossTokenizer | None], Sequence[EncodedRow | ExampleRows]
    ]
    objective: Callable[[Any, Any, CrossTokenizer | None], Objective]
    signal: bool = False
    dev_score: Callable[[ExampleTokenizer, Sequence[Example]], DevScore] | None = None


def gold_lessons(rows: Sequence[Example]) -> Lessons:
    """Answers as they stand."""
    return Lessons(len(rows), lambda *sides: encode_rows(rows, *sides), lambda *_: build.gold_objective())


def _distilled_lessons(recipe: Recipe, rows: Sequence[Example]) -> Lessons:
    def objective(student: Any, teacher: Any, bridge: CrossTokenizer | None) -> Objective:
        return build.objective(recipe.distil, student, teacher, bridge)

    return Lessons(len(rows), lambda *sides: encode_rows(rows, *sides), objective, signal=True)


def _sft_before(context: Context, side: str, config: ModelConfig) -> dict[str, Any]:
    assert config.sft is not None
    rows, weights = rows_of(context.run, "train"), pretrained_weights(context.run, config, side)
    rows += lessons(context.run, context.recipe) if side == "teacher" else []
    return learn(context, f"{side}_sft", config, weights, config.sft, gold_lessons(rows))


def train(context: Context, arm: str) -> dict[str, Any]:
    """Train one arm. All arms take the same number of steps; SeqKD and distilled read the same prompts."""
    run, recipe = context.run, context.recipe
    gold = rows_of(run, "train")
    steps = equal_steps(run, recipe)
    config = recipe.distil.model_copy(update={"steps": steps})
    stage, weights = f"train-{arm}", student_weights(run, recipe)
    if arm in ("sft", "seqkd"):
        rows = gold if arm == "sft" else seqkd_rows(run, recipe)
        return learn(context, stage, recipe.student, weights, config, gold_lessons(rows))
    rows = gold if arm == "kd_gold" else distilled_rows(run, recipe)
    return learn(context, stage, recipe.student, weights, config, _distilled_lessons(recipe, rows))


def equal_steps(run: Run, recipe: Recipe) -> int:
    """Optimiser steps of every arm: `distil.steps`, or `distil.epochs` over what the distilled student reads."""
    if recipe.distil.steps:
        return recipe.distil.steps
    rows = len(rows_of(run, "train")) + len(rows_of(run, "unlabelled"))
    return plan(recipe.distil, rows, processes=_processes()).steps


def learn(
    context: Context,
    stage: str,
    config: ModelConfig,
    weights: str | None,
    training: TrainConfig,
    lessons: Lessons,
) -> dict[str, Any]:
    """Train `config`'s model on lessons, and keep it."""
    recipe, device = context.recipe, context.device
    context.progress(0, 1, "load")
    template = load_template(config, weights=weights)
    encoder = ExampleTokenizer(template, recipe.data)
    teacher_encoder, teacher, needs = None, None, Need.NOTHING
    if lessons.signal:
        teacher, teacher_encoder, needs = _teacher(context)
    model, autocast = trainable(config, training, device, weights, recipe.seed)
    bridge = build.bridge(recipe.distil, template, teacher_encoder.template) if teacher_encoder else None
    encoded = lessons.encode(encoder, teacher_encoder, bridge)
    objective = lessons.objective(model, teacher.model if teacher else None, bridge)
    dev = rows_of(context.run, "dev")[: training.eval_rows]
    dev_score = lessons.dev_score or functools.partial(dev_scores, batch_size=recipe.evaluate.batch_size)
    material = Material(
        encoded,
        collator(template, teacher_encoder, needs),
        teacher,
        dev_score(encoder, dev) if dev else None,
    )
    module = DistillationModule(model, objective.to(device))
    record = fit(context, stage, training, module, material, autocast=autocast)
    if record.pop("saves"):
        base = functools.partial(load_model, config, device, weights=weights, seed=recipe.seed)
        keep(context, stage, module, template, base)
    return {**record, "rows": lessons.num, "notes": encoder.notes}


@dataclasses.dataclass(frozen=True)
class Material:
    """What a training stage learns from: encoded rows, what pads them, who gives the signal, who scores the answers."""

    rows: Sequence[EncodedRow | ExampleRows]
    collator: Collator
    teacher: LocalTeacher | None = None
    dev_score: DevScore | None = None


def fit(
    context: Context,
    stage: str,
    training: TrainConfig,
    module: DistillationModule,
    material: Material,
    *,
    autocast: bool = False,
) -> dict[str, Any]:
    """Train to the end, from the last checkpoint where there is one; the best weights are in the module afterwards.

    Returns:
        What the stage says of itself; `saves` tells whether this process is the one that writes the model.
    """
    recipe, folder, device = context.recipe, context.run.stage(stage), context.device
    first = material.rows[0].rows[0].student
    probe(module.student, move(short_inputs(first), device), name=stage)
    numbers = plan(training, len(material.rows), processes=_processes())
    trainer = DistillationTrainer(
        module,
        training_arguments(
            training,
            numbers,
            folder / "training",
            device=device,
            seed=recipe.seed,
            report_to=recipe.report_to,
            name=f"{recipe.name}-{stage}",
            autocast=autocast,
            evaluate=material.dev_score is not None,
        ),
        material.rows,
        material.collator,
        teacher=material.teacher,
        dev_score=material.dev_score,
        objective_learning_rate=recipe.distil.projector_learning_rate,
        progress=context.progress,
    )
    checkpoint = last_checkpoint(folder / "training")
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.load_best()
    return {
        "saves": trainer.args.should_save,
        "plan": dataclasses.asdict(numbers),
        "target_tokens": sum(len(row.student.learned_ids) for item in material.rows for row in item.rows),
        "best_rougeL": trainer.state.best_metric,
        "best_step": trainer.state.best_global_step,
        "train_seconds": result.metrics["train_runtime"],
    }


def keep(
    context: Context, stage: str, module: DistillationModule, template: Template, reload: Callable[[], Any]
) -> None:
    """Write the trained model into the stage's folder; checkpoints go."""
    folder = context.run.stage(stage)
    save_model(module.student, template, folder / "model", reload=reload)
    remove_checkpoints(folder / "training")


def _teacher(context: Context) -> tuple[LocalTeacher, ExampleTokenizer, Need]:
    recipe = context.recipe
    weights = teacher_weights(context.run, recipe)
    needs = build.NEEDS[recipe.distil.method]
    template = load_template(recipe.local_teacher, weights=weights)
    own = recipe.local_teacher.seed
    seed = recipe.seed if own is None else own
    model = load_model(recipe.local_teacher, context.device, weights=weights, seed=seed)
    encoder = ExampleTokenizer(template, recipe.data)
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


def collator(template: Template, teacher: ExampleTokenizer | None, needs: Need) -> Collator:
    """What pads the rows for a student and, where there is one, its teacher."""
    pad: Any = template.tokenizer.pad_token_id
    teacher_pad: Any = teacher.template.tokenizer.pad_token_id if teacher else None
    return Collator(pad, teacher_pad, same_targets=Need.SAME_VOCABULARY in needs)


def _processes() -> int:
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def save_model(model: Any, template: Template, folder: Path, *, reload: Callable[[], Any] | None = None) -> None:
    """Write a model folder, adapters merged; whole or not at all.

    `AutoModelForCausalLM.from_pretrained` opens it, and `AutoModelForSeq2SeqLM` that of an encoder–decoder.
    """
    final = merged(model, reload)
    # Answers are greedy: sampling fields stay behind, and with them the ones that transformers refuses to save.
    start = template.start_ids
    final.generation_config = GenerationConfig(
        decoder_start_token_id=start[0] if start else None,
        # What the tokenizer puts before an answer, the decoder is given: BART's <s>.
        forced_bos_token_id=start[1] if len(start) > 1 else None,
        bos_token_id=template.tokenizer.bos_token_id,
        pad_token_id=template.tokenizer.pad_token_id,
        eos_token_id=list(template.stop_ids),
    )
    with whole_folder(folder) as part:
        final.save_pretrained(part)
        template.tokenizer.save_pretrained(part)


def remove_checkpoints(folder: Path) -> None:
    """Checkpoints are for resuming; a finished stage keeps its model and its curves."""
    for path in [*folder.glob("checkpoint-*"), folder / "best"]:
        shutil.rmtree(path, ignore_errors=True)
