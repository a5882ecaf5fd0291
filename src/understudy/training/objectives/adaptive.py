"""An objective that changes while it learns: schedules, a teacher interpolated with the student, rows weighed by trust.

All of it is a function of the number of the step, of what stands in the batch, and of a few numbers that checkpoints
hold, so a resumed run goes on as the unbroken one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from understudy.losses import HeadTerms
from understudy.losses.divergences import Divergence, forward_kl
from understudy.losses.fused import head_losses
from understudy.models.inner_states import WantedFeatures
from understudy.models.output import Output
from understudy.recipe import MethodConfig
from understudy.recipe.on_policy import AdaptConfig, RampConfig, TaidConfig
from understudy.teachers.signals import Mean, Signal, TopK
from understudy.training.objectives.base import Objective, Result
from understudy.training.objectives.on_policy import on_policy
from understudy.types import Batch


def ramp(config: RampConfig, step: int, steps: int) -> float:
    """The value of a schedule at a step, counted from 0 of `steps`: `start` at the first, `end` at the last."""
    share = min(1.0, step / max(1, steps - 1))
    if config.shape == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return config.start + (config.end - config.start) * share


class Taid:
    """t of the interpolated teacher (TAID, arXiv 2501.16937).

    With δ = (J_{n−1} − J_n) / J_{n−1} the relative drop of the loss and m ← μ m + (1 − μ) δ,

        t ← min(t_end, max(t_start + (t_end − t_start) · n / N, t + rate · sigmoid(m) · (1 − t)))

    Args:
        config: its numbers.
    """

    def __init__(self, config: TaidConfig) -> None:
        self.config = config
        self.t, self.drop, self.loss = config.start, 0.0, math.nan

    def update(self, loss: float, step: int, steps: int) -> None:
        """Move t behind a step.

        Args:
            loss: J_n, of the step.
            step: n, from 1.
            steps: N.
        """
        config = self.config
        if not math.isnan(self.loss):
            change = (self.loss - loss) / (abs(self.loss) + 1e-15)
            self.drop = config.momentum * self.drop + (1 - config.momentum) * change
        self.loss = loss
        # Beyond ±60 a sigmoid is 0 or 1 in float64; a loss of next to nothing makes any change look endless.
        sigmoid = 1 / (1 + math.exp(-min(60.0, max(-60.0, self.drop))))
        ahead = self.t + config.rate * sigmoid * (1 - self.t)
        line = config.start + (config.end - config.start) * step / steps
        self.t = min(config.end, max(line, ahead if config.rate else line))

    def interpolated(self, divergence: Divergence) -> Divergence:
        """A divergence from p_t ∝ exp((1 − t) log q + t log p) in place of p, q there without gradient."""

        def function(student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
            return divergence(student_logp, interpolate(student_logp, teacher_logp, self.t))

        return function


def interpolate(student_logp: Tensor, teacher_logp: Tensor, t: float) -> Tensor:
    """Log softmax((1 − t) · z_q + t · z_p), without gradient; a column that the teacher rules out stays ruled out."""
    # Below the smallest logarithm of a float, but finite: 0 · −∞ is no number.
    finite = student_logp.detach().clamp_min(-1e4)
    mixed = (1 - t) * finite + t * teacher_logp if t > 0 else finite
    return mixed.log_softmax(-1)


class Adaptive(Objective):
    """An objective with its schedules, and with rows weighed before it adds them up.

    Args:
        inner_objective: what is added up.
        config: how it changes.
    """

    def __init__(self, inner_objective: Objective, config: AdaptConfig) -> None:
        super().__init__()
        self.objective = inner_objective
        self.config = config
        self.embeddings = inner_objective.embeddings  # pyright: ignore[reportAttributeAccessIssue]
        self.taid = Taid(config.taid) if config.taid else None
        if self.taid:
            self.follows_loss = True
            for leaf in leaves(inner_objective):
                if hasattr(leaf, "divergence"):
                    leaf.divergence = self.taid.interpolated(leaf.divergence)  # pyright: ignore

    @property
    def inner(self) -> tuple[Objective, ...]:
        """See the base class."""
        return (self.objective,)

    @property
    def of_student(self) -> WantedFeatures | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See the base class."""
        return self.objective.of_student

    @property
    def of_teacher(self) -> WantedFeatures | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """See the base class."""
        return self.objective.of_teacher

    def around(self, student: Any, signal: Any, batch: Batch) -> AbstractContextManager[Any]:
        """See the base class."""
        return self.objective.around(student, signal, batch)

    def around_answers(self, student: Any, teacher: Any) -> AbstractContextManager[Any]:
        """See the base class."""
        return self.objective.around_answers(student, teacher)

    def begin_step(self, step: int, steps: int) -> None:
        """Set what the schedules say, see the base class."""
        for leaf in leaves(self.objective):
            if self.config.temperature:
                leaf.temperature = ramp(self.config.temperature, step, steps)  # pyright: ignore
                if leaf.squared:
                    leaf.scale = leaf.temperature**2  # pyright: ignore
            if self.config.gold_weight:
                leaf.gold_weight = ramp(self.config.gold_weight, step, steps)
        super().begin_step(step, steps)

    def end_step(self, loss: float, step: int, steps: int) -> None:
        """Move the interpolation, see the base class."""
        if self.taid:
            self.taid.update(loss, step, steps)

    @property
    def scheduled(self) -> dict[str, float]:
        """See the base class."""
        leaf = next(leaves(self.objective))
        values: dict[str, Any] = {"loss_temperature": leaf.temperature} if self.config.temperature else {}
        values |= {"gold_weight": leaf.gold_weight} if self.config.gold_weight else {}
        return values | ({"taid_t": self.taid.t} if self.taid else {}) | self.objective.scheduled

    def progress_state(self) -> dict[str, Any]:
        """See the base class."""
        taid = self.taid
        if taid is None:
            return {}
        return {"t": taid.t, "drop": taid.drop, "loss": None if math.isnan(taid.loss) else taid.loss}

    def load_progress_state(self, state: Mapping[str, Any]) -> None:
        """See the base class."""
        if self.taid:
            self.taid.t, self.taid.drop = state["t"], state["drop"]
            self.taid.loss = math.nan if state["loss"] is None else state["loss"]

    def forward(self, student: Output, signal: Any, batch: Batch) -> Result:
        """See the class."""
        self.objective.statistics = self.statistics
        if not self.config.weighs:
            return self.objective(student, signal, batch)
        weighed, counts = self.weighed(student, signal, batch)
        result = self.objective(student, signal, weighed)
        return Result(result.total, result.sums | counts)

    @torch.no_grad()
    def weighed(self, student: Output, signal: Signal, batch: Batch) -> tuple[Batch, dict[str, Tensor]]:
        """A batch whose rows weigh what they are trusted; how many rows of it were looked at, and not trusted why."""
        config, device = self.config, student.device
        said = _said(signal)
        entropy, right = _row_means(said.entropy, signal.lengths), _row_means(said.right, signal.lengths)
        gold = batch["gold_rows"].to(device)  # pyright: ignore[reportTypedDictNotRequiredAccess]
        poor = {
            "entropy": entropy > (config.max_teacher_entropy or math.inf),
            "gold": gold & (right < (config.min_gold_agreement or 0.0)),
            "teachers": _agreement(signal, config.min_teacher_agreement) < (config.min_teacher_agreement or 0.0),
        }
        unheard = torch.stack(list(poor.values())).any(0)
        weights = batch.get("weights", torch.ones(len(gold))).to(device, torch.float32)
        if config.by_difficulty:
            own = -_row_means(_cross_entropy(student), student.lengths)
            weights = weights * (1 - own.exp()).clamp_min(0) ** config.by_difficulty
        # A gold answer is still right; what somebody else wrote is as poor as what the teacher says of it.
        weights = torch.where(unheard & ~gold, torch.zeros_like(weights), weights)
        use = batch.get("use_teacher", torch.ones(len(gold), dtype=torch.bool)).to(device) & ~unheard
        weighed: Batch = {**batch, "weights": weights, "use_teacher": use}
        if config.by_confidence:
            trust = (1 - entropy / math.log(max(2, said.columns))).clamp(0, 1)
            weighed["teacher_weights"] = trust**config.by_confidence
        counts = {f"filtered_{name}": rows.sum().float() for name, rows in poor.items()} if config.filters else {}
        looked_at = {"weighed_rows": torch.tensor(float(len(gold)), device=device), "row_weight": weights.sum()}
        return weighed, looked_at | counts


class _Said:
    """What a teacher says of its target tokens.

    Attributes:
        entropy: `[N]` in nats.
        right: `[N]` whether the target is its likeliest token.
        columns: of its vocabulary.
    """

    def __init__(self, entropy: Tensor, right: Tensor, columns: int) -> None:
        self.entropy, self.right, self.columns = entropy, right, columns


def _said(signal: Signal) -> _Said:
    if isinstance(signal, TopK):
        tail = signal.log_tail
        # All that is behind the likeliest counts as one token: the least that the entropy can be.
        parts = torch.cat([signal.logp, tail[:, None]], 1)
        entropy = -(parts.exp() * parts).nan_to_num(nan=0.0).sum(1)
        best = signal.ids.gather(1, signal.logp.argmax(1, keepdim=True))[:, 0]
        return _Said(entropy, best == signal.target_ids, int(signal.ids.max()) + 1)
    states: Any = signal.states
    if isinstance(getattr(states, "ids", None), Tensor):
        best = states.ids.gather(1, states.logp.argmax(1, keepdim=True))[:, 0]
        parts = torch.cat([states.logp, states.log_tail[:, None]], 1)
        entropy = -(parts.exp() * parts).nan_to_num(nan=0.0).sum(1)
        return _Said(entropy, best == signal.target_ids, int(states.ids.max()) + 1)
    losses = head_losses(states.constant(), None, _terms(signal.target_ids, statistics=True))
    assert losses.student_entropy is not None
    assert losses.student_argmax is not None
    return _Said(losses.student_entropy, losses.student_argmax == signal.target_ids, states.columns)


def _terms(ids: Tensor, *, statistics: bool) -> HeadTerms:
    ones = torch.ones(len(ids), device=ids.device)
    return HeadTerms(forward_kl, gold_ids=ids, gold_weights=ones, statistics=statistics)


def _cross_entropy(student: Output) -> Tensor:
    losses = head_losses(student.states.constant(), None, _terms(student.target_ids, statistics=False))
    assert losses.gold is not None
    return losses.gold


def _agreement(signal: Signal, least: float | None) -> Tensor:
    """`[B]` share of the tokens on which the averaged teachers find one token likeliest, mean over pairs; 1 for one."""
    if least is None or not isinstance(signal, Mean):
        return torch.ones(len(signal.lengths), device=signal.target_ids.device)
    best = torch.stack([_best(output) for output in signal.outputs])
    pairs = [(best[i] == best[j]).float() for i in range(len(best)) for j in range(i)]
    return _row_means(torch.stack(pairs).mean(0), signal.lengths)


def _best(output: Any) -> Tensor:
    if isinstance(output, TopK):
        return output.ids.gather(1, output.logp.argmax(1, keepdim=True))[:, 0]
    best = head_losses(output.states.constant(), None, _terms(output.target_ids, statistics=True)).student_argmax
    assert best is not None
    return best


def _row_means(values: Tensor, lengths: tuple[int, ...]) -> Tensor:
    return torch.stack(
        [row.float().mean() if len(row) else values.new_zeros(()) for row in values.split(list(lengths))]
    )


def leaves(objective: Objective) -> Iterator[Objective]:
    """The objectives that an objective is made of, itself where it is made of none; each once."""
    seen: set[int] = set()

    def walk(one: Objective) -> Iterator[Objective]:
        parts = [*one.inner, *getattr(one, "parts", ())]
        for part in parts:
            yield from walk(part)
        if not parts and id(one) not in seen:
            seen.add(id(one))
            yield one

    return walk(objective)


def learns_as_it_goes(config: MethodConfig, plain: Objective) -> Objective:
    """An objective with rollouts of the student and schedules around it, where the section asks for them.

    Args:
        config: the section `distil`.
        plain: what it adds up on given answers.
    """
    wrapped = on_policy(plain, config.on_policy) if config.on_policy else plain
    return Adaptive(wrapped, config.adapt) if config.adapt else wrapped
