"""Objectives: weighted sums of losses, one class a method."""

from __future__ import annotations

from understudy.extensions import claim
from understudy.training.objectives.base import Objective, Result
from understudy.training.objectives.cross_entropy import CrossEntropy
from understudy.training.objectives.cross_vocabulary import (
    ByteAligned,
    DualSpaceV2Objective,
    MinEdit,
    SortedProbabilities,
)
from understudy.training.objectives.dual_space import CrossModelObjective, DualSpaceObjective
from understudy.training.objectives.output_divergence import OutputDivergence

OBJECTIVES: dict[str, type[Objective]] = {
    "kd": OutputDivergence,
    "dskd": DualSpaceObjective,
    "dskd_cma": CrossModelObjective,
    "dskd_v2": DualSpaceV2Objective,
    "min_edit": MinEdit,
    "uld": SortedProbabilities,
    "byte_aligned": ByteAligned,
}
"""What each method of `recipe.METHODS` adds up."""


def register(method: str, objective: type[Objective]) -> None:
    """Say what a method of one's own adds up; its section is registered with `understudy.recipe.methods.register`.

    Raises:
        ConfigError: the method has an objective already.
    """
    claim("objective", method, OBJECTIVES)
    OBJECTIVES[method] = objective


__all__ = ["OBJECTIVES", "CrossEntropy", "Objective", "Result", "register"]
