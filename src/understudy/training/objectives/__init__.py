"""Objectives: weighted sums of losses, one class a method."""

from __future__ import annotations

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

__all__ = ["OBJECTIVES", "CrossEntropy", "Objective", "Result"]
