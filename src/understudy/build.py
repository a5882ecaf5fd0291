"""From a recipe to live objects: the only place where a string picks a class."""

from __future__ import annotations

from typing import Any

from understudy.data.template import Template, vocabulary_difference
from understudy.errors import ConfigError, VocabularyMismatch
from understudy.losses.divergences import divergence
from understudy.losses.dskd import CrossModelAttention, DualSpace
from understudy.models.forward import base_model
from understudy.recipe import DistilConfig, Recipe
from understudy.training.objective import (
    CrossModelObjective,
    DualSpaceObjective,
    Gold,
    Need,
    Objective,
    OutputDivergence,
)

NEEDS: dict[str, Need] = {
    "kd": OutputDivergence.needs,
    "dskd": DualSpaceObjective.needs,
    "dskd_cma": CrossModelObjective.needs,
}


def gold_objective() -> Objective:
    """The objective of supervised fine-tuning."""
    return Gold()


def objective(config: DistilConfig, student: Any, teacher: Any) -> Objective:
    """The objective a recipe names, with projectors that fit the two models.

    Args:
        config: the `distil` section.
        student: the student's model.
        teacher: the teacher's model.
    """
    measure = divergence(config.divergence, **config.divergence_parameters)
    shared = {"temperature": config.temperature, "gold_weight": config.gold_weight}
    if config.method == "kd":
        return OutputDivergence(measure, scale_by_temperature_squared=config.scale_by_temperature_squared, **shared)
    if config.scale_by_temperature_squared:
        raise ConfigError(
            f"distil.scale_by_temperature_squared does not apply to {config.method}",
            hint="DSKD is published without the τ² factor; leave it off",
        )
    d, d_teacher = width(student), width(teacher)
    if config.method == "dskd":
        return DualSpaceObjective(DualSpace(d, d_teacher), measure, **shared)
    spaces = CrossModelAttention(d, d_teacher, embedding_width(student), embedding_width(teacher))
    return CrossModelObjective(spaces, measure, **shared)


def width(model: Any) -> int:
    """Width of the states that enter a model's head."""
    return base_model(model).get_output_embeddings().weight.shape[1]


def embedding_width(model: Any) -> int:
    """Width of a model's token embeddings."""
    return base_model(model).get_input_embeddings().weight.shape[1]


def check_pair(recipe: Recipe, student: Template, teacher: Template) -> None:
    """Compare what the method needs with what the pair can give, before any weight is loaded.

    Raises:
        ConfigError: unknown divergence or parameter.
        VocabularyMismatch: the method compares token by token and the vocabularies differ.
    """
    divergence(recipe.distil.divergence, **recipe.distil.divergence_parameters)
    if Need.SAME_VOCABULARY not in NEEDS[recipe.distil.method]:
        return
    difference = vocabulary_difference(student.tokenizer, teacher.tokenizer)
    if difference:
        raise VocabularyMismatch(
            f"distil.method {recipe.distil.method} needs one vocabulary, and the two differ: {difference}",
            hint="distil.method=dskd_cma works across vocabularies; or take a student of the teacher's family",
        )
