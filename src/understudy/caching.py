"""What a recipe keeps of its teacher, and the gate that stands before anything of it is written."""

from __future__ import annotations

from typing import Any

import torch

from understudy.errors import ConfigError
from understudy.losses.divergences import Divergence, forward_kl, traits
from understudy.models.head import head_of
from understudy.models.kinds import kind_of
from understudy.recipe import DivergenceConfig, MethodConfig, Recipe
from understudy.recipe.own_arms import for_arm
from understudy.recipe.teachers import FIRST
from understudy.teachers.cache.formats import CandidatesFormat, SampledFormat, StatesFormat, TargetFormat, TopKFormat
from understudy.tokens.template import Template
from understudy.training.objectives.base import divergence_of
from understudy.types import Gives


def loss_temperatures(recipe: Recipe) -> tuple[float, ...]:
    """The loss temperatures of the arms that read the teacher's signal, ascending."""
    return tuple(sorted({for_arm(recipe, name).distil.temperature for name in recipe.signal_arms}))


def cache_targets(recipe: Recipe, teacher: Any, most_candidates: int = 0) -> TargetFormat:
    """The format of the targets that a recipe keeps of its teacher.

    Args:
        recipe: with `teacher.cache`.
        teacher: the teacher's model, which says how wide its head and its states are.
        most_candidates: among how many it chooses at most, where it does not write.
    """
    cache = recipe.local_teacher.cache
    assert cache is not None, "the recipe keeps nothing of what its teacher says"
    if kind_of(teacher.config).gives is Gives.LOGPS:
        return CandidatesFormat(2 ** max(4, (max(1, most_candidates) - 1).bit_length()), (1.0,))
    columns, width = head_of(teacher).weight.shape
    temperatures = cache.temperatures or loss_temperatures(recipe)
    if cache.targets == "states":
        # Of states everything follows, at any temperature.
        return StatesFormat(columns, (1.0,), width, cache.dtype)
    count = min(cache.k, columns)
    if cache.targets == "sampled":
        return SampledFormat(columns, temperatures, count, cache.draws, cache.bits)
    return TopKFormat(columns, temperatures, count, cache.bits)


def cached_gives(recipe: Recipe, gives: Gives) -> Gives:
    """What a teacher gives that is read from the recipe's cache, where it has one."""
    cache = recipe.teacher.cache if recipe.teacher else None
    if gives is Gives.LOGPS:
        return gives  # Of candidates all is kept.
    return gives & (StatesFormat.gives if cache is None or cache.targets == "states" else TopKFormat.gives)


def check_new_answers(recipe: Recipe) -> None:
    """Refuse rollouts of the student and schedules that a recipe's teachers, texts or batches have no place for.

    Raises:
        ConfigError: names what cannot be together, and what to write instead.
    """
    distil, teachers = recipe.distil, recipe.teachers
    adapt, rollouts = distil.adapt, distil.on_policy
    if not recipe.signal_arms or not (adapt or rollouts):
        return
    cached = [name for name, other in (teachers.others if teachers else {}).items() if other.cache]
    cached += [FIRST] if recipe.teacher and recipe.teacher.cache else []
    if rollouts and cached:
        raise ConfigError(
            f"distil.on_policy: the student's answers are new each time, and {cached[0]} is read from a cache of given "
            "ones",
            hint="leave the cache out",
        )
    fixed = {"contrastive": "skew_reverse_kl"}.get(rollouts.loss) if rollouts else None
    only = "reverse_kl" if rollouts and rollouts.top_k else fixed
    if rollouts and only and (rollouts.divergence not in (None, only) or (rollouts.top_k and fixed)):
        why = "top_k is of reverse KL" if rollouts.top_k else "contrastive compares by skew_reverse_kl"
        raise ConfigError(f"distil.on_policy: {why}", hint="leave out divergence or top_k, or take loss: divergence")
    if rollouts and any(arm.learns == "task_texts" and recipe.reads_signal(arm) for arm in recipe.trained_arms):
        raise ConfigError("distil.on_policy: texts of tasks are given ones", hint="set tasks.logits: false")
    if rollouts and rollouts.loss == "contrastive" and _uneven(distil):
        raise ConfigError(
            "distil.on_policy.loss contrastive learns pairs",
            hint="batch_size must be even, and twice micro_batch_size must divide it",
        )
    if rollouts and rollouts.loss == "policy_gradient" and teachers and teachers.added:
        raise ConfigError(
            "distil.on_policy.loss policy_gradient takes one teacher or a mean, and losses are added here",
            hint="take loss: divergence",
        )
    if rollouts and rollouts.teacher_mixed and (recipe.served_teacher or teachers):
        raise ConfigError(
            "distil.on_policy.teacher_mixed draws from one teacher that is loaded here", hint="set it to 0"
        )
    if adapt and adapt.taid and adapt.taid.start > adapt.taid.end:
        raise ConfigError(
            f"distil.adapt.taid: start {adapt.taid.start:g} lies above end {adapt.taid.end:g}",
            hint="t runs from the student towards the teacher",
        )
    if adapt and adapt.temperature and (cached or recipe.served_teacher):
        raise ConfigError(
            "distil.adapt.temperature: what a cache or a server gives holds at one temperature alone",
            hint="leave the schedule out, or load the teacher here",
        )
    if adapt and adapt.weighs and teachers and teachers.added:
        raise ConfigError(
            "distil.adapt weighs rows by one teacher or a mean of several, and losses are added here",
            hint="average the teachers, or leave the weights and filters out",
        )
    if adapt and adapt.min_teacher_agreement and not (teachers and teachers.averaged):
        raise ConfigError(
            "distil.adapt.min_teacher_agreement needs several teachers that are averaged",
            hint="name them in `teachers.others`, or leave it out",
        )


def _uneven(distil: MethodConfig) -> bool:
    """Whether a step cannot be cut into two halves of equal micro-batches."""
    micro = distil.micro_batch_size or distil.batch_size
    pairs = min(micro, distil.batch_size // 2)
    return bool(distil.batch_size % 2 or not pairs or distil.batch_size % (2 * pairs))


def check_cache(recipe: Recipe, teacher: Template) -> None:
    """Refuse a method or divergence that the recipe's cache has not enough for, before anything is written.

    Raises:
        ConfigError: names what is missing, and what to keep in its place.
    """
    cache, method = recipe.teacher.cache if recipe.teacher else None, recipe.distil
    if cache is None or not recipe.signal_arms:
        return
    if teacher.candidates == "passages":
        raise ConfigError(
            "teacher.cache keeps what is said of a row, and this teacher compares it with the passages of its batch",
            hint="leave out teacher.cache",
        )
    if teacher.candidates == "positions":
        raise ConfigError(
            "teacher.cache keeps distributions over a vocabulary, and this teacher points at positions",
            hint="leave out teacher.cache",
        )
    if teacher.candidates != "vocabulary":
        return  # Options and labels are kept whole, whatever `targets` says.
    if cache.temperatures and method.temperature not in cache.temperatures:
        raise ConfigError(
            f"teacher.cache.temperatures lacks {method.temperature:g}, the temperature of the loss",
            hint="add it, or leave teacher.cache.temperatures out: it then holds what the arms need",
        )
    if cache.targets == "states":
        if getattr(method, "published", False) and Gives.EMBEDDINGS in method.reads:
            raise ConfigError(
                f"{method.method} with published: true reads states of prompt and padding, which no cache keeps",
                hint="leave out distil.published, or teacher.cache",
            )
        return
    if method.reads not in Gives.TOP_K:
        raise ConfigError(
            f"distil.method {method.method} reads {method.reads.words}, and teacher.cache.targets {cache.targets} "
            "keeps those of a few tokens",
            hint="teacher.cache.targets: states keeps what every method needs",
        )
    if cache.targets == "sampled" and method.not_linear:
        raise ConfigError(
            f"distil.method {method.method} {method.not_linear}, which is not linear in its probabilities, so sampled "
            "targets are wrong for it on average too",
            hint="teacher.cache.targets: topk takes the tail as one bucket",
        )
    if not isinstance(method, DivergenceConfig):
        return
    if cache.targets == "topk":
        _check_tail(method, "teacher.cache.targets: states, or another divergence")
    if cache.targets == "sampled":
        _check_sampled(method)


def check_served(recipe: Recipe) -> None:
    """Refuse a divergence that a server's likeliest tokens are not enough for, before it is asked.

    Raises:
        ConfigError: it does not take the tail as one bucket; or the tail is left out, and it is then infinite.
    """
    served, method = recipe.served_teacher, recipe.distil
    if served is None or not recipe.signal_arms or not isinstance(method, DivergenceConfig):
        return
    if method.reads not in Gives.TOP_K:
        return
    _check_tail(method, "another divergence, or a teacher that is loaded here")
    if served.tail == "renormalise" and not _is_finite_without_tail(divergence_of(method)):
        raise ConfigError(
            f"{method.divergence} is infinite where the teacher leaves out what the student holds possible",
            hint="teacher.tail: bucket, or another divergence",
        )


def _is_finite_without_tail(divergence: Divergence) -> bool:
    student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]).log()
    return bool(divergence(student, teacher).isfinite().all())


def _check_tail(method: DivergenceConfig, hint: str) -> None:
    if not traits(divergence_of(method)).takes_tail:
        raise ConfigError(f"{method.divergence} does not take the tail of a top-k target as one bucket", hint=hint)


def _check_sampled(method: DivergenceConfig) -> None:
    divergence = divergence_of(method)
    if divergence is not forward_kl:
        raise ConfigError(
            f"{method.divergence} is not linear in the teacher's probabilities, so sampled targets are wrong for it on "
            "average too; they are right for forward_kl",
            hint="teacher.cache.targets: topk takes the tail as one bucket"
            if traits(divergence).takes_tail
            else "teacher.cache.targets: states keeps what every method needs",
        )
