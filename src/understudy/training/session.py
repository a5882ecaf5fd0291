"""One model is trained: loaded with float32 weights, fed with encoded rows, resumed where it stopped, and saved whole.

A *job* says what is learned; the session puts model, teacher, rows and objective together and calls the trainer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from understudy.data.sessions import BUNDLE_F1
from understudy.errors import ConfigError
from understudy.files import whole_folder
from understudy.models.adapters import add_lora, merged
from understudy.models.feature_input import INPUT_FILE, accompanied, projection
from understudy.models.features import stack_of
from understudy.models.forward import probe
from understudy.models.kept_by import kept_by
from understudy.models.kinds import kind_of
from understudy.models.load import load_example_tokenizer, load_model, num_parameters, pick_dtype
from understudy.models.rollout import Drawing
from understudy.recipe import MethodConfig, ModelConfig, OtherTeacherConfig, Recipe, TrainConfig
from understudy.recipe.teachers import FIRST
from understudy.records import TrainingFigures, TrainingNotes, TrainSchedule
from understudy.teachers.cache.cached import CachedTeacher, open_cached
from understudy.teachers.ensemble import Ensemble, Shares, shares_of_parts, shares_within
from understudy.teachers.local import LocalTeacher
from understudy.teachers.remote import RemoteTeacher
from understudy.teachers.signals import Teacher
from understudy.teachers.summed import SummedTeachers
from understudy.tokens.align import CrossTokenizer
from understudy.tokens.collate import (
    Collator,
    EncodedRow,
    ExampleRows,
    ExampleTokenizer,
    Padding,
    TeacherSide,
    move,
    short_inputs,
)
from understudy.tokens.template import Template
from understudy.training.checkpoints import last_checkpoint
from understudy.training.engine import Engine, saving
from understudy.training.module import DistillationModule
from understudy.training.objectives.adaptive import learns_as_it_goes
from understudy.training.objectives.base import Objective
from understudy.training.objectives.features import FeatureObjective, input_layer
from understudy.training.objectives.summed import SummedObjective
from understudy.training.onpolicy import Draw, OnPolicyRows, RolloutEncoder, Shape, drawing_by
from understudy.training.remote import remote_teacher
from understudy.training.rows import ListedRows, RowSource
from understudy.training.schedule import train_schedule, training_arguments
from understudy.training.trainer import DevScore, DistillationTrainer, Progress
from understudy.types import Example, Gives

MakeObjective = Callable[[Any, Any, CrossTokenizer | None], Objective]
Align = Callable[[Template, Template], CrossTokenizer | None]


@dataclasses.dataclass(frozen=True)
class Reading:
    """How a further teacher is read whose loss is added.

    Attributes:
        method: by which it is read.
        objective: of the student's model, the teacher's and what lies between their tokenizers.
        align: what lies between two tokenizers; None where nothing has to be aligned.
    """

    method: MethodConfig
    objective: MakeObjective
    align: Align


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """What a model is taught, before it is tokenised.

    Attributes:
        num_examples: how many examples it comes from.
        encode: rows for a student, and for a teacher with what lies between their tokenizers, where there is one; last
            the sides of further teachers, by name.
        objective: of the student's model, the teacher's and what lies between; the last two may be None.
        method: by which a teacher is read; None where none is.
        align: what lies between two tokenizers; None where nothing has to be aligned.
        dev_score: of a tokenizer and the development rows; None: nothing is scored on the way.
        others: how further teachers are read whose losses are added, by name.
        prompts: what the student is asked, where it learns its own answers.
    """

    num_examples: int
    encode: Callable[..., Sequence[EncodedRow | ExampleRows]]
    objective: MakeObjective
    method: MethodConfig | None = None
    align: Align | None = None
    dev_score: Callable[[ExampleTokenizer, Sequence[Example]], DevScore] | None = None
    others: Mapping[str, Reading] = dataclasses.field(default_factory=dict)
    prompts: Sequence[Example] = ()


@dataclasses.dataclass(frozen=True)
class Session:
    """Where, from what and how long a model is trained.

    Attributes:
        name: of the stage, for messages and trackers.
        folder: of the stage; `model` and `training` come to stand in it.
        recipe: of the run.
        config: section of the model.
        weights: folder of the weights to start from; None: as the model came.
        training: steps, rates, batch sizes.
        device: where models go.
        progress: called with (done, total, note).
    """

    name: str
    folder: Path
    recipe: Recipe
    config: ModelConfig
    weights: str | None
    training: TrainConfig
    device: torch.device
    progress: Progress

    @property
    def loader(self) -> Callable[[], Any]:
        """Loads the model once more as it was before this training, for merging adapters."""
        return functools.partial(load_model, self.config, self.device, weights=self.weights, seed=self.recipe.seed)


def train_model(
    session: Session,
    job: TrainingJob,
    dev: Sequence[Example],
    *,
    teacher_weights: str | None = None,
    teacher_cache: Path | None = None,
    shares: Shares | None = None,
    account: str = "",
) -> TrainingNotes:
    """Train a model, and keep it.

    Args:
        session: model, weights, steps.
        job: what it learns.
        dev: development rows.
        teacher_weights: folder of the teacher's weights, where the job reads its signal.
        teacher_cache: folder of what the teacher says; None: it is loaded and asked.
        shares: what each of `recipe.teachers` counts on a row; None: there is one teacher.
        account: what the budget of a teacher on a server is for.
    """
    recipe, device = session.recipe, session.device
    if job.method is not None and job.method.on_policy and job.method.on_policy.loss == "contrastive":
        session = dataclasses.replace(session, training=in_pairs(session.training))
    session.progress(0, 1, "load")
    tokenizer = load_example_tokenizer(session.config, recipe.data, weights=session.weights)
    template = tokenizer.template
    teacher, teacher_tokenizer, cross_tokenizer = None, None, None
    added: dict[str, AddedTeacher] = {}
    if job.method is not None:
        teacher, teacher_tokenizer = teacher_of(
            recipe, device, teacher_weights, job.method, teacher_cache, shares, account=account
        )
        cross_tokenizer = job.align(template, teacher_tokenizer.template) if job.align else None
        added = {
            name: added_teacher(recipe, name, how, template, device, account=account)
            for name, how in job.others.items()
        }
    model, autocast = trainable(session.config, session.training, device, session.weights, recipe.seed)
    sides = [{name: other.side for name, other in added.items()}] if added else []
    rows = job.encode(tokenizer, teacher_tokenizer, cross_tokenizer, *sides)
    objective = job.objective(model, teacher.model if teacher else None, cross_tokenizer)
    if objective.of_teacher is not None:
        assert isinstance(teacher, LocalTeacher), "the gate lets pass features of a teacher of this process alone"
        teacher.features = objective.of_teacher
    if teacher is not None and shares is not None and added:
        objective = SummedObjective({FIRST: objective, **{name: o.objective(model) for name, o in added.items()}})
        teacher = summed_teachers(recipe, teacher, {name: other.teacher for name, other in added.items()}, shares)
    if job.method is not None:
        objective = learns_as_it_goes(job.method, objective)
    module = DistillationModule(model, objective.to(device))
    source = None
    if job.method is not None and job.method.on_policy and teacher_tokenizer is not None:
        sides_of = {name: other.side for name, other in added.items()}
        encode = rollout_encoder(job.method, tokenizer, teacher_tokenizer, cross_tokenizer, sides_of)
        draw = drawing_of(session, job.method, model, tokenizer, (teacher, teacher_tokenizer), autocast=autocast)
        source = on_policy_rows(session, job, rows, encode, draw)
    figures, saves = fit(
        session,
        module,
        rows,
        collator(template, teacher_tokenizer, job.method, {name: other.padding for name, other in added.items()}),
        teacher=teacher,
        dev_score=job.dev_score(tokenizer, dev[: session.training.eval_rows]) if dev and job.dev_score else None,
        best=kept_by(model, dev),
        autocast=autocast,
        source=source,
    )
    if saves:
        save_student(session, module, template)
    return TrainingNotes(**vars(figures), rows=job.num_examples, notes=tokenizer.notes)


def fit(
    session: Session,
    module: DistillationModule,
    rows: Sequence[EncodedRow | ExampleRows],
    collator: Collator,
    *,
    teacher: Teacher | SummedTeachers | None = None,
    dev_score: DevScore | None = None,
    best: str = "rougeL",
    autocast: bool = False,
    source: RowSource | None = None,
) -> tuple[TrainingFigures, bool]:
    """Train to the end, from the last checkpoint where there is one; the best weights are in the module afterwards.

    Returns:
        What the stage says of itself, and whether this process is the one that writes the model.
    """
    recipe, folder = session.recipe, session.folder / "training"
    fresh = session.config.init == "fresh"
    training = session.training.with_learning_rate(0 if fresh else num_parameters(module.student))
    probe(module.student, move(short_inputs(rows[0].rows[0].student), session.device), name=session.name)
    schedule = train_schedule(training, len(rows), processes=num_processes())
    assert schedule.accumulation == 1 or not kind_of(module.student.config).searches, "the gate lets no such step pass"
    trainer = DistillationTrainer(
        module,
        training_arguments(
            training,
            schedule,
            folder,
            device=session.device,
            seed=recipe.seed,
            report_to=recipe.report_to,
            name=f"{recipe.name}-{session.name}",
            autocast=autocast,
            evaluate=dev_score is not None,
            best=best,
        ),
        source or ListedRows(rows),
        collator,
        teacher=teacher,
        dev_score=dev_score,
        objective_learning_rate=recipe.objective_learning_rate,
        progress=session.progress,
        patience=training.patience,
    )
    checkpoint = last_checkpoint(folder)
    result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.load_best()
    kept = trainer.state.best_metric
    figures = TrainingFigures(
        plan=schedule,
        target_tokens=sum(len(row.student.learned_ids) for item in rows for row in item.rows),
        trained_tokens=_trained_tokens(rows, schedule),
        parameters=num_parameters(module.student),
        best_rougeL=kept if best == "rougeL" else None,
        best_bundle_f1=kept if best == BUNDLE_F1 else None,
        best_of_kind=None if kept is None or best in ("rougeL", BUNDLE_F1) else {best: kept},
        best_step=trainer.state.best_global_step,
        train_seconds=result.metrics["train_runtime"],
        stopped_at=trainer.state.global_step if trainer.state.global_step < schedule.steps else None,
        rollouts=rollout_means(trainer.state.log_history),
        filtered=filtered_counts(trainer.state.log_history),
        cut_to=trainer.pieces.most,
    )
    return figures, trainer.args.should_save


def in_pairs(training: TrainConfig) -> TrainConfig:
    """A stage whose steps have given answers in one half of their micro-batches, the student's in the other."""
    micro = training.micro_batch_size or training.batch_size
    return training.model_copy(update={"micro_batch_size": min(micro, training.batch_size // 2)})


def rollout_means(history: Sequence[Mapping[str, float]]) -> dict[str, float] | None:
    """The mean over the lines of a log of each figure of the student's own answers, and its first value."""
    means: dict[str, float] = {}
    for name in sorted({name for line in history for name in line if name.startswith("rollout_")}):
        values = [line[name] for line in history if name in line]
        means |= {name: sum(values) / len(values), f"{name}_first": values[0], f"{name}_last": values[-1]}
    return means or None


def filtered_counts(history: Sequence[Mapping[str, float]]) -> dict[str, int] | None:
    """On how many rows of a log the teacher was not heard, by reason."""
    names = sorted({name for line in history for name in line if name.startswith("filtered_")})
    counts = {name.removeprefix("filtered_"): sum(line.get(name, 0) for line in history) for name in names}
    return {name: round(count) for name, count in counts.items()} or None


def rollout_encoder(
    method: MethodConfig,
    student: ExampleTokenizer,
    teacher: ExampleTokenizer,
    cross_tokenizer: CrossTokenizer | None,
    others: Mapping[str, TeacherSide],
) -> RolloutEncoder:
    """What turns answers of the student into rows for a method."""
    config = method.on_policy
    assert config is not None
    credited = config.loss == "policy_gradient" and not method.one_vocabulary
    mixed = config.teacher_mixed > 0
    return RolloutEncoder(
        student, teacher, cross_tokenizer, others, same_ids=method.one_vocabulary, credited=credited, mixed=mixed
    )


def drawing_of(
    session: Session,
    method: MethodConfig,
    model: Any,
    tokenizer: ExampleTokenizer,
    teacher: tuple[Any, ExampleTokenizer],
    *,
    autocast: bool,
) -> Draw:
    """Asks the student that is trained, as it stands."""
    config = method.on_policy
    assert config is not None
    columns = [len(tokenizer.template.tokenizer)]  # pyright: ignore[reportArgumentType]
    if method.one_vocabulary:
        # A column that the teacher lacks is nothing that it could judge.
        columns.append(len(teacher[1].template.tokenizer))  # pyright: ignore[reportArgumentType]
    drawing = Drawing(
        temperature=config.temperature,
        max_new_tokens=config.max_new_tokens or session.recipe.data.max_answer_tokens,
        columns=min(columns),
        batch_size=config.batch_size,
        autocast=autocast,
    )
    if config.engine:
        writes = not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
        if Path(config.engine.folder).expanduser().resolve() == Path(session.config.model).expanduser().resolve():
            raise ConfigError(
                "distil.on_policy.engine.folder is the student itself, which would be overwritten",
                hint="start the server on a copy of it, and name that",
            )
        save = saving(model, tokenizer.template)
        return Engine(config.engine, tokenizer, drawing, save, session.folder / "engine", first=writes)
    mixed = (teacher[0].model, teacher[1], config.teacher_mixed) if config.teacher_mixed else None
    return drawing_by(model, tokenizer, drawing, mixed)


def on_policy_rows(
    session: Session, job: TrainingJob, rows: Sequence[EncodedRow | ExampleRows], encode: RolloutEncoder, draw: Draw
) -> OnPolicyRows:
    """Given rows and answers of the student, for this process."""
    assert job.method is not None
    assert job.method.on_policy is not None
    training = session.training
    shape = Shape(
        training.batch_size,
        training.micro_batch_size or training.batch_size,
        session.recipe.seed,
        torch.distributed.get_rank() if torch.distributed.is_initialized() else 0,
        num_processes(),
    )
    given = [row for item in rows for row in item.rows]
    return OnPolicyRows(job.method.on_policy, given, job.prompts, encode, draw, shape)


def _trained_tokens(rows: Sequence[EncodedRow | ExampleRows], schedule: TrainSchedule) -> int:
    """Tokens of one pass over the rows, times the passes that the steps come to."""
    read = sum(len(row.student.prompt_ids) + len(row.student.answer_ids) for item in rows for row in item.rows)
    at_once = schedule.micro_batch_size * schedule.accumulation * num_processes()
    return round(read * schedule.steps * at_once / len(rows))


def teacher_of(
    recipe: Recipe,
    device: torch.device,
    weights: str | None,
    method: MethodConfig,
    cache: Path | None,
    shares: Shares | None = None,
    *,
    account: str = "",
) -> tuple[LocalTeacher | CachedTeacher | RemoteTeacher | Ensemble, ExampleTokenizer]:
    """The recipe's own teacher, loaded, read from disk or asked over HTTP, and what turns examples into its tokens.

    Args:
        recipe: of the run.
        device: where models go.
        weights: folder of the weights of its own training; None: as it came.
        method: by which it is read.
        cache: folder of what it says; None: it is loaded.
        shares: what each of several teachers counts on a row; None: it is the only one.
        account: what the budget of a teacher on a server is for.
    """
    first, tokenizer = _own_teacher(recipe, device, weights, method, cache, account)
    config = recipe.teachers
    if shares is None or config is None or not config.averaged:
        return first, tokenizer
    template = tokenizer.template
    others = [_other_teacher(other, device, method, template, account) for other in config.averaged.values()]
    within = shares_within(shares, config.parts[FIRST])
    ensemble = Ensemble([first, *others], within, mean=config.mean, by_confidence=config.by_confidence)
    return ensemble, tokenizer


def _other_teacher(
    config: OtherTeacherConfig, device: torch.device, method: MethodConfig, template: Template, account: str
) -> LocalTeacher | CachedTeacher | RemoteTeacher:
    """A further teacher; `template` turns rows into the tokens that it reads."""
    if config.remote:
        return remote_teacher(config, template, temperature=method.temperature, account=account)
    embeddings = Gives.EMBEDDINGS in method.reads
    if config.cache is not None:
        return open_cached(Path(config.cache).expanduser(), device, method.temperature, embeddings=embeddings)
    return LocalTeacher(load_model(config.loaded_as, device), embeddings=embeddings)


@dataclasses.dataclass(frozen=True)
class AddedTeacher:
    """A further teacher whose loss is added, ready to be heard.

    Attributes:
        teacher: gives the signal.
        side: turns examples into its tokens.
        reading: how it is read.
    """

    teacher: LocalTeacher | CachedTeacher | RemoteTeacher
    side: TeacherSide
    reading: Reading

    @property
    def padding(self) -> Padding:
        """How its rows are padded."""
        pad: Any = self.side.tokenizer.template.tokenizer.pad_token_id
        return Padding(pad, self.reading.method.one_vocabulary)

    def objective(self, student: Any) -> Objective:
        """The part of the sum that is its own."""
        return self.reading.objective(student, self.teacher.model, self.side.cross_tokenizer)


def added_teacher(
    recipe: Recipe, name: str, reading: Reading, student: Template, device: torch.device, *, account: str = ""
) -> AddedTeacher:
    """One of `recipe.teachers.added`, loaded or read from disk, with its own tokenizer.

    Args:
        recipe: of the run.
        name: of the teacher.
        reading: how it is read.
        student: the student's tokenizer.
        device: where models go.
        account: what the budget of a teacher on a server is for.
    """
    assert recipe.teachers is not None, "nobody is added to no teachers"
    config = recipe.teachers.added[name]
    tokenizer = load_example_tokenizer(config.loaded_as, recipe.data)
    side = TeacherSide(tokenizer, reading.align(student, tokenizer.template))
    teacher = _other_teacher(config, device, reading.method, tokenizer.template, account)
    return AddedTeacher(teacher, side, reading)


def summed_teachers(recipe: Recipe, first: Teacher, added: Mapping[str, Teacher], shares: Shares) -> SummedTeachers:
    """All teachers of a recipe whose losses are added, the first with its mean."""
    assert recipe.teachers is not None, "shares of no teachers"
    parts = recipe.teachers.parts
    return SummedTeachers({FIRST: first, **added}, shares_of_parts(shares, list(parts.values())))


def _own_teacher(
    recipe: Recipe, device: torch.device, weights: str | None, method: MethodConfig, cache: Path | None, account: str
) -> tuple[LocalTeacher | CachedTeacher | RemoteTeacher, ExampleTokenizer]:
    config = recipe.local_teacher
    tokenizer = load_example_tokenizer(config, recipe.data, weights=weights)
    if config.remote:
        return remote_teacher(config, tokenizer.template, temperature=method.temperature, account=account), tokenizer
    embeddings = Gives.EMBEDDINGS in method.reads
    if cache is not None:
        return open_cached(cache, device, method.temperature, embeddings=embeddings), tokenizer
    model = load_model(config, device, weights=weights, seed=config.seed_or(recipe.seed))
    return LocalTeacher(model, embeddings=embeddings), tokenizer


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


def collator(
    template: Template,
    teacher: ExampleTokenizer | None,
    method: MethodConfig | None,
    others: Mapping[str, Padding] | None = None,
) -> Collator:
    """What pads the rows for a student and, where there is one, its teacher; for further teachers too."""
    pad: Any = template.tokenizer.pad_token_id
    teacher_pad: Any = teacher.template.tokenizer.pad_token_id if teacher else None
    return Collator(pad, teacher_pad, method is not None and method.one_vocabulary, others or {})


def num_processes() -> int:
    """How many processes train together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def save_student(session: Session, module: DistillationModule, template: Template) -> None:
    """Write the trained model into the stage's folder, and what it needs beside it; checkpoints go."""
    for part in module.objective.modules():
        if isinstance(part, FeatureObjective) and (project := part.lasting_input) is not None:
            save_file({"weight": project.weight.detach().cpu().contiguous()}, session.folder / INPUT_FILE)  # pyright: ignore
    save_model(module.student, template, session.folder / "model", reload=session.loader)
    remove_checkpoints(session.folder / "training")


def with_its_teacher(
    recipe: Recipe, student: Any, device: torch.device, weights: str | None, folder: Path
) -> AbstractContextManager[Any]:
    """What a student that reads its teacher's states answers in; nothing for any other.

    Args:
        recipe: by which it was trained.
        student: its model.
        device: where the teacher goes.
        weights: folder of the teacher's weights; None: as it came.
        folder: of the stage that trained the student.
    """
    if recipe.features is None or not (folder / INPUT_FILE).is_file():
        return contextlib.nullcontext()
    config = recipe.local_teacher
    teacher = load_model(config, device, weights=weights, seed=config.seed_or(recipe.seed)).eval()
    project = projection(student, teacher).to(device)
    project.load_state_dict(load_file(folder / INPUT_FILE))
    return accompanied(student, teacher, input_layer(recipe.features, len(stack_of(teacher).blocks)), project.eval())


def save_model(model: Any, template: Template, folder: Path, *, reload: Callable[[], Any] | None = None) -> None:
    """Write a model folder, adapters merged; whole or not at all.

    The auto class of its kind opens it: `AutoModelForCausalLM`, `AutoModelForSeq2SeqLM`,
    `AutoModelForQuestionAnswering`.
    """
    final = merged(model, reload)
    kind_of(final.config).prepare_to_save(final, template)
    with whole_folder(folder) as part:
        final.save_pretrained(part)
        template.save(part)


def remove_checkpoints(folder: Path) -> None:
    """Checkpoints are for resuming; a finished stage keeps its model and its curves."""
    for path in [*folder.glob("checkpoint-*"), folder / "best"]:
        shutil.rmtree(path, ignore_errors=True)
