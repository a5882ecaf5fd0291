"""Kinds of models, each declared once; what the rest of the house does with a model it does through its kind."""

from __future__ import annotations

from transformers import PreTrainedConfig

from understudy.errors import ModelError, unknown
from understudy.models.kinds.base import ModelKind
from understudy.models.kinds.causal import Causal
from understudy.models.kinds.choosing import Choice, Classify, Tag
from understudy.models.kinds.embed import Embed
from understudy.models.kinds.image_labels import ClassifyImages
from understudy.models.kinds.image_text import ImageText
from understudy.models.kinds.masked import Masked
from understudy.models.kinds.scorer import Scorer
from understudy.models.kinds.seq2seq import Seq2Seq
from understudy.models.kinds.span import Span
from understudy.models.kinds.speech import Speech
from understudy.models.kinds.text import TextKind

__all__ = ["KINDS", "ModelKind", "TextKind", "kind_named", "kind_of", "register"]

KINDS: dict[str, ModelKind] = {}


def register(kind: ModelKind) -> ModelKind:
    """Make a kind known; what was registered last is asked first whether a config is its own.

    Raises:
        ModelError: another kind has that name.
    """
    if kind.name in KINDS:
        raise ModelError(f"there is a kind of model {kind.name!r} already", hint="give it another name")
    KINDS[kind.name] = kind
    return kind


def kind_of(architecture: PreTrainedConfig) -> ModelKind:
    """The kind of a model, by its config."""
    return next(kind for kind in reversed(KINDS.values()) if kind.fits(architecture))


def kind_named(name: str) -> ModelKind:
    """The kind of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in KINDS:
        raise unknown("kind of model", name, KINDS)
    return KINDS[name]


for _kind in (
    Causal(),
    ImageText(),
    Seq2Seq(),
    Speech(),
    # Asked behind the heads: its mark stays in the config of a model that is given one.
    Embed(),
    Span(),
    Choice(),
    Classify(),
    Tag(),
    ClassifyImages(),
    Scorer(),
    Masked(),
):
    register(_kind)
