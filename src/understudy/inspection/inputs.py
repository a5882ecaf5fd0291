"""What an inspection looks at: the recipe's data, its two tokenizers, its two models and one micro-batch of gold rows.

Everything is built by the very functions that `run` uses, so that what is shown is what will be trained.
"""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from understudy import build
from understudy.data.load import load_splits
from understudy.errors import ConfigError, DataError
from understudy.models.load import load_example_tokenizer, load_model, pick_device
from understudy.models.row_lengths import check_positions
from understudy.recipe import MethodConfig, Recipe, TrainConfig
from understudy.teachers.local import LocalTeacher
from understudy.tokens.align import CrossTokenizer
from understudy.tokens.collate import Collator, EncodedRow, ExampleTokenizer, encode_rows, move
from understudy.tokens.compatibility import vocabulary_difference
from understudy.tokens.misfits import misfit_of
from understudy.tokens.template_checks import control_notes
from understudy.training.module import DistillationModule
from understudy.training.schedule import train_schedule
from understudy.training.session import collator as collator_of
from understudy.training.session import trainable
from understudy.types import Batch, Example, Splits

MAX_ROWS = 400
MAX_SECONDS = 10.0


@dataclass(frozen=True)
class DataSummary:
    """What is known of data and tokenizers before any weight is loaded.

    Attributes:
        sizes: rows of each split.
        notes: what the loader noted.
        tokenizer_notes: what had to be done about each tokenizer, by `student` and `teacher`.
        vocabulary: entries of each tokenizer.
        difference: why the two are not one vocabulary; empty where they are.
        soundness: in a sentence, whether the method fits the two vocabularies.
        sound: whether it does.
    """

    sizes: Mapping[str, int]
    notes: Mapping[str, Any]
    tokenizer_notes: Mapping[str, Sequence[str]]
    vocabulary: Mapping[str, int]
    difference: str
    soundness: str
    sound: bool


@dataclass
class Inputs:
    """Splits and tokenizers, without models.

    Attributes:
        recipe: what is inspected.
        splits: the data.
        student: tokenizer of the student.
        teacher: tokenizer of the teacher.
        beyond: a sentence for each model that rows reach beyond what it was trained for.
    """

    recipe: Recipe
    splits: Splits
    student: ExampleTokenizer
    teacher: ExampleTokenizer
    beyond: Sequence[str] = ()

    @functools.cached_property
    def cross_tokenizer(self) -> CrossTokenizer | None:
        """What aligns the two tokenizers' answers, where the method needs it."""
        return build.cross_tokenizer(self.recipe.distil, self.student.template, self.teacher.template)

    @property
    def collator(self) -> Collator:
        """Pads rows for both models, as the trainer does."""
        return collator_of(self.student.template, self.teacher, self.recipe.distil)


def load_inputs(recipe: Recipe) -> Inputs:
    """Read the data and both tokenizers.

    Raises:
        UnderstudyError: whatever `run` would refuse of them.
        ConfigError: the teacher is on a server, so there are no weights to inspect.
    """
    if recipe.served_teacher:
        raise ConfigError(
            "inspect computes every loss from the teacher's weights, and this one is on a server",
            hint="`understudy doctor` asks the server; with its weights here, leave out teacher.base_url",
        )
    build.check_lengths(recipe)
    build.check_adapters(recipe)
    student = load_example_tokenizer(recipe.student, recipe.data)
    teacher = load_example_tokenizer(recipe.local_teacher, recipe.data)
    build.check_writes("inspect", student.template, teacher.template)
    misfit = misfit_of((student, teacher)) if recipe.data.on_bad_row == "quarantine" else None
    splits = load_splits(recipe.data, misfit=misfit)
    if not splits.test:
        raise DataError("there are no test rows", hint="raise data.test, or give data.test_source")
    if not splits.train:
        raise DataError("there are no training rows with an answer", hint="check data.source and data.gold_share")
    beyond = check_positions(recipe, splits.by_role, student, teacher)
    return Inputs(recipe, splits, student, teacher, beyond)


def summarise_data(inputs: Inputs) -> DataSummary:
    """Sizes, notes and whether the vocabularies suit the method."""
    student, teacher = inputs.student.template, inputs.teacher.template
    difference = vocabulary_difference(student.tokenizer, teacher.tokenizer)
    sound, sentence = soundness(inputs.recipe.distil, difference)
    return DataSummary(
        sizes={role: len(getattr(inputs.splits, role)) for role in ("train", "unlabelled", "dev", "test")},
        notes=inputs.splits.notes,
        tokenizer_notes={
            side: [*template.notes, *control_notes(template, inputs.splits.rows)]
            for side, template in (("student", student), ("teacher", teacher))
        },
        vocabulary={"student": len(student.tokenizer), "teacher": len(teacher.tokenizer)},
        difference=difference,
        soundness=sentence,
        sound=sound,
    )


def soundness(config: MethodConfig, difference: str) -> tuple[bool, str]:
    """Whether a method fits two vocabularies, and why."""
    method = config.method
    if config.one_vocabulary:
        if difference:
            return False, f"{method} compares token by token and cannot be used; dskd_cma, dskd_v2 and min_edit can"
        return True, f"{method} compares token by token, and every id means the same to both"
    if difference:
        how = "attention" if config.alignment is None else "where they cut the answer"
        return True, f"{method} aligns two vocabularies by {how}"
    return True, f"{method} works, but one vocabulary also allows kd and dskd, which compare token by token"


@dataclass(frozen=True)
class EncodedSample:
    """Rows as both models will read them.

    Attributes:
        rows: encoded gold rows; the first ones make the micro-batch.
        examples: the examples behind `rows`.
        prompts: length in tokens of the student's prompts, unlabelled questions included.
        answers: length in tokens of the student's answers.
        num_sampled: gold rows and unlabelled questions that were encoded.
        num_available: gold rows and unlabelled questions there are.
        cut: what was cut, by model and kind.
    """

    rows: Sequence[EncodedRow]
    examples: Sequence[Example]
    prompts: Sequence[int]
    answers: Sequence[int]
    num_sampled: int
    num_available: int
    cut: Mapping[str, Mapping[str, int]]


def take_sample(inputs: Inputs, *, max_rows: int = MAX_ROWS, max_seconds: float = MAX_SECONDS) -> EncodedSample:
    """Encode rows drawn by the recipe's seed: at least a micro-batch, then as many as count and time allow.

    Raises:
        DataError: a question is too long for `data.max_length`, or a context is and the recipe refuses that.
    """
    generator = random.Random(inputs.recipe.seed)
    gold = generator.sample(inputs.splits.train, len(inputs.splits.train))
    unlabelled = generator.sample(inputs.splits.unlabelled, len(inputs.splits.unlabelled))
    min_rows = train_schedule(inputs.recipe.distil, len(gold)).micro_batch_size
    rows: list[EncodedRow] = []
    prompts: list[int] = []
    deadline = time.monotonic() + max_seconds
    for example in gold[: max(max_rows, min_rows)]:
        if len(rows) >= min_rows and time.monotonic() > deadline:
            break
        rows += encode_rows([example], inputs.student, inputs.teacher, inputs.cross_tokenizer)
        prompts.append(len(rows[-1].student.prompt_ids))
    for example in unlabelled[: max_rows // 4]:
        if time.monotonic() > deadline:
            break
        inputs.teacher.prompt_ids(example)
        prompts.append(len(inputs.student.prompt_ids(example)))
    return EncodedSample(
        rows=rows,
        examples=gold[: len(rows)],
        prompts=prompts,
        answers=[len(row.student.answer_ids) for row in rows],
        num_sampled=len(prompts),
        num_available=len(gold) + len(unlabelled),
        cut={"student": dict(inputs.student.notes), "teacher": dict(inputs.teacher.notes)},
    )


@dataclass
class LoadedPair:
    """Both models on their device, with one micro-batch.

    Attributes:
        module: student and objective.
        teacher: the teacher as it came, without the fine-tuning that may be planned.
        batch: a micro-batch of gold rows.
        autocast: whether the products run in bfloat16.
        device: where all of it is.
        by_position: whether the n-th target token of the one is that of the other, column by column.
    """

    module: DistillationModule
    teacher: LocalTeacher
    batch: Batch
    autocast: bool
    device: torch.device
    by_position: bool

    def mixed(self) -> Any:
        """The precision context of a training step."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast)


def load_pair(inputs: Inputs, sample: EncodedSample) -> LoadedPair:
    """Load the models as training will and put the first rows of the sample on the device.

    Raises:
        UnderstudyError: the weights cannot be loaded, or the target tokens of the two differ where they may not.
    """
    recipe, device = inputs.recipe, pick_device(inputs.recipe.device)
    batch = micro_batch(inputs, sample, recipe.distil)
    teacher = load_model(recipe.local_teacher, device, seed=recipe.local_teacher.seed_or(recipe.seed))
    # Fresh weights of a student that is trained before distillation are drawn there.
    trained_before = recipe.student.pretrain or recipe.student.sft
    seed = recipe.student.seed_or(recipe.seed) if trained_before else recipe.seed
    student, autocast = trainable(recipe.student, recipe.distil, device, None, seed)
    torch.manual_seed(recipe.seed)
    objective = build.objective(recipe.distil, student, teacher, inputs.cross_tokenizer).to(device)
    module = DistillationModule(student, objective)
    return LoadedPair(
        module,
        LocalTeacher(teacher, embeddings=objective.embeddings),
        move(batch, device),
        autocast,
        device,
        by_position=recipe.distil.one_vocabulary,
    )


def micro_batch(inputs: Inputs, sample: EncodedSample, training: TrainConfig) -> Batch:
    """The first micro-batch of the sample, padded.

    Raises:
        ModelError: the method needs equal target tokens and the two templates end an answer differently.
    """
    return inputs.collator(sample.rows[: train_schedule(training, len(sample.rows)).micro_batch_size])
