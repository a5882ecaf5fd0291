"""The sum of the objectives of several teachers, each with its method, its tokens and its vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from understudy.losses import HeadLosses, Pass, run_passes
from understudy.losses.passes import weighted_sums
from understudy.models.output import Output
from understudy.teachers.signals import Several
from understudy.teachers.summed import batch_of
from understudy.training.objectives.base import Objective, Result
from understudy.types import Batch


class SummedObjective(Objective):
    """The losses of several teachers added up, gold cross-entropy once.

    L = Σ_n Σ_v s_v(n) · [g_n · CE_n + (1 − g_n) · D_v,n] = Σ_n g_n · CE_n + (1 − g_n) · Σ_v s_v(n) · D_v,n.

    s_v(n) is what part v counts on the row of token n; those of a row add up to 1, so gold is counted once whatever the
    parts are, and a row that is routed to one part has that part's loss. D_v is what the part's own method adds up. A
    share is a weight of rows (`Batch.weights`), so nothing of a method knows of the sum, and nothing depends on how a
    batch is cut.

    Args:
        parts: the objective of each part by name, the first teacher's first; what they learn is learned along.
    """

    def __init__(self, parts: Mapping[str, Objective]) -> None:
        super().__init__()
        self.names = tuple(parts)
        self.parts = nn.ModuleList(parts.values())
        self.embeddings = any(part.embeddings for part in parts.values())  # pyright: ignore[reportAttributeAccessIssue]
        self.gold_weight = next(iter(parts.values())).gold_weight

    def forward(self, student: Output, signal: Any, batch: Batch) -> Result:
        """See the class; a part that counts on no row of the batch is left out."""
        assert isinstance(signal, Several)
        total, common = _untouched(self.parts, student), {}
        losses_of = {f"{name}_loss": torch.zeros((), device=student.device) for name in self.names}
        for number, (name, part) in enumerate(zip(self.names, self.parts, strict=True)):
            assert isinstance(part, Objective)
            own = signal.signals[name]
            if own is None:
                continue
            weighed = _weighed(batch_of(batch, name), signal.shares[:, number], student)
            steps = run_passes(part.passes(student, own, weighed))
            total = total + sum(losses.total for _, losses in steps)
            losses_of[f"{name}_loss"] = _of_teacher(steps)
            common = part.sums(steps, student, weighed)
        # In one order whoever is heard, for processes add them up one after the other.
        tasks = sorted(name for name in common if name.startswith("task_"))
        return Result(total, {name: common[name] for name in ("gold", "tokens", *tasks)} | losses_of)


def _weighed(batch: Batch, shares: Tensor, student: Output) -> Batch:
    """A batch whose rows weigh what a part counts on them."""
    shares = shares.to(student.device, torch.float32)
    return {**batch, "weights": batch["weights"].to(shares) * shares if "weights" in batch else shares}


def _untouched(parts: nn.ModuleList, student: Output) -> Tensor:
    """0, with all that the parts learn in its graph: processes wait for the gradient of every parameter."""
    zero = torch.zeros((), device=student.device)
    for parameter in parts.parameters():
        if parameter.requires_grad:
            zero = zero + 0.0 * parameter.flatten()[0]
    return zero


def _of_teacher(steps: Sequence[tuple[Pass, HeadLosses]]) -> Tensor:
    """What the teacher's terms add to the loss, as they enter it."""
    terms = [weighted_sums(step, losses) for step, losses in steps]
    return torch.stack([value for own in terms for name, value in own.items() if name != "gold"]).sum()
