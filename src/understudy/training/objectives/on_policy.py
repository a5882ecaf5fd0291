"""What is added up on answers that the student wrote itself.

GKD (arXiv 2306.13649) compares the two distributions on them as on any other text. MiniLLM (arXiv 2306.08543) takes the
reverse KL of whole answers, whose gradient is, with r_t = log p(y_t) − log q(y_t) and R_{t+1} = Σ_{t' > t} r_{t'},

    ∇KL(q‖p) = E_{y~q} Σ_t [ ∇ KL(q_t‖p_t) − R_{t+1} ∇ log q(y_t) ]

The first part is exact at every position (the single-step decomposition) and is the divergence of any method here; the
second says that a token is as good as what follows it, by default as the mean of what follows (length normalisation).
DistiLLM-2 (arXiv 2503.07067) compares on pairs: skewed forward KL on the given answer, skewed reverse KL on the
student's own.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor

from understudy.losses import HeadStates, HeadTerms, Pass, run_passes
from understudy.losses.divergences import Divergence, divergence, forward_kl
from understudy.losses.fused import head_losses
from understudy.losses.sides import LearningSource
from understudy.models.output import Output
from understudy.recipe.on_policy import OnPolicyConfig
from understudy.teachers.signals import Sampled, Signal, TopK
from understudy.training.objectives.base import Objective, Result
from understudy.training.objectives.summed import SummedObjective
from understudy.types import Batch, RolloutTokens

OVERLAP = 8
"""So many likeliest tokens of both sides are compared."""
_MEASURED = 256
"""Tokens of a batch on which they are: their logits are computed in full."""


class OnPolicy(Objective):
    """One objective on given answers, and one on those that the student wrote.

    Args:
        given: on given answers, and the objective whose parameters are learned.
        sampled: on the student's; it shares what `given` learns.
        config: how the student's are weighed.
    """

    def __init__(self, given: Objective, sampled: Objective, config: OnPolicyConfig) -> None:
        super().__init__()
        self.given, self.sampled = given, sampled
        self.config = config
        self.embeddings = given.embeddings  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def inner(self) -> tuple[Objective, ...]:
        """See the base class."""
        return self.given, self.sampled

    def forward(self, student: Output, signal: Any, batch: Batch) -> Result:
        """See the class; a batch holds either given answers or the student's."""
        for objective in self.inner:
            objective.statistics = self.statistics
        if "rollouts" not in batch:
            return self.given(student, signal, batch)
        rollouts, lengths = batch["rollouts"], student.lengths
        compared, followed = self._importance(student, rollouts)
        weight = self.config.rollout_weight
        result = self.sampled(student, signal, {**batch, "token_weights": weight * compared})
        total = result.total
        sums = {f"rollout_{name}": value for name, value in result.sums.items() if name != "gold"}
        sums |= rollout_sums(rollouts, lengths)
        if self.config.loss == "policy_gradient":
            rewards = self._rewards(student, signal, rollouts)
            ahead = rewards_ahead(rewards, lengths, normalised=self.config.length_normalised)
            total = total + _weighted_cross_entropy(student, weight * followed * ahead)
            sums["rollout_reward"] = rewards.sum()
        if self.statistics:
            sums |= self._looked_at(student, signal, batch)
        return Result(total, sums)

    @torch.no_grad()
    def _importance(self, student: Output, rollouts: RolloutTokens) -> tuple[Tensor, Tensor]:
        """Weights `[N]` of the divergence and of the policy gradient."""
        then = rollouts["logp"]
        ones = torch.ones(len(student.target_ids), device=student.device)
        if self.config.importance == "none" or not bool(rollouts["stale"].any()):
            return ones, ones
        now = target_logp(_tempered(student.states, self.config.temperature), student.target_ids)
        kind, cap = self.config.importance, self.config.importance_cap
        return importance_weights(now - then.to(now), student.lengths, kind, cap)

    @torch.no_grad()
    def _rewards(self, student: Output, signal: Signal, rollouts: RolloutTokens) -> Tensor:
        """`[N]` log p − log q of each token; of two vocabularies p's tokens count where they end."""
        own = target_logp(student.states, student.target_ids)
        theirs = teacher_logp(signal).to(own)
        if (credit := rollouts.get("credit")) is not None:
            theirs = torch.zeros_like(own).index_add_(0, credit.to(own.device), theirs)
        return theirs - own

    @torch.no_grad()
    def _looked_at(self, student: Output, signal: Signal, batch: Batch) -> dict[str, Tensor]:
        """Sums of what tells whether the teacher can judge what the student writes."""
        if not isinstance(getattr(signal, "target_ids", None), Tensor) or isinstance(signal, Sampled):
            return {}
        logp = teacher_logp(signal)
        sums = {"rollout_teacher_logp": logp.sum(), "rollout_heard_tokens": logp.new_tensor(float(len(logp)))}
        return sums | overlap(student, signal, batch, getattr(self.sampled, "exact", None))


def on_policy(objective: Objective, config: OnPolicyConfig) -> OnPolicy:
    """An objective made ready for answers of the student."""
    given, sampled = objective, objective
    if config.loss == "contrastive":
        given = with_divergence(objective, divergence("skew_forward_kl", skew=config.skew))
        sampled = with_divergence(objective, divergence("skew_reverse_kl", skew=config.skew))
    elif config.top_k:
        sampled = with_divergence(objective, top_k_reverse_kl(config.top_k, stop_gradient=config.stop_gradient))
    elif name := config.divergence or ("reverse_kl" if config.loss == "policy_gradient" else None):
        sampled = with_divergence(objective, divergence(name))
    return OnPolicy(given, sampled, config)


def with_divergence(objective: Objective, function: Divergence) -> Objective:
    """The same objective by another divergence, sharing all that it learns; unchanged where it has none to choose."""
    other = copy.copy(objective)
    other._modules = dict(objective._modules)
    if isinstance(objective, SummedObjective):
        parts = [with_divergence(cast("Objective", part), function) for part in objective.parts]
        other.parts = torch.nn.ModuleList(parts)
    elif hasattr(objective, "divergence"):
        other.divergence = function  # pyright: ignore
    return other


# Hand-checkable pieces ------------------------------------------------------------------------------------------------


def rewards_ahead(rewards: Tensor, lengths: Sequence[int], *, normalised: bool = True) -> Tensor:
    """`[N]` R_{t+1}: the sum, or the mean, of the rewards behind each token of a row; 0 at its last.

    Args:
        rewards: `[N]` those of all rows, one behind the other.
        lengths: tokens of each row.
        normalised: the mean.
    """
    ahead = []
    for row in rewards.split(list(lengths)):
        behind = row.sum() - row.cumsum(0)
        left = torch.arange(len(row) - 1, -1, -1, device=row.device)
        behind = torch.where(left > 0, behind, 0.0)
        ahead.append(behind / left.clamp_min(1) if normalised else behind)
    return torch.cat(ahead)


def importance_weights(
    log_ratio: Tensor, lengths: Sequence[int], kind: Literal["none", "token", "prefix"], cap: float
) -> tuple[Tensor, Tensor]:
    """Weights of what is compared at a token, and of what follows it, each at most `cap`.

    `token`: q_now(y_t) / q_then(y_t) for both. `prefix`: what is compared at t is right on average if weighed by the
    ratio of the tokens before t, and what follows t by that of the tokens up to t.

    Args:
        log_ratio: `[N]` log q_now(y_t) − log q_then(y_t); NaN where the latter is not known, which counts as equal.
        lengths: tokens of each row.
        kind: which.
        cap: the largest weight.
    """
    log_ratio = log_ratio.nan_to_num(nan=0.0)
    if kind == "none":
        return torch.ones_like(log_ratio), torch.ones_like(log_ratio)
    if kind == "token":
        weights = log_ratio.exp().clamp_max(cap)
        return weights, weights
    up_to = torch.cat([row.cumsum(0) for row in log_ratio.split(list(lengths))])
    return (up_to - log_ratio).exp().clamp_max(cap), up_to.exp().clamp_max(cap)


def top_k_reverse_kl(k: int, *, stop_gradient: bool = True) -> Divergence:
    """Σ_{v ∈ K} q_v (log q_v − log p_v) over the student's k likeliest tokens.

    Its own gradient is biased: Σ_v ∇q_v = 0 holds over the whole vocabulary and not over K, so that mass is pushed out
    of K whatever the teacher says, and its value can be negative (arXiv 2605.11182). With `stop_gradient` the gradient
    is Σ_{v ∈ K} q_v (log q_v − log p_v) ∇log q_v with constant coefficients: the terms of K in the gradient of the
    whole KL, and where K is the vocabulary that gradient itself.
    """
    return functools.partial(_top_k_reverse_kl, k=k, stop_gradient=stop_gradient)


def _top_k_reverse_kl(student_logp: Tensor, teacher_logp: Tensor, *, k: int, stop_gradient: bool) -> Tensor:
    logq, ids = student_logp.topk(min(k, student_logp.shape[-1]), dim=-1)
    logp = teacher_logp.gather(-1, ids)
    terms = logq.exp() * (logq - logp)
    if not stop_gradient:
        return terms.sum(-1)
    score = (terms.detach() * logq).sum(-1)
    return terms.detach().sum(-1) + score - score.detach()


# What the two sides say of the tokens ---------------------------------------------------------------------------------


@torch.no_grad()
def target_logp(states: LearningSource, target_ids: Tensor) -> Tensor:
    """`[N]` log-probability of each target token, without `[N, V]`."""
    ones = torch.ones(len(target_ids), device=target_ids.device)
    losses = head_losses(states, None, HeadTerms(forward_kl, gold_ids=target_ids, gold_weights=ones))
    assert losses.gold is not None
    return -losses.gold


@torch.no_grad()
def teacher_logp(signal: Signal) -> Tensor:
    """`[N]` log-probability that a teacher gives its target tokens.

    Of a teacher that tells its likeliest tokens alone, one that is not among them has at most the probability of the
    last of them and of all others together: it is given the smaller of the two.
    """
    if isinstance(signal, TopK):
        hit = signal.ids == signal.target_ids[:, None]
        most = torch.minimum(signal.logp.amin(-1), signal.log_tail)
        return torch.where(hit.any(-1), (signal.logp * hit).sum(-1), most.clamp_min(-50.0))
    states = signal.states
    assert hasattr(states, "graph"), "a sample of a distribution tells nothing of a token that was not drawn"
    return target_logp(cast("LearningSource", states.constant()), signal.target_ids)


def _tempered(states: Any, temperature: float) -> LearningSource:
    return states.constant() if temperature == 1 else states.constant().tempered(temperature)


def _weighted_cross_entropy(student: Output, weights: Tensor) -> Tensor:
    """Σ_n w_n · (−log q(y_n)) with a gradient; weights may be negative."""
    terms = HeadTerms(forward_kl, gold_ids=student.target_ids, gold_weights=weights)

    def one() -> Any:
        yield Pass(student.states, None, terms)

    return run_passes(one())[0][1].total


def overlap(student: Output, signal: Signal, batch: Batch, exact: Tensor | None) -> dict[str, Tensor]:
    """Sum of the shares of `OVERLAP` likeliest tokens that both sides have in common, and the tokens looked at.

    Args:
        student: what it says.
        signal: what the teacher says.
        batch: with the alignment of two vocabularies.
        exact: the student's id of each of the teacher's; None: there is one vocabulary.
    """
    places = torch.arange(len(student.target_ids), device=student.device)
    partners = places
    if "alignment" in batch:
        if exact is None or not len(exact):
            return {}
        partners = batch["alignment"]["partners"].to(places.device)
        places = (partners >= 0).nonzero()[:, 0]
        partners = partners[places]
    elif len(signal.target_ids) != len(places):
        return {}
    chosen = slice(None, None, max(1, -(-len(places) // _MEASURED)))
    ours = _likeliest(student.states.rows(places[chosen]))
    theirs = signal.ids[partners[chosen]] if isinstance(signal, TopK) else _likeliest(_rows(signal, partners[chosen]))
    theirs = theirs[:, :OVERLAP]
    if exact is not None and "alignment" in batch:
        theirs = torch.where(theirs < len(exact), exact.to(theirs.device)[theirs.clamp_max(len(exact) - 1)], -1)
    common = (ours[:, :, None] == theirs[:, None, :]).any(-1).float().sum(-1) / max(1, theirs.shape[1])
    return {"rollout_overlap": common.sum(), "rollout_compared_tokens": common.new_tensor(float(len(common)))}


def _rows(signal: Signal, which: Tensor) -> Any:
    return signal.states.rows(which)


def _likeliest(states: Any) -> Tensor:
    """`[N, OVERLAP]` likeliest columns of a side, its logits in full."""
    if isinstance(states, HeadStates):
        logits = states.head.logits(states.hidden.detach())
    elif hasattr(states, "teachers"):
        # Of a mean of teachers the one that counts most on the token stands for all.
        logits = states.teachers[0].head.logits(states.teachers[0].hidden)
    else:
        logits = getattr(states, "logp", None)
        logits = states.logits if logits is None else logits
    return logits.topk(min(OVERLAP, logits.shape[-1]), dim=-1).indices


def rollout_sums(rollouts: RolloutTokens, lengths: Sequence[int]) -> dict[str, Tensor]:
    """Sums over the rows of a batch of the student's answers, by their names in the log."""
    logp = rollouts["logp"]
    rows = {
        "rollout_rows": torch.ones(len(lengths)),
        "rollout_length": torch.tensor([float(length) for length in lengths]),
        "rollout_finished": rollouts["finished"].float(),
        "rollout_repetition": rollouts["repetition"].float(),
        "rollout_age": rollouts["age"].float(),
    }
    return {name: values.to(logp.device).sum() for name, values in rows.items()}
