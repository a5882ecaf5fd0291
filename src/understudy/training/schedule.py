"""The numbers of a training stage: steps, accumulation, intervals, and the Trainer's own arguments."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import TrainingArguments

from understudy.errors import ConfigError
from understudy.recipe import TrainConfig
from understudy.records import TrainSchedule


def train_schedule(config: TrainConfig, rows: int | None, *, processes: int = 1) -> TrainSchedule:
    """Work out steps, accumulation and intervals.

    Args:
        config: the stage.
        rows: training rows; None where they are made on the way, which needs `steps`.
        processes: data-parallel processes.

    Raises:
        ConfigError: there is nothing to train on, or no number of steps where the rows are not counted.
    """
    if rows == 0:
        raise ConfigError("there are no rows to train on", hint="lower data.dev and data.test, or check data.source")
    if rows is None and config.steps is None:
        raise ConfigError("rows that are made while training have no epochs", hint="give the number of steps")
    per_epoch = math.ceil((rows or 0) / (config.batch_size * processes))
    steps = config.steps or max(1, math.ceil(per_epoch * config.epochs))
    micro = config.micro_batch_size or config.batch_size
    eval_every = config.eval_every or max(1, math.ceil(steps / 3))
    return TrainSchedule(
        steps=steps,
        micro_batch_size=micro,
        accumulation=config.batch_size // micro,
        warmup_steps=round(steps * config.warmup),
        eval_every=eval_every,
        save_every=config.save_every or eval_every,
        log_every=max(1, steps // 50),
        learning_rate=config.learning_rate,
    )


def training_arguments(
    config: TrainConfig,
    schedule: TrainSchedule,
    folder: Path,
    *,
    device: torch.device,
    seed: int,
    report_to: Sequence[str] = (),
    name: str = "",
    autocast: bool = False,
    evaluate: bool = True,
    best: str = "rougeL",
) -> TrainingArguments:
    """The Trainer's arguments for a stage that has its learning rate (`TrainConfig.with_learning_rate`).

    `best` names the score of development rows by which weights are kept, a plateau is seen and a training ends early;
    of every such metric more is better (`models.kept_by`).

    Raises:
        ConfigError: learning rate or end depend on scores of development rows, and none are scored.
    """
    assert config.learning_rate is not None
    plateau = config.schedule == "plateau"
    if not evaluate and (plateau or config.patience):
        raise ConfigError(
            f"{name or 'this stage'}: schedule: plateau and patience go by the scores of development rows, and there "
            "are none here",
            hint="raise data.dev, or take another schedule",
        )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        arguments = TrainingArguments(
            output_dir=str(folder),
            max_steps=schedule.steps,
            per_device_train_batch_size=schedule.micro_batch_size,
            gradient_accumulation_steps=schedule.accumulation,
            learning_rate=config.learning_rate,
            lr_scheduler_type="reduce_lr_on_plateau" if plateau else config.schedule,
            lr_scheduler_kwargs={"mode": "max", "factor": 0.5, "patience": 1} if plateau else {},
            warmup_steps=0 if plateau else schedule.warmup_steps,
            weight_decay=config.weight_decay,
            max_grad_norm=config.max_grad_norm,
            gradient_checkpointing=config.gradient_checkpointing,
            logging_steps=schedule.log_every,
            logging_first_step=True,
            logging_nan_inf_filter=False,
            eval_strategy="steps" if evaluate else "no",
            eval_steps=schedule.eval_every if evaluate else None,
            metric_for_best_model=best if evaluate else None,
            greater_is_better=True if evaluate else None,
            save_strategy="steps",
            save_steps=schedule.save_every,
            seed=seed,
            data_seed=seed,
            use_cpu=device.type == "cpu",
            bf16=autocast,
            report_to=list(report_to) or "none",
            run_name=name or None,
            remove_unused_columns=False,
            disable_tqdm=True,
            dataloader_pin_memory=device.type == "cuda",
            average_tokens_across_devices=True,
            # Rows that are made on the way: a batch of ours is no tensor that one process could cut up for the others.
            accelerator_config={"dispatch_batches": False},
        )
    if arguments.n_gpu > 1:
        # nn.DataParallel cannot split our batches; several GPUs are used through a launcher.
        arguments._n_gpu = 1
    return arguments
