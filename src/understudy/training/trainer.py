"""The one training loop: a small subclass of `transformers.Trainer`.

Resume, FSDP, DeepSpeed, trackers and schedules are the Trainer's business. Ours is the single reduction (sum over
target tokens divided by the target tokens of the whole accumulated step over all processes), the weights of tasks,
the learning rate of the objective's own parameters, the best weights by a metric of the answers, and checkpoints that
are whole or do not count.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Sampler
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from understudy.errors import RunError, listed
from understudy.files import read_json, write_json, write_jsonl
from understudy.teachers.signals import Teacher
from understudy.teachers.summed import SummedTeachers
from understudy.tokens.collate import Collator, move
from understudy.training.checkpoints import mark_whole, writing
from understudy.training.log_lines import STATISTICS, looked_at_means, task_means, task_terms
from understudy.training.module import WEIGHTS_FILE, DistillationModule
from understudy.training.rows import ListedRows, RowSource
from understudy.training.smaller_pieces import ITEMS, LOGGED, KeepsItems, SmallerPieces
from understudy.training.step_order import StepSampler

Progress = Callable[[int, int, str], None]
DevScore = Callable[[Any], Mapping[str, float]]


class DistillationTrainer(Trainer):
    """Trains a `DistillationModule`.

    Args:
        module: student and objective.
        arguments: the Trainer's own arguments (see `training_arguments`).
        rows: where encoded training rows come from, or groups of rows (the texts of one example), which are cut into
            steps as a whole: batch sizes count groups. Those whose lengths are known are shuffled, others come as made.
        collator: pads them.
        teacher: gives the signal; None for supervised fine-tuning.
        dev_score: answers the development rows and returns their scores, that of `metric_for_best_model` among them.
        objective_learning_rate: learning rate of the objective's own parameters; None: that of the student.
        progress: called with (step, steps, a short note) after each step.
        patience: stop when so many evaluations in a row have brought no better score by which weights are kept; None:
            never.
    """

    def __init__(
        self,
        module: DistillationModule,
        arguments: TrainingArguments,
        rows: RowSource,
        collator: Collator,
        *,
        teacher: Teacher | SummedTeachers | None = None,
        dev_score: DevScore | None = None,
        objective_learning_rate: float | None = None,
        progress: Progress | None = None,
        patience: int | None = None,
    ) -> None:
        self.teacher = teacher
        self.dev_score = dev_score
        self.objective_learning_rate = objective_learning_rate or arguments.learning_rate
        self.patience = patience
        self.tasks = rows.tasks
        # Whoever makes its rows when a step begins: the loader then gives nothing but the beat.
        self.maker: Any = rows if hasattr(rows, "step_rows") else None
        self.rows_collator = KeepsItems(collator)
        self.pieces = SmallerPieces(self._piece, self._take_back, lambda most: self.log({LOGGED: most}))
        self._step_loss: Any = 0.0
        self._sums: dict[str, torch.Tensor] = {}
        self._sums_before: dict[str, torch.Tensor] = {}
        self._task_factors: Any = None
        self._seen: tuple[int, list[str]] = (0, [])
        super().__init__(
            model=module,
            args=arguments,
            train_dataset=rows,  # pyright: ignore[reportArgumentType]
            eval_dataset=ListedRows(()) if dev_score else None,
            data_collator=list if self.maker else self.rows_collator,  # pyright: ignore[reportArgumentType]
            callbacks=[_StepCallback(self), *([_ProgressCallback(progress)] if progress else [])],
        )
        self.remove_callback(PrinterCallback)

    @property
    def module(self) -> DistillationModule:
        """Student and objective, without the wrappers of DDP and the like."""
        return self.accelerator.unwrap_model(self.model)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler | None:
        rows = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        lengths = self.train_dataset.lengths  # pyright: ignore
        return None if lengths is None else StepSampler(lengths, rows, self.args.seed)

    # -- one step ------------------------------------------------------------------------------------------------

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: torch.device) -> tuple[list, Any]:
        """The micro-batches of a step and its target tokens; rows that are made as a step begins are made here."""
        step = self.state.global_step
        self.module.objective.begin_step(step, self.state.max_steps)
        batches, count = super().get_batch_samples(epoch_iterator, num_batches, device)
        if self.maker is not None:
            batches = [self.rows_collator(rows) for rows in self.maker.step_rows(step)]
            assert len(batches) == num_batches, "a step has as many micro-batches as the Trainer accumulates"
            count = self.step_tokens(batches, device)
        self._sums_before = dict(self._sums)
        self.pieces.begin(batches)
        return batches, count

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """A micro-batch, forward and backward, in pieces where the device has run out of memory."""
        step = super().training_step
        if self.args.world_size > 1:
            return step(model, {name: value for name, value in inputs.items() if name != ITEMS}, num_items_in_batch)
        return self.pieces.run(inputs, lambda piece: step(model, piece, num_items_in_batch), self.state.global_step + 1)

    def _piece(self, items: Sequence[Any]) -> Any:
        """Some rows of a micro-batch, weighed as the whole step weighs them."""
        batch: Any = self.rows_collator.collator(items)
        if self.tasks:
            batch["weights"] = batch["weights"] * self._task_factors.cpu()[self._task_places(batch)]
        return batch

    def _take_back(self) -> None:
        """Forget what of this step has been run."""
        self.model.zero_grad(set_to_none=True)  # pyright: ignore[reportOptionalMemberAccess]
        self._sums, self._step_loss = dict(self._sums_before), 0.0

    def _get_num_items_in_batch(self, batch_samples: list, device: torch.device) -> torch.Tensor | None:
        """The Trainer's hook: it divides the step's loss by this."""
        return None if self.maker else self.step_tokens(batch_samples, device)

    def step_tokens(self, batches: list, device: torch.device) -> torch.Tensor:
        """Target tokens of the whole accumulated step, over all processes; weighs the rows of tasks on the way.

        Args:
            batches: the micro-batches of this process, as they will be trained on; `weights` of tasks are set in them.
            device: where the count goes.
        """
        if self.tasks:
            return self._weigh_tasks(batches, device)
        count = torch.tensor(sum(len(batch["student"]["target_ids"]) for batch in batches), device=device)
        return self.accelerator.gather(count).sum() if self.args.world_size > 1 else count  # pyright: ignore

    def _weigh_tasks(self, batches: list, device: torch.device) -> torch.Tensor:
        """Multiply each row's weight by N / N_k, so that the step's loss is Σ_k w_k · (1/N_k) Σ_(n of task k) loss_n.

        N_k counts the target tokens of task k in all micro-batches of all processes, N those of all tasks. The weight
        of a task that is absent from a step is not shared out among the others.
        """
        counts = torch.zeros(len(self.tasks), dtype=torch.long)
        for batch in batches:
            counts.index_add_(0, self._task_places(batch), batch["student"]["target_mask"].sum(1).cpu())
        counts = counts.to(device)
        if self.args.world_size > 1:
            counts = self.accelerator.gather(counts).view(-1, len(self.tasks)).sum(0)  # pyright: ignore
        factors = self._task_factors = counts.sum() / counts.clamp_min(1)
        for batch in batches:
            weights = batch["weights"]
            batch["weights"] = weights * factors.to(weights.device)[self._task_places(batch).to(weights.device)]
        return counts.sum()

    def _task_places(self, batch: Any) -> torch.Tensor:
        return torch.tensor([self.tasks.index(task) for task in batch["tasks"]])

    def _prepare_inputs(self, inputs: Any) -> Any:
        return move(inputs, self.args.device)

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """Sum of the losses over the target tokens of this micro-batch ÷ target tokens of the whole step.

        Raises:
            RunError: the loss is no finite number; step and rows are named.
        """
        step = self.state.global_step + 1
        self._seen = (step, (self._seen[1] if self._seen[0] == step else []) + inputs["ids"])
        self.module.objective.statistics = step % self.args.logging_steps == 0 or step == self.state.max_steps
        signal = self.teacher.signal(inputs) if self.teacher else None
        result = model(inputs, signal)
        if not torch.isfinite(result.total):
            raise _diverged("loss", result.total, step, inputs["ids"])
        exact = torch.float32 if self.args.device.type == "mps" else torch.float64
        for name in () if self._sums else task_terms(self.tasks):
            # Processes add these up term by term, whether or not each of them has met the task.
            self._sums[name] = torch.zeros((), dtype=exact, device=self.args.device)
        for name, value in result.sums.items():
            self._sums[name] = self._sums.get(name, 0) + value.detach().to(exact)
        self._step_loss = self._step_loss + result.total.detach().to(exact) / num_items_in_batch
        # DDP averages gradients over processes; the count already runs over all of them.
        return result.total * self.args.world_size / num_items_in_batch

    def finish_step(self) -> None:
        """Tell the objective the loss of the step that was just done, where its schedule follows it."""
        loss, self._step_loss = self._step_loss, 0.0
        if self.module.objective.follows_loss:
            whole: Any = self.accelerator.reduce(torch.as_tensor(loss), "sum")
            self.module.objective.end_step(float(whole), self.state.global_step, self.state.max_steps)

    def _clip_grad_norm(self, model: Any) -> Any:
        """Stop before a gradient that is no finite number reaches the weights: then no later batch takes the blame."""
        norm = super()._clip_grad_norm(model)  # pyright: ignore
        if not torch.isfinite(torch.as_tensor(norm)):
            raise _diverged("gradient", norm, *self._seen)
        return norm

    # -- optimiser, evaluation, log ------------------------------------------------------------------------------

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW with the objective's own learning rate for the objective's own parameters."""
        if self.optimizer is None:
            trained: Any = self.model if model is None else model
            decayed = set(self.get_decay_parameter_names(trained))
            groups: dict[tuple[bool, bool], list] = {}
            for name, parameter in trained.named_parameters():
                if parameter.requires_grad:
                    groups.setdefault(("objective." in name, name in decayed), []).append(parameter)
            kind, options = self.get_optimizer_cls_and_kwargs(self.args, trained)
            self.optimizer = kind(
                [
                    {
                        "params": parameters,
                        "lr": self.objective_learning_rate if objective else self.args.learning_rate,
                        "weight_decay": self.args.weight_decay if decay else 0.0,
                    }
                    for (objective, decay), parameters in sorted(groups.items(), key=lambda item: item[0])
                ],
                **options,
            )
        return self.optimizer

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Answer the development rows; keep the weights if their figure is the best so far, or as good as that.

        A metric of the answers (`models.kept_by`), not the loss: development loss rises while the text
        still gets better. Of equals the last is kept, which has learned from more rows.
        """
        assert self.dev_score is not None
        student = self.module.student
        with self.module.objective.around_answers(student, getattr(self.teacher, "model", None)):
            scores = self.dev_score(student)
        metrics = {f"eval_{name}": value for name, value in scores.items()}
        best = self.state.best_metric
        if best is None or self._as_good(metrics[self._kept_by], best):
            self._keep_best()
            # The Trainer itself only takes note of a better one.
            self.state.best_global_step = self.state.global_step
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self.control.should_training_stop |= self.patience_is_over
        return metrics

    @property
    def _kept_by(self) -> str:
        """The name in the log of the score by which weights are kept, the rate is halved and training ends early."""
        return f"eval_{self.args.metric_for_best_model}"

    def _as_good(self, score: float, best: float) -> bool:
        return score >= best if self.args.greater_is_better else score <= best

    @property
    def patience_is_over(self) -> bool:
        """Whether the last `patience` evaluations have brought no better score than there was before them."""
        scores = [line[self._kept_by] for line in self.state.log_history if self._kept_by in line]
        if self.patience is None or len(scores) <= self.patience:
            return False
        best = max if self.args.greater_is_better else min
        return self._as_good(best(scores[: -self.patience]), best(scores[-self.patience :]))

    def _keep_best(self) -> None:
        if not self.args.should_save:
            return
        target = Path(self.args.output_dir or ".") / "best"
        fresh = target.with_name("best.part")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        with writing(fresh):
            self.module.save_trainable(fresh)
        target.mkdir(exist_ok=True)
        os.replace(fresh / WEIGHTS_FILE, target / WEIGHTS_FILE)
        fresh.rmdir()

    def load_best(self) -> None:
        """Put the best weights back, where an evaluation has kept some."""
        folder = Path(self.args.output_dir or ".") / "best"
        if self.state.best_metric is not None and (folder / WEIGHTS_FILE).exists():
            self.module.load_trainable(folder)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each loss term since the last line; keep `metrics.jsonl` equal to the Trainer's history."""
        if "loss" in logs and self._sums:
            sums: dict[str, Any] = {name: self.accelerator.reduce(value, "sum") for name, value in self._sums.items()}
            logs |= looked_at_means(sums) | self.module.objective.scheduled
            if "tokens" in sums:
                tokens = sums.pop("tokens")
                measured = sums.pop("measured_tokens", tokens).clamp_min(1)
                logs |= task_means(sums, self.tasks)
                for name, value in sums.items():
                    logs[name] = (value / (measured if name in STATISTICS else tokens)).item()
            self._sums = {}
        super().log(logs, start_time)
        if self.args.should_save:
            write_jsonl(Path(self.args.output_dir or ".") / "metrics.jsonl", self.state.log_history)

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        folder = Path(output_dir or self.args.output_dir or ".")
        folder.mkdir(parents=True, exist_ok=True)
        self.module.save_trainable(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.module.load_trainable(resume_from_checkpoint)
        path = Path(resume_from_checkpoint) / self._progress_file
        if path.is_file():
            state = read_json(path)
            self.module.objective.load_progress_state(state["objective"])
            if self.maker:
                self.maker.load_state(state["rows"])

    @property
    def _progress_file(self) -> str:
        """What a checkpoint holds of this process beside weights: schedules that follow the loss, rows that wait."""
        return f"progress-{self.args.process_index}.json"

    def _save_progress(self, folder: Path) -> None:
        objective = self.module.objective.progress_state()
        if objective or self.maker:
            write_json(
                folder / self._progress_file, {"objective": objective, "rows": self.maker and self.maker.state()}
            )

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self.args.output_dir or ".") / f"checkpoint-{self.state.global_step}"
        with writing(folder):
            super()._save_checkpoint(model, trial)
            self._save_progress(folder)
        # Every process writes the state of its own random generators.
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            mark_whole(folder, self.state.global_step)


def _diverged(what: str, value: Any, step: int, ids: Sequence[str]) -> RunError:
    ids = list(dict.fromkeys(ids))
    named = listed(ids, most=32)
    return RunError(
        f"the {what} became {torch.as_tensor(value).item()} at step {step}, on the rows {named}",
        hint="lower the learning rate, or look at these rows with `understudy inspect`",
    )


class _StepCallback(TrainerCallback):
    def __init__(self, trainer: DistillationTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        # A training that goes on from a checkpoint need not run out of memory once more.
        self.trainer.pieces.most = min((line[LOGGED] for line in state.log_history if LOGGED in line), default=None)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.finish_step()


class _ProgressCallback(TrainerCallback):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.note = ""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.progress(state.global_step, state.max_steps, self.note)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and LOGGED in logs:
            self.note = f"out of memory: {logs[LOGGED]} rows at once from here on"
        if logs and "loss" in logs:
            self.note = f"loss {logs['loss']:.3f}"
