"""Losses of a student against a teacher: pure functions and small modules, without batches or trainers."""

from understudy.losses.divergences import DIVERGENCES, divergence, register
from understudy.losses.fused import HeadLosses, fused_head, gold_cross_entropy, lm_head_divergence

__all__ = [
    "DIVERGENCES",
    "HeadLosses",
    "divergence",
    "fused_head",
    "gold_cross_entropy",
    "lm_head_divergence",
    "register",
]
