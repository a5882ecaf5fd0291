"""What a step and an answer take on this machine, measured on rows of the data in a few seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
import transformers

from understudy.inspection.cost import student_costs, teacher_cost, threads_of_a_worker
from understudy.inspection.inputs import load_inputs, load_pair, take_sample
from understudy.models.generate import answer_examples
from understudy.pipeline.stages import seed_all
from understudy.recipe import Recipe

ANSWERS = 24
"""Questions that each model answers."""
LEAST_OVERHEAD = 2.0


@dataclass(frozen=True)
class Sizes:
    """Rows of the data: with an answer, without, for development and for the test."""

    train: int
    unlabelled: int
    dev: int
    test: int

    @property
    def learned(self) -> int:
        """Training rows and unlabelled questions."""
        return self.train + self.unlabelled


@dataclass(frozen=True)
class Rates:
    """Seconds on this machine.

    Attributes:
        sft_step: an optimiser step on answers; SeqKD's is the same.
        method_step: one of the method, the teacher's forward pass with it.
        teacher_step: one of the teacher's fine-tuning; 0 where there is none.
        student_answer: an answer of the student.
        teacher_answer: one of the teacher.
        overhead: a stage's start: a process, and the weights.
    """

    sft_step: float
    method_step: float
    teacher_step: float
    student_answer: float
    teacher_answer: float
    overhead: float


def sizes_of(recipe: Recipe) -> Sizes:
    """Rows of each split, read anew."""
    from understudy.data.load import load_splits

    splits = load_splits(recipe.data)
    return Sizes(len(splits.train), len(splits.unlabelled), len(splits.dev), len(splits.test))


def measure(recipe: Recipe) -> tuple[Sizes, Rates]:
    """Measure steps and answers with the models as they came.

    A model that has not learned where to end writes as long as it may, so its answers are rather too slow.

    Raises:
        UnderstudyError: whatever `run` would refuse of data or models.
    """
    transformers.utils.logging.disable_progress_bar()
    seed_all(recipe.seed)
    inputs = load_inputs(recipe)
    sample = take_sample(inputs)
    started = time.perf_counter()
    loaded = load_pair(inputs, sample)
    overhead = max(LEAST_OVERHEAD, time.perf_counter() - started)
    costs = student_costs(loaded, inputs, sample)
    answers = []
    questions = inputs.splits.test[:ANSWERS]
    with threads_of_a_worker(recipe.workers), torch.no_grad():
        for model, tokenizer in ((loaded.module.student, inputs.student), (loaded.teacher.model, inputs.teacher)):
            model.eval()
            started = time.perf_counter()
            answer_examples(model, tokenizer, questions, batch_size=recipe.evaluate.batch_size)
            answers.append((time.perf_counter() - started) / len(questions))
    del loaded
    tuning = teacher_cost(inputs, sample)
    splits = inputs.splits
    sizes = Sizes(len(splits.train), len(splits.unlabelled), len(splits.dev), len(splits.test))
    rates = Rates(
        sft_step=costs["student SFT"].seconds or 0.0,
        method_step=costs["distillation"].seconds or 0.0,
        teacher_step=(tuning.seconds or 0.0) if tuning else 0.0,
        student_answer=answers[0],
        teacher_answer=answers[1],
        overhead=overhead,
    )
    return sizes, rates
