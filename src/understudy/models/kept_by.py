"""The one figure of development rows by which a training goes: the best weights, `schedule: plateau` and `patience`."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from understudy.data.sessions import BUNDLE_F1, is_session
from understudy.models.head import base_model
from understudy.models.kinds import TextKind, kind_of
from understudy.types import Example


def kept_by(model: nn.Module, dev: Sequence[Example]) -> str:
    """Name of the metric, of which higher is better: that of the model's kind, of written bundles of sessions their F1.

    Args:
        model: that is trained.
        dev: its development rows.
    """
    kind = kind_of(base_model(model).config)
    if isinstance(kind, TextKind) and dev and all(map(is_session, dev)):
        return BUNDLE_F1
    return kind.kept_by
