"""A tiny student that learns what it writes itself, and the trainer around it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from support.tiny import DATA, Pair, examples, method_config, pair
from understudy import build
from understudy.models.rollout import Drawing
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import ExampleTokenizer
from understudy.training.module import DistillationModule
from understudy.training.objectives.adaptive import learns_as_it_goes
from understudy.training.onpolicy import OnPolicyRows, RolloutEncoder, Shape, drawing_by
from understudy.training.schedule import train_schedule, training_arguments
from understudy.training.session import in_pairs
from understudy.training.trainer import DistillationTrainer

SHORT = DATA.model_copy(update={"max_answer_tokens": 12})


def source(made: Pair, method: str, config: Any, *, process: int = 0, processes: int = 1) -> OnPolicyRows:
    """Given rows and the student's answers."""
    own, theirs = ExampleTokenizer(made.template, SHORT), ExampleTokenizer(made.teacher_template, SHORT)
    rollouts, one = config.on_policy, config.one_vocabulary
    encode = RolloutEncoder(
        own,
        theirs,
        made.cross_tokenizer(method),
        same_ids=one,
        credited=rollouts.loss == "policy_gradient" and not one,
        mixed=rollouts.teacher_mixed > 0,
    )
    drawing = Drawing(rollouts.temperature, SHORT.max_answer_tokens, len(made.template.tokenizer), 3)  # pyright: ignore
    mixed = (made.teacher, theirs, rollouts.teacher_mixed) if rollouts.teacher_mixed else None
    draw = drawing_by(made.student, own, drawing, mixed)
    shape = Shape(config.batch_size, config.micro_batch_size or config.batch_size, 5, process, processes)
    return OnPolicyRows(rollouts, made.rows(method, SHORT), examples(), encode, draw, shape)


def trainer(
    folder: Path,
    method: str = "kd",
    *,
    made: Pair | None = None,
    lora: bool = False,
    process: int = 0,
    processes: int = 1,
    dev_score: Any = None,
    best: str = "rougeL",
    **fields: Any,
) -> DistillationTrainer:
    """A trainer as a stage builds it."""
    made = made or pair(method, lora=lora)
    fields = {"steps": 4, "batch_size": 4, "learning_rate": 1e-2, "projector_learning_rate": 3e-3, **fields}
    config = method_config(method, **fields)
    if config.on_policy and config.on_policy.loss == "contrastive":
        config = in_pairs(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        plain = build.objective(config, made.student, made.teacher, made.cross_tokenizer(method))
    objective = learns_as_it_goes(config, plain)
    rows = source(made, method, config, process=process, processes=processes)
    with warnings.catch_warnings():
        arguments = training_arguments(
            config,
            train_schedule(config, None, processes=processes),
            folder,
            device=torch.device("cpu"),
            seed=5,
            evaluate=dev_score is not None,
            best=best,
        )
    return DistillationTrainer(
        DistillationModule(made.student, objective),
        arguments,
        rows,
        made.collator(method),
        teacher=LocalTeacher(made.teacher, embeddings=objective.embeddings),
        dev_score=dev_score,
        objective_learning_rate=config.objective_learning_rate,
        patience=config.patience,
    )
