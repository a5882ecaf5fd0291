"""A vector for a text from an encoder: the mean of its last hidden states, of length 1.

    e(x) = m / |m|,   m = Σ_s h_s / S

over the S tokens of the text, [CLS] and [SEP] among them (Reimers and Gurevych, 2019, section 3, MEAN). An encoder that
was not trained to compare texts gives such vectors all the same; how much they are worth is a question to the data. One
that was (`kind: embed`) gives its own: pooled and normalised as it was trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from understudy.errors import ModelError
from understudy.models.head import base_model
from understudy.models.kinds import kind_of
from understudy.models.kinds.embed import Embed, embed
from understudy.tokens.encoded import padded
from understudy.tokens.encoders import ReadText


@torch.no_grad()
def sentence_vectors(model: nn.Module, rows: Sequence[Sequence[int]], *, pad_id: int, batch_size: int) -> Tensor:
    """`[M, d]` vectors of M texts, float32, on the processor.

    Args:
        model: an encoder, whatever its head.
        rows: token ids of each text, none of them empty.
        pad_id: what pads; padding is masked.
        batch_size: texts at once.

    Raises:
        ModelError: the model is no encoder.
    """
    base = base_model(model)
    kind = kind_of(base.config)
    if not kind.embeds_texts:
        raise ModelError(
            f"a {kind.title} gives no embeddings", hint="an encoder does: kind: embed, choice, classify, tag or span"
        )
    if isinstance(kind, Embed):
        return _own_vectors(base, rows, pad_id=pad_id, batch_size=batch_size)
    backbone: Any = getattr(base, base.base_model_prefix)
    order = sorted(range(len(rows)), key=lambda n: -len(rows[n]))
    vectors: dict[int, Tensor] = {}
    training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            ids, mask = (side.to(base.device) for side in padded([list(rows[n]) for n in places], pad_id))
            states = backbone(input_ids=ids, attention_mask=mask, return_dict=True).last_hidden_state.float()
            sums = (states * mask[:, :, None]).sum(1)
            vectors |= zip(places, normalize(sums / mask.sum(1, keepdim=True), dim=-1).cpu(), strict=True)
    finally:
        model.train(training)
    return torch.stack([vectors[n] for n in range(len(rows))])


def _own_vectors(model: Any, rows: Sequence[Sequence[int]], *, pad_id: int, batch_size: int) -> Tensor:
    """The vectors of a model that was trained to make them."""
    training = model.training
    model.eval()
    try:
        return embed(model, [ReadText(list(row)) for row in rows], pad_id=pad_id, batch_size=batch_size)
    finally:
        model.train(training)
