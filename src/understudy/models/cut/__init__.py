"""A student cut from its teacher: which blocks, channels, heads and neurons stay, and how well what is left begins."""

from understudy.models.cut.choice import Kept, check_shape, choose
from understudy.models.cut.cutting import cut_model, cut_shape
from understudy.models.cut.start import Start, start_of

__all__ = ["Kept", "Start", "check_shape", "choose", "cut_model", "cut_shape", "start_of"]
