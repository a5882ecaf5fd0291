"""Losses of a student against a teacher: pure functions and small modules, without batches or trainers."""

from understudy.losses.deviations import Deviations
from understudy.losses.divergences import DIVERGENCES, Traits, declare, divergence, register, traits
from understudy.losses.dskd import CrossModelAttention, DualSpace, DualSpaceLosses, TokenViews
from understudy.losses.fused import HeadLosses, fused_head, gold_cross_entropy, head_losses, lm_head_divergence
from understudy.losses.heads import Head, HeadStates
from understudy.losses.passes import Pass, Passes, run_passes
from understudy.losses.requests import HeadTerms

__all__ = [
    "DIVERGENCES",
    "CrossModelAttention",
    "Deviations",
    "DualSpace",
    "DualSpaceLosses",
    "Head",
    "HeadLosses",
    "HeadStates",
    "HeadTerms",
    "Pass",
    "Passes",
    "TokenViews",
    "Traits",
    "declare",
    "divergence",
    "fused_head",
    "gold_cross_entropy",
    "head_losses",
    "lm_head_divergence",
    "register",
    "run_passes",
    "traits",
]
