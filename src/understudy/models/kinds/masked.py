"""Encoders that read text with holes: what pretraining on plain text opens them as; they answer nothing."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForMaskedLM,
)

from understudy.errors import ModelError
from understudy.models.decoding import Generated
from understudy.models.head import base_model
from understudy.models.kinds.choosing import ChoosingKind
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.types import Example, Tokens


class Masked(ChoosingKind):
    """BERT, RoBERTa, DeBERTa and kin with their head over the vocabulary."""

    name = "masked"
    title = "encoder that fills holes"
    pipeline_tag = "fill-mask"
    peft_task = "FEATURE_EXTRACTION"
    suffix = "ForMaskedLM"
    mapping = MODEL_FOR_MASKED_LM_MAPPING
    auto = AutoModelForMaskedLM

    def fits(self, architecture: Any) -> bool:
        """Never by itself: whoever brings such weights wants another head on them, and says which by `kind`."""
        return getattr(architecture, "understudy_fills_holes", False)

    def config_fields(self, config: Any, architecture: Any, source: str) -> dict[str, Any]:
        """See the base class: a mark for the time of pretraining."""
        return {"understudy_fills_holes": True}

    def candidate_logits(self, model: nn.Module, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """See the base class; the candidates of a hole are the vocabulary."""
        logits = base_model(model)(**tokens["inputs"], return_dict=True).logits[tokens["target_mask"]]
        return logits, torch.ones_like(logits, dtype=torch.bool)

    def read(self, tokenizer: ExampleTokenizer, example: Example) -> TokenizedExample:
        """Nothing.

        Raises:
            ModelError: always.
        """
        raise ModelError(
            f"an {self.title} answers no questions",
            hint="name what its head is to be: kind: choice, classify, tag or span",
        )

    def answer(self, tokenizer: ExampleTokenizer, example: Example, logp: Tensor) -> Generated:
        """See `read`."""
        raise AssertionError("nothing is read, so nothing is answered")

    def prepare_to_save(self, model: Any, template: Any) -> None:
        """See the base class: the mark goes, for the weights get another head."""
        del model.config.understudy_fills_holes
