"""From a recipe to live objects: the only place where a string picks a class."""

from __future__ import annotations

from typing import Any

import torch

from understudy.errors import ConfigError, ModelError, VocabularyMismatch
from understudy.losses.divergences import divergence
from understudy.losses.dskd import CrossModelAttention, DualSpace
from understudy.losses.dskd_v2 import DualSpaceV2
from understudy.models.forward import base_model, head_of
from understudy.recipe import DistilConfig, Recipe
from understudy.tokens.align import AlignmentKind, CrossTokenizer
from understudy.tokens.compatibility import TokenizerPair, judge
from understudy.tokens.template import Template
from understudy.tokens.vocabulary import description
from understudy.training.objectives.base import Need, Objective
from understudy.training.objectives.cross_entropy import CrossEntropy
from understudy.training.objectives.cross_vocabulary import (
    ByteAligned,
    DualSpaceV2Objective,
    MinEdit,
    SortedProbabilities,
    shared_columns,
)
from understudy.training.objectives.dual_space import CrossModelObjective, DualSpaceObjective
from understudy.training.objectives.output_divergence import OutputDivergence

NEEDS: dict[str, Need] = {
    "kd": OutputDivergence.needs,
    "dskd": DualSpaceObjective.needs,
    "dskd_cma": CrossModelObjective.needs,
    "dskd_v2": DualSpaceV2Objective.needs,
    "min_edit": MinEdit.needs,
    "uld": SortedProbabilities.needs,
    "byte_aligned": ByteAligned.needs,
}

ALIGNMENTS: dict[str, AlignmentKind] = {
    "dskd_v2": "exact",
    "min_edit": "min_edit",
    "uld": "start",
    "byte_aligned": "groups",
}

# β of the generalised Jensen–Shannon divergence that each name stands for.
_BETAS = {"forward_kl": 0.0, "reverse_kl": 1.0, "js": 0.5, "generalized_js": 0.5}


def gold_objective() -> Objective:
    """The objective of supervised fine-tuning."""
    return CrossEntropy()


def bridge(config: DistilConfig, student: Template, teacher: Template) -> CrossTokenizer | None:
    """What aligns the answers of two tokenizers, where the method needs it.

    Raises:
        ModelError: the method needs to know where tokens stand, and one of the tokenizers does not tell.
    """
    kind = ALIGNMENTS.get(config.method)
    return None if kind is None else CrossTokenizer.between(kind, student, teacher, last=config.merge == "bayesian")


def objective(config: DistilConfig, student: Any, teacher: Any, bridge: CrossTokenizer | None = None) -> Objective:
    """The objective a recipe names, with projectors that fit the two models.

    Args:
        config: the `distil` section.
        student: the student's model.
        teacher: the teacher's model.
        bridge: between the two tokenizers, as `bridge` makes it.
    """
    _check_options(config)
    measure = divergence(config.divergence, **config.divergence_parameters)
    shared = {"temperature": config.temperature, "gold_weight": config.gold_weight}
    if config.method == "kd":
        return OutputDivergence(measure, scale_by_temperature_squared=config.scale_by_temperature_squared, **shared)
    if config.method in ALIGNMENTS:
        assert bridge is not None, f"{config.method} needs the bridge between the two tokenizers"
        return _aligned(config, student, teacher, bridge)
    d, d_teacher = width(student), width(teacher)
    if config.method == "dskd":
        return DualSpaceObjective(DualSpace(d, d_teacher), measure, **shared)
    spaces = CrossModelAttention(
        d, d_teacher, embedding_width(student), embedding_width(teacher), published=config.published
    )
    return CrossModelObjective(spaces, measure, **shared)


def explained_objective(
    recipe: Recipe, student: Any, teacher: Any = None, bridge: CrossTokenizer | None = None
) -> Objective:
    """The objective of the arm `explained`: cross-entropy, or `distil.method` beside it where `tasks.logits` says so.

    The weights of the tasks come with the rows (`Batch.weights`), so each method weighs them, token by token.

    Args:
        recipe: with a section `tasks`.
        student: the student's model.
        teacher: the teacher's model; needed with `tasks.logits`.
        bridge: between the two tokenizers, as `bridge` makes it.

    Raises:
        ConfigError: `tasks.logits` without a teacher whose logits can be read.
    """
    assert recipe.tasks is not None, "the recipe has no section `tasks`"
    if not recipe.tasks.logits:
        return gold_objective()
    if teacher is None:
        raise ConfigError(
            "tasks.logits needs a teacher whose logits can be read",
            hint="name one as `teacher`, or tasks.logits: false",
        )
    return objective(recipe.distil, student, teacher, bridge)


def _aligned(config: DistilConfig, student: Any, teacher: Any, bridge: CrossTokenizer) -> Objective:
    """An objective that compares aligned tokens of two vocabularies."""
    measure = divergence(config.divergence, **config.divergence_parameters)
    shared = {"temperature": config.temperature, "gold_weight": config.gold_weight}
    ours, theirs = head_of(student), head_of(teacher)
    exact = torch.from_numpy(bridge.vocabulary.exact)
    # A tokenizer may know more tokens than the model has columns.
    exact = exact.masked_fill(exact >= len(ours.weight), -1)[: len(theirs.weight)]
    if config.method == "uld":
        return SortedProbabilities(exact, **shared)
    if config.method == "byte_aligned":
        beta = config.divergence_parameters.get("beta", _BETAS[config.divergence])
        return ByteAligned(exact, beta=beta, **shared)
    if config.method == "min_edit":
        nearest = torch.from_numpy(bridge.vocabulary.nearest)[: len(theirs.weight)]
        squared = config.scale_by_temperature_squared
        columns = len(ours.weight)
        return MinEdit(measure, nearest, columns, exact, scale_by_temperature_squared=squared, **shared)
    spaces = DualSpaceV2(
        ours.weight,
        theirs.weight,
        shared_columns(exact),
        scale=theirs.scale / ours.scale,
        agreement_threshold=config.agreement_threshold,
    )
    return DualSpaceV2Objective(spaces, measure, **shared)


def _check_options(config: DistilConfig) -> None:
    """Refuse what does not apply to the method.

    Raises:
        ConfigError: a divergence that the method has no use for, or τ² where it is not published with it.
    """
    method, name = config.method, config.divergence
    if config.scale_by_temperature_squared and method not in ("kd", "min_edit"):
        raise ConfigError(
            f"distil.scale_by_temperature_squared does not apply to {method}",
            hint="it is published without the τ² factor; leave it off",
        )
    if method == "uld" and name != "forward_kl":
        raise ConfigError(
            "distil.divergence does not apply to uld, which compares sorted probabilities", hint="leave it out"
        )
    if method == "byte_aligned" and name not in _BETAS:
        raise ConfigError(
            f"byte_aligned knows the generalised Jensen–Shannon divergence, not {name}",
            hint="distil.divergence: js, forward_kl, reverse_kl, or generalized_js with its parameter beta",
        )
    if method == "min_edit" and name in ("reverse_kl", "adaptive_kl"):
        raise ConfigError(
            f"min_edit cannot use {name}: the mapped teacher rules tokens out, which makes it infinite",
            hint="distil.divergence: forward_kl, js, skew_forward_kl, skew_reverse_kl or total_variation",
        )


def learns_from_signal(recipe: Recipe) -> bool:
    """Whether some arm reads the teacher's logits or states, so that the pair has to fit the method."""
    return recipe.tasks is None or bool(recipe.signal_arms)


def reads_logits(recipe: Recipe) -> bool:
    """Whether some arm reads the teacher's signal of the very answers that it learns.

    An arm that learns texts of tasks reads it too with `tasks.logits`, and may do with two models that speak
    differently.
    """
    return any(arm.reads_signal for arm in recipe.trained_arms)


def width(model: Any) -> int:
    """Width of the states that enter a model's head."""
    return base_model(model).get_output_embeddings().weight.shape[1]


def embedding_width(model: Any) -> int:
    """Width of a model's token embeddings."""
    return base_model(model).get_input_embeddings().weight.shape[1]


def check_pair(
    recipe: Recipe, student: Template, teacher: Template, columns: tuple[int | None, int | None] = (None, None)
) -> None:
    """Compare what the method needs with what the pair can give, before any weight is loaded.

    Args:
        recipe: names the method.
        student: the student's tokenizer and template.
        teacher: the teacher's.
        columns: of the student's head and of the teacher's, where their configs tell.

    Raises:
        ConfigError: unknown divergence or parameter, or an option that does not apply to the method.
        ModelError: the method aligns tokens, and a tokenizer does not tell where they stand; or the two templates
            make different things of one answer.
        VocabularyMismatch: the method compares token by token and the vocabularies differ.
    """
    method = recipe.distil.method
    divergence(recipe.distil.divergence, **recipe.distil.divergence_parameters)
    _check_options(recipe.distil)
    if Need.ALIGNMENT in NEEDS[method]:
        for template in (student, teacher):
            description(template.tokenizer)
    found = judge(method, TokenizerPair.of(student, teacher, columns))
    if found.cause == "vocabulary":
        raise VocabularyMismatch(f"distil.method {method} {found.why}", hint=found.hint)
    # A recipe that only learns from texts may have the two speak differently.
    if found.verdict == "unsound" and reads_logits(recipe):
        raise ModelError(f"distil.method {method} cannot be used: {found.why}", hint=found.hint)
