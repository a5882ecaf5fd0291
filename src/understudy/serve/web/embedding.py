"""Vectors of texts from a student that is an encoder, in OpenAI's form."""

from __future__ import annotations

import base64
from typing import Any

from torch import Tensor

from understudy.serve.pointing import PointingEngine
from understudy.serve.sides import Side
from understudy.serve.web.faults import ApiError
from understudy.serve.web.forms import EmbeddingRequest
from understudy.tokens.encoders import EncoderTemplate

ENDPOINT = "/v1/embeddings"


def embedder(side: Side) -> PointingEngine:
    """The engine of a model that gives vectors.

    Raises:
        ApiError: it gives none.
    """
    if side.pointer is None or not side.pointer.embeds:
        raise ApiError(
            400,
            f"{side.name} is no encoder and gives no embeddings; students of kind embed, choice, classify, tag or span "
            "do",
            "no_embeddings",
        )
    return side.pointer


def texts_of(side: Side, form: EmbeddingRequest) -> list[list[int]]:
    """Token ids of each text, as the encoder reads one text.

    Raises:
        ApiError: a text is empty or too long, an id is none of the model's, or other dimensions are wanted.
    """
    width = embedder(side).width
    if form.dimensions not in (None, width):
        raise ApiError(400, f"dimensions: the vectors of this model have {width:,}", "bad_dimensions")
    return [_ids(side, text, place) for place, text in enumerate(form.texts)]


def _ids(side: Side, text: str | list[int], place: int) -> list[int]:
    assert side.tokenizer is not None
    template, longest = side.tokenizer.template, side.tokenizer.data.max_length
    assert isinstance(template, EncoderTemplate)
    if isinstance(text, str):
        if not text.strip():
            raise ApiError(400, f"input: text {place} is empty", "empty_input")
        ids = template.read(text).ids
    else:
        ids, size = text, len(template.tokenizer)
        if max(ids) >= size:
            raise ApiError(400, f"input: token ids go from 0 to {size - 1:,}", "bad_token")
    if len(ids) > longest:
        raise ApiError(
            400,
            f"input: text {place} takes {len(ids):,} tokens, and this server reads {longest:,}",
            "context_length_exceeded",
        )
    return ids


def embeddings(form: EmbeddingRequest, model: str, vectors: Tensor, tokens: int) -> dict[str, Any]:
    """The answer to a request.

    Args:
        form: what was asked.
        model: as it was asked for.
        vectors: `[M, d]`.
        tokens: that were read.
    """
    array = vectors.numpy().astype("<f4")
    encoded = form.encoding_format == "base64"
    rows = [base64.b64encode(row.tobytes()).decode("ascii") if encoded else row.tolist() for row in array]
    return {
        "object": "list",
        "data": [{"object": "embedding", "index": place, "embedding": row} for place, row in enumerate(rows)],
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }
