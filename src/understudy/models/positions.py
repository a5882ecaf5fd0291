"""How many positions a model knows; no weight is read.

Positions come in three ways. A *table* holds one vector each (learned: GPT-2, OPT, BERT, BART; or computed once:
Marian, GPT-J) and ends: behind its last entry a lookup fails. *Rotary* positions (RoPE) are computed and go on, yet
nothing was learned behind `max_position_embeddings`. Relative biases (T5), ALiBi (but MPT's) and state-space models
have no last position.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from understudy.models.architecture import architecture_of
from understudy.models.load import fresh_model, resolve
from understudy.recipe import ModelConfig

_DECLARED = re.compile(
    r"n_positions|n_ctx|max_seq_len|max_target_positions|max_(encoder_|decoder_)?position_embeddings"
)
_TABLES = ("wpe", "embed_positions", "position_embeddings", "positions_embed")
_BUFFERS = ("embed_positions", "pos_encoding")
_MARGIN = 16
"""Tables of some models give up a few entries (RoBERTa: those up to its pad token), and decoders begin with a few."""


@dataclass(frozen=True)
class Positions:
    """Where a model's positions end.

    Attributes:
        read: the last of what it reads: of a causal model prompt and answer, of an encoder–decoder the prompt; None:
            there is none.
        written: the last of what the decoder of an encoder–decoder writes, its start tokens included; None likewise.
        in_table: whether they are looked up in a table, so that a longer row fails; else they were only never learned.
    """

    read: int | None
    written: int | None
    in_table: bool


def positions_of(config: ModelConfig, longest: int) -> Positions | None:
    """Where the positions of a recipe's model end; None where they do not, or not before `longest`.

    The model is built without memory, for only its layers tell whether there is a table.

    Args:
        config: the recipe's section.
        longest: positions that anybody could want of it; a model that declares more is not built.
    """
    source = resolve(config.described_by)
    try:
        text = architecture_of(config, source).get_text_config()
        fields = {**text.to_dict(), **config.config, **config.config.get("text_config", {})}
        declared = [v for k, v in fields.items() if _DECLARED.fullmatch(k) and isinstance(v, int) and v > 0]
        if not declared or min(declared) >= longest + _MARGIN:
            return None
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = fresh_model(config, source, seed=0)
    except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError):
        return None  # What is missing is named when the weights are loaded.
    read, written = table_sizes(model)
    if read or written:
        return Positions(read, written, in_table=True)
    # Random weights have learned no position yet.
    learned = None if config.init == "fresh" else _learned_rotary(model.config.get_text_config())
    return Positions(learned, learned, in_table=False) if learned else None


def table_sizes(model: Any) -> tuple[int | None, int | None]:
    """Usable entries of the tables of positions: of what a model reads, and of what a decoder of its own writes."""
    text = model.config.get_text_config()
    if model.config.is_encoder_decoder:
        return _table_size(model.get_encoder(), text), _table_size(model.get_decoder(), text)
    return _table_size(model, text), None


def _table_size(side: nn.Module, text: Any) -> int | None:
    """Positions that the smallest table of a model, or of a side of it, holds."""
    layers = [layer for layer in _of_text(side.named_modules(), _TABLES) if isinstance(layer, nn.Embedding)]
    # One that has `make_weight` grows with what it reads (FSMT).
    sizes = [_usable(layer) for layer in layers if not hasattr(layer, "make_weight")]
    sizes += [len(table) for table in _of_text(side.named_buffers(), _BUFFERS)]
    if text.model_type == "mpt":  # Its ALiBi is made for so many positions.
        sizes.append(text.max_seq_len)
    declared = getattr(text, "max_position_embeddings", None)
    # Nystromformer's table has entries that no position is given.
    return min(*sizes, declared or max(sizes)) if sizes else None


def _of_text(named: Iterable[tuple[str, Any]], names: Sequence[str]) -> list[Any]:
    """What bears one of the names and does not belong to a part that sees or hears."""
    own = [(path, value) for path, value in named if not re.search(r"vision|visual|audio", path)]
    return [value for path, value in own if path.rpartition(".")[2] in names]


def _usable(table: nn.Embedding) -> int:
    """Entries that positions can take: some tables begin with a few for padding."""
    first: Any = getattr(table, "offset", None)
    if first is None:
        first = 0 if table.padding_idx is None else table.padding_idx + 1
    return table.num_embeddings - first


def _learned_rotary(text: Any) -> int | None:
    """Positions up to which rotary ones were learned, a factor by which they are stretched included."""
    rope = getattr(text, "rope_parameters", None) or getattr(text, "rope_scaling", None) or {}
    if getattr(text, "alibi", False) or not (rope or hasattr(text, "rope_theta")):
        return None
    declared = getattr(text, "max_position_embeddings", None)
    # Of other ways to stretch (llama3, longrope) `max_position_embeddings` has the factor in it.
    if declared and rope.get("rope_type", rope.get("type")) in ("linear", "dynamic", "yarn"):
        origin = rope.get("original_max_position_embeddings") or declared
        return max(declared, int(origin * (rope.get("factor") or 1)))
    return declared
