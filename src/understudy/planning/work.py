"""What each stage of a recipe has to do: rows, steps, micro-batches, tokens. No weight is loaded for it."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from understudy import build
from understudy.caching import check_cache, check_new_answers
from understudy.data.load import load_splits
from understudy.errors import ConfigError, DataError
from understudy.models.load import load_example_tokenizer
from understudy.pipeline.kinds import side_of, stage_of, stages, title
from understudy.pipeline.stage import Stage
from understudy.recipe import CacheConfig, ModelConfig, Recipe, TrainConfig
from understudy.recipe.own_arms import for_arm
from understudy.records import TrainSchedule
from understudy.tokens.collate import EncodedRow, encode_rows
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.training.schedule import train_schedule
from understudy.training.step_order import StepSampler
from understudy.types import Example, Gives, Splits

MAX_ROWS, MAX_SECONDS = 1500, 8.0
SPEED_ROWS, SPEED_SINGLE = 200, 22
"""Rows that a stage `speed` answers in batches, and one by one."""

Does = Literal["train", "answer", "cache"]


@dataclass(frozen=True)
class Rows:
    """Rows to learn, a sample of them encoded.

    Attributes:
        sample: encoded rows.
        total: rows there are.
        seconds: that encoding all of them takes.
    """

    sample: Sequence[EncodedRow]
    total: int
    seconds: float


@dataclass(frozen=True)
class Micro:
    """A micro-batch of the sample.

    Attributes:
        rows: its rows.
        tokens: positions that the student reads, padding included.
        teacher_tokens: the same of the teacher; 0 where nobody reads along.
        targets: that are learned.
    """

    rows: Sequence[EncodedRow]
    tokens: int
    teacher_tokens: int
    targets: int


@dataclass(frozen=True)
class TrainingWork:
    """What a stage that trains has to do.

    Attributes:
        config: the section of its model.
        training: its section.
        recipe: by which it works, its arm's.
        rows: what is learned.
        schedule: steps, micro-batches, intervals.
        signal: whether the teacher is read along.
        micros: the micro-batches of an epoch of the sample.
        dev_rows: development rows that each evaluation answers.
        answer: tokens of a gold answer: the mean, and what the longest of a batch of development rows has on average.
    """

    config: ModelConfig
    training: TrainConfig
    recipe: Recipe
    rows: Rows
    schedule: TrainSchedule
    signal: bool
    micros: Sequence[Micro]
    dev_rows: int
    answer: tuple[float, float]

    @property
    def mean_tokens(self) -> float:
        """Positions of a micro-batch, padding included."""
        return fmean(micro.tokens for micro in self.micros)

    @property
    def largest(self) -> Micro:
        """The micro-batch that takes most memory: of the most positions."""
        return max(self.micros, key=lambda micro: (micro.tokens, micro.targets))

    @property
    def passes(self) -> int:
        """Forward and backward passes of the whole training."""
        return self.schedule.steps * self.schedule.accumulation

    @property
    def read(self) -> float:
        """Tokens that the student reads in the whole training, without padding."""
        return self._per_row(lambda row: len(row.student.ids)) * self.schedule.steps * self.training.batch_size

    @property
    def learned(self) -> float:
        """Target tokens of the whole training."""
        return self._per_row(lambda row: len(row.student.learned_ids)) * self.schedule.steps * self.training.batch_size

    @property
    def heard(self) -> float:
        """Target tokens of the whole training on the teacher's side."""
        return teacher_targets(self.rows.sample) * self.schedule.steps * self.training.batch_size

    @property
    def evaluations(self) -> int:
        """Times that development rows are answered: every so many steps, and at the last."""
        return -(-self.schedule.steps // self.schedule.eval_every) if self.dev_rows else 0

    @property
    def checkpoints(self) -> int:
        """Checkpoints that are written."""
        return -(-self.schedule.steps // self.schedule.save_every)

    def _per_row(self, count: Any) -> float:
        return fmean(count(row) for row in self.rows.sample)


@dataclass(frozen=True)
class AnswerWork:
    """What a stage that answers has to do.

    Attributes:
        config: the section of its model.
        recipe: by which it works.
        side: whose tokenizer it reads with.
        examples: what is asked, as many as there are.
        longest_batch: rows of the longest prompts among those that were looked at, as many as are answered at once.
        choices: whether the options of multiple-choice rows are scored besides.
        batch_size: rows at once.
        trained: whether the model has learned when to stop, so that its answers are as long as gold ones.
        single: rows that are answered one by one besides.
        writes: whether answers are written token by token.
        prompt: tokens of a prompt, the mean and the most.
        answer: as `TrainingWork` has it.
    """

    config: ModelConfig
    recipe: Recipe
    side: Literal["teacher", "student"]
    examples: Sequence[Example]
    longest_batch: Sequence[Example]
    choices: bool
    batch_size: int
    trained: bool
    single: int
    writes: bool
    prompt: tuple[float, int]
    answer: tuple[float, float]

    @property
    def longest(self) -> float:
        """Tokens that the longest answer of a batch is expected to have."""
        return self.answer[1] if self.trained else float(self.recipe.data.max_answer_tokens if self.writes else 1)

    @property
    def batches(self) -> int:
        """Batches that are answered."""
        return -(-len(self.examples) // self.batch_size)


@dataclass(frozen=True)
class CacheWork:
    """What writing down the teacher's targets has to do: the rows of the arms that read them, each once."""

    recipe: Recipe
    rows: Rows
    tokens: float


Work = TrainingWork | AnswerWork | CacheWork


@dataclass(frozen=True)
class PlannedStage:
    """A stage with what it has to do; None where the plan does not know, with why."""

    stage: Stage
    title: str
    work: Work | None
    why_not: str = ""


@dataclass(frozen=True)
class Workload:
    """All that a recipe has to do.

    Attributes:
        recipe: the recipe.
        stages: in their order.
        sizes: rows of each split.
        dev: development rows.
        if_cached: the stage that would write a cache which the recipe could have and has not.
        no_cache: why there is none.
    """

    recipe: Recipe
    stages: Sequence[PlannedStage]
    sizes: Mapping[str, int]
    dev: Sequence[Example]
    if_cached: PlannedStage | None = None
    no_cache: str = ""

    @property
    def signal(self) -> Sequence[TrainingWork]:
        """The trainings that read the teacher along."""
        return [s.work for s in self.stages if isinstance(s.work, TrainingWork) and s.work.signal]


def workload(recipe: Recipe, *, processes: int = 1) -> Workload:
    """What every stage of a recipe has to do.

    Args:
        recipe: the recipe.
        processes: that train side by side.

    Raises:
        UnderstudyError: whatever `run` would refuse of data and tokenizers.
    """
    return _Reader(recipe, processes).workload()


class _Reader:
    """Reads data and tokenizers once, and encodes each kind of row once."""

    def __init__(self, recipe: Recipe, processes: int) -> None:
        build.check_lengths(recipe)
        self.recipe, self.processes = recipe, processes
        self.splits: Splits = load_splits(recipe.data)
        if not self.splits.train:
            raise DataError("there are no training rows with an answer", hint="check data.source and data.gold_share")
        self.random = random.Random(recipe.seed)
        self.tokenizers: dict[str, ExampleTokenizer] = {}
        self.encoded: dict[Any, Rows] = {}

    def workload(self) -> Workload:
        planned = [self._planned(stage) for stage in stages(self.recipe, unlabelled=bool(self.splits.unlabelled))]
        sizes = {role: len(rows) for role, rows in self.splits.by_role.items()}
        cached, why = self._if_cached(planned)
        return Workload(self.recipe, planned, sizes, self.splits.dev, cached, why)

    def _if_cached(self, planned: Sequence[PlannedStage]) -> tuple[PlannedStage | None, str]:
        """A stage that would write down what the teacher says, where a live one is read; else why there is none."""
        if any(stage.stage.kind == "cache" for stage in planned):
            return None, "the recipe has one"
        reading = [stage.work for stage in planned if isinstance(stage.work, TrainingWork) and stage.work.signal]
        if not reading:
            return None, "no planned stage reads a teacher's signal"
        first = reading[0].recipe
        targets = "topk" if first.distil.reads in Gives.TOP_K else "states"
        teacher = first.local_teacher.model_copy(update={"cache": CacheConfig(targets=targets)})
        recipe = self.recipe.model_copy(update={"teacher": teacher})
        try:
            check_new_answers(recipe)
            check_cache(recipe, self.tokenizer(first.local_teacher).template)
        except ConfigError as error:
            return None, error.message
        work = self._cache(stage_of("cache"), recipe)
        if isinstance(work, str):
            return None, work
        return PlannedStage(stage_of("cache"), "what a cache would take", work), ""

    def tokenizer(self, config: ModelConfig) -> ExampleTokenizer:
        key = config.model_dump_json()
        if key not in self.tokenizers:
            self.tokenizers[key] = load_example_tokenizer(config, self.recipe.data)
        return self.tokenizers[key]

    def _planned(self, stage: Stage) -> PlannedStage:
        recipe = for_arm(self.recipe, stage.argument)
        makers = {"sft": self._sft, "train": self._train, "predict": self._predict, "answers": self._answers}
        makers |= {"cache": self._cache, "speed": self._speed}
        made: Work | str = ""
        if stage.kind in makers:
            made = makers[stage.kind](stage, recipe)
        if isinstance(made, str):
            return PlannedStage(stage, title(stage), None, made)
        return PlannedStage(stage, title(stage), made)

    # -- trainings -----------------------------------------------------------------------------------------------

    def _sft(self, stage: Stage, recipe: Recipe) -> Work | str:
        config: ModelConfig = recipe.local_teacher if side_of(stage) == "teacher" else recipe.student
        assert config.sft is not None
        own = recipe.model_copy(update={"seed": config.seed_or(recipe.seed)})
        return self._training(config, config.sft, own, gold_alone=True, signal=False)

    def _train(self, stage: Stage, recipe: Recipe) -> Work | str:
        arm = self.recipe.arm(stage.argument)
        if arm.learns not in _LEARNED:
            return f"what {arm.name} learns ({arm.learns}) is written by the run itself"
        signal = self.recipe.reads_signal(arm)
        if signal and (why := _unplanned_signal(recipe)):
            return why
        total = len(self.splits.train) + len(self.splits.unlabelled)
        steps = recipe.distil.steps or train_schedule(recipe.distil, total, processes=self.processes).steps
        training = recipe.distil.model_copy(update={"steps": steps})
        return self._training(recipe.student, training, recipe, gold_alone=arm.learns == "gold", signal=signal)

    def _training(
        self, config: ModelConfig, training: TrainConfig, recipe: Recipe, *, gold_alone: bool, signal: bool
    ) -> TrainingWork:
        rows = self._rows(config, recipe, gold_alone=gold_alone, signal=signal)
        schedule = train_schedule(training, rows.total, processes=self.processes)
        dev = min(training.eval_rows, len(self.splits.dev))
        micros = micro_batches(rows.sample, training.batch_size, schedule.micro_batch_size, recipe.seed)
        answer = self._answer_lengths(config, recipe.evaluate.batch_size)
        return TrainingWork(config, training, recipe, rows, schedule, signal, micros, dev, answer)

    def _rows(self, config: ModelConfig, recipe: Recipe, *, gold_alone: bool, signal: bool) -> Rows:
        section = recipe.distil.model_dump_json() if signal else ""
        key = config.model_dump_json(), gold_alone, section
        if key in self.encoded:
            return self.encoded[key]
        gold = self.splits.train
        stand_ins = [
            dataclasses.replace(row, answers=self.random.choice(gold).answers, origin="teacher", meta={})
            for row in ([] if gold_alone else self.splits.unlabelled)
        ]
        examples = [*gold, *stand_ins]
        student, teacher, cross = self.tokenizer(config), None, None
        if signal:
            teacher = self.tokenizer(recipe.local_teacher)
            cross = build.cross_tokenizer(recipe.distil, student.template, teacher.template)
        taken: list[EncodedRow] = []
        started, count = time.perf_counter(), 0
        for example in self.random.sample(examples, min(len(examples), MAX_ROWS)):
            if time.perf_counter() - started > MAX_SECONDS and len(taken) >= recipe.distil.batch_size:
                break
            count += 1
            if example.origin == "teacher" and not student.can_learn(example):
                continue
            taken += encode_rows([example], student, teacher, cross)
        seconds = (time.perf_counter() - started) / max(1, count) * len(examples)
        self.encoded[key] = Rows(taken, len(examples), seconds)
        return self.encoded[key]

    # -- answers and targets -------------------------------------------------------------------------------------

    def _predict(self, stage: Stage, recipe: Recipe) -> Work | str:
        if stage.argument != "teacher" and stage.argument != "base_student":
            arm = self.recipe.arm(stage.argument)
            if arm.learns not in _LEARNED:
                return f"the questions of {arm.name} are put as the run itself finds them"
            return self._answering("student", recipe, self._held_out, trained=True)
        side: Literal["teacher", "student"] = "teacher" if stage.argument == "teacher" else "student"
        return self._answering(side, recipe, self._held_out, trained=side == "teacher" and _is_trained(recipe.teacher))

    def _answers(self, stage: Stage, recipe: Recipe) -> Work | str:
        asked = list(self.splits.unlabelled)
        asked = asked if recipe.seqkd.keep_gold else [*self.splits.train, *asked]
        return self._answering("teacher", recipe, asked, trained=_is_trained(recipe.teacher), choices=False)

    def _speed(self, stage: Stage, recipe: Recipe) -> Work | str:
        side: Literal["teacher", "student"] = "teacher" if stage.argument == "teacher" else "student"
        trained = side == "student" or _is_trained(recipe.teacher)
        work = self._answering(side, recipe, self._held_out[:SPEED_ROWS], trained=trained, choices=False)
        return (
            work if isinstance(work, str) else dataclasses.replace(work, single=min(SPEED_SINGLE, len(work.examples)))
        )

    @property
    def _held_out(self) -> Sequence[Example]:
        return self.splits.test[: self.recipe.evaluate.rows]

    def _answering(
        self,
        side: Literal["teacher", "student"],
        recipe: Recipe,
        examples: Sequence[Example],
        *,
        trained: bool,
        choices: bool = True,
    ) -> AnswerWork | str:
        if side == "teacher" and recipe.served_teacher:
            return "the teacher answers on a server"
        if not examples:
            return "nobody is asked anything"
        config: ModelConfig = recipe.local_teacher if side == "teacher" else recipe.student
        tokenizer = self.tokenizer(config)
        asked = self.random.sample(list(examples), min(len(examples), MAX_ROWS))
        lengths = [(len(tokenizer.prompt_ids(example)), place) for place, example in enumerate(asked)]
        prompts = [length for length, _ in lengths]
        longest = [asked[place] for _, place in sorted(lengths, reverse=True)[: recipe.evaluate.batch_size]]
        writes = tokenizer.template.candidates == "vocabulary"
        return AnswerWork(
            config,
            recipe,
            side,
            examples,
            longest,
            choices,
            recipe.evaluate.batch_size,
            trained,
            0,
            writes,
            (fmean(prompts), max(prompts)),
            self._answer_lengths(config, recipe.evaluate.batch_size),
        )

    def _answer_lengths(self, config: ModelConfig, batch_size: int) -> tuple[float, float]:
        """Tokens of a gold answer, the mean; and of the longest of so many, the mean."""
        if self.tokenizer(config).template.candidates != "vocabulary":
            return 1.0, 1.0
        sample = self._rows(config, self.recipe, gold_alone=True, signal=False).sample
        lengths = [len(row.student.learned_ids) for row in sample]
        size = min(batch_size, len(lengths))
        batches = [lengths[start : start + size] for start in range(0, len(lengths) - size + 1, size)]
        return fmean(lengths), fmean(max(batch) for batch in batches)

    def _cache(self, stage: Stage, recipe: Recipe) -> Work | str:
        arms = [self.recipe.arm(name) for name in self.recipe.signal_arms]
        if any(arm.learns not in _LEARNED for arm in arms):
            return "it keeps targets of texts that are not there yet"
        if why := _unplanned_signal(recipe):
            return why
        everything = any(arm.learns != "gold" for arm in arms)
        rows = self._rows(recipe.student, recipe, gold_alone=not everything, signal=True)
        return CacheWork(recipe, rows, teacher_targets(rows.sample) * rows.total)


_LEARNED = ("gold", "teacher_text", "gold_and_teacher_text")


def teacher_targets(rows: Sequence[EncodedRow]) -> float:
    """Target tokens of a row on the teacher's side, the mean."""
    return fmean(len(row.teacher.learned_ids) for row in rows if row.teacher is not None)


def _is_trained(config: ModelConfig | None) -> bool:
    return config is not None and config.sft is not None


def _unplanned_signal(recipe: Recipe) -> str:
    """Why the training that reads a teacher cannot be planned; empty where it can."""
    if recipe.served_teacher:
        return "the teacher is asked on a server"
    if recipe.teachers is not None:
        return "several teachers are not planned"
    return "rows that the student writes on the way are not planned" if recipe.distil.on_policy else ""


def micro_batches(rows: Sequence[EncodedRow], batch_size: int, micro: int, seed: int) -> list[Micro]:
    """The micro-batches of an epoch over some rows, in the trainer's order, without a last step that is not full."""
    order = list(StepSampler([row.length for row in rows], batch_size, seed))
    order = order[: max(batch_size, len(order) - len(order) % batch_size)]
    cut = []
    for start in range(0, len(order), batch_size):
        step = order[start : start + batch_size]
        cut += [[rows[place] for place in step[at : at + micro]] for at in range(0, len(step), micro)]
    return [micro_of(some) for some in cut]


def micro_of(rows: Sequence[EncodedRow]) -> Micro:
    """What a micro-batch of these rows has to read."""
    teacher = [len(row.teacher.ids) - 1 for row in rows if row.teacher is not None]
    return Micro(
        rows,
        len(rows) * max(len(row.student.ids) - 1 for row in rows),
        len(rows) * max(teacher, default=0),
        sum(len(row.student.learned_ids) for row in rows),
    )
