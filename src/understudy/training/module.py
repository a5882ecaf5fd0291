"""Student and objective as one module, so that DDP and FSDP wrap both and the optimiser sees all that is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from understudy.errors import RunError
from understudy.models.forward import forward
from understudy.models.head import base_model
from understudy.teachers.signals import Several, Signal
from understudy.training.objectives.base import Objective, Result
from understudy.types import Batch

WEIGHTS_FILE = "trainable.safetensors"


class DistillationModule(nn.Module):
    """What the trainer trains: `forward(batch, signal)` runs the student and the objective.

    Args:
        student: a causal language model, with or without adapters.
        objective: weighs the losses; its own parameters are trained along.
    """

    accepts_loss_kwargs = True
    main_input_name = "student"

    def __init__(self, student: Any, objective: Objective) -> None:
        super().__init__()
        self.student = student
        self.objective = objective

    def forward(self, batch: Batch, signal: Signal | Several | None = None) -> Result:
        """One pass: the sum of the losses over the target tokens of this batch, term by term."""
        tokens = batch["student"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        objective = self.objective
        with objective.around(self.student, signal, batch):  # pyright: ignore[reportArgumentType]
            output = forward(self.student, tokens, embeddings=objective.embeddings, features=objective.of_student)
        return self.objective(output, signal, batch)

    @property
    def config(self) -> Any:
        """The student's configuration (the trainer and its integrations look for it)."""
        return self.student.config

    @property
    def _no_split_modules(self) -> Any:
        return getattr(base_model(self.student), "_no_split_modules", None)

    @property
    def is_activation_checkpointing(self) -> bool:
        """Whether the student recomputes its activations."""
        return any(getattr(layer, "gradient_checkpointing", False) for layer in self.student.modules())

    def activation_checkpointing_enable(self, kwargs: dict[str, Any] | None = None, **named: Any) -> None:
        """Pass the request on to the student; inputs of a frozen base then need gradients for its adapters."""
        base = base_model(self.student)
        # Positional, because the keyword changed its name with the method (transformers 5.23).
        wanted = kwargs or named.get("activation_checkpointing_kwargs") or named.get("gradient_checkpointing_kwargs")
        getattr(base, "activation_checkpointing_enable", base.gradient_checkpointing_enable)(wanted)
        if hasattr(self.student, "peft_config"):
            base.enable_input_require_grads()

    def activation_checkpointing_disable(self) -> None:
        """Pass the request on to the student."""
        base = base_model(self.student)
        getattr(base, "activation_checkpointing_disable", base.gradient_checkpointing_disable)()

    # The names of transformers before 5.23.
    is_gradient_checkpointing = is_activation_checkpointing
    gradient_checkpointing_enable = activation_checkpointing_enable
    gradient_checkpointing_disable = activation_checkpointing_disable

    def save_pretrained(self, folder: str, **kwargs: Any) -> None:
        """Write the student alone, as a model folder."""
        self.student.save_pretrained(folder, **kwargs)

    def trainable_state(self) -> dict[str, torch.Tensor]:
        """Every parameter that is trained, once: a tied weight has one name, a frozen one none."""
        return {name: p.detach().contiguous().cpu() for name, p in self.named_parameters() if p.requires_grad}

    def save_trainable(self, folder: str | Path) -> None:
        """Write all that training changes: full weights or adapters, and the objective's own parameters."""
        save_file(self.trainable_state(), Path(folder) / WEIGHTS_FILE)

    @torch.no_grad()
    def load_trainable(self, folder: str | Path) -> None:
        """Read what `save_trainable` wrote.

        Raises:
            RunError: the checkpoint belongs to another student or objective.
        """
        state = load_file(Path(folder) / WEIGHTS_FILE)
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        if state.keys() != trained.keys():
            raise RunError(
                f"the checkpoint {folder} holds other parameters than this run trains",
                hint="remove the run folder, or give the run another name",
            )
        for name, parameter in trained.items():
            parameter.copy_(state[name])
