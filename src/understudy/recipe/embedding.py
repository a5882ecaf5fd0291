"""The section `embedding` of a model: how an encoder makes one vector of a text, and how vectors are compared."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from understudy import bounds
from understudy.recipe.endpoint import Section

Pooling = Literal["mean", "cls"]


class EmbeddingConfig(Section):
    """Of `kind: embed`: vectors of texts (`understudy docs embeddings`). What is left out is read from the files that
    sentence-transformers puts beside a model; without any: mean, normalised, no prefixes.
    """

    pooling: Pooling | None = None
    """`mean` of the last hidden states of all tokens, or that of the first one (`cls`)."""
    normalize: bool | None = None
    """Whether vectors are given length 1, so that what compares them is the cosine."""
    query_prefix: str | None = None
    """Put before a query: `"query: "` of e5."""
    passage_prefix: str | None = None
    """Put before a passage: `"passage: "` of e5."""
    temperature: float = Field(default=0.05, gt=0, le=bounds.TEMPERATURE)
    """Divides similarities: the logit of a passage is its similarity to the query over it, in InfoNCE and in what a
    teacher says."""
