"""Causal models: prompt and answer are one row, and every position foresees the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoModelForCausalLM,
    PreTrainedConfig,
)

from understudy.errors import ModelError
from understudy.models.kinds.text import TextKind
from understudy.tokens.encoded import TokenizedExample, padded
from understudy.tokens.template import Template


class Causal(TextKind):
    """Llama, Qwen, GPT-2 and kin."""

    name = "causal"
    title = "causal model"
    pipeline_tag = "text-generation"
    peft_task = "CAUSAL_LM"
    reads_plain_text = True
    pads_left: ClassVar[bool] = True

    def fits(self, architecture: PreTrainedConfig) -> bool:
        """Whether it has no encoder of its own."""
        return not architecture.is_encoder_decoder

    def auto_class(self, architecture: PreTrainedConfig, name: str) -> Any:
        """`AutoModelForCausalLM`.

        Raises:
            ModelError: the model only reads (BERT and kin). `transformers` would open it as a language model whose
                positions all see each other, so that it learns to copy what it should foresee.
        """
        kind = type(architecture)
        reads = kind in MODEL_FOR_MASKED_LM_MAPPING and (
            kind not in MODEL_FOR_CAUSAL_LM_MAPPING or not getattr(architecture, "is_decoder", False)
        )
        if reads:
            raise ModelError(
                f"{name} ({architecture.model_type}) is an encoder: it reads text and writes none",
                hint="take a causal model (Llama, Qwen, GPT-2 …) or an encoder–decoder (T5, BART …); "
                "where answers stand in a context, `kind: span` lets an encoder point at them",
            )
        return AutoModelForCausalLM

    def states(self, base: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """`[B, S, d]` what the backbone gives."""
        backbone = getattr(base, base.base_model_prefix)
        return backbone(**inputs, use_cache=False, return_dict=True).last_hidden_state

    def embedded(self, base: Any, inputs: Mapping[str, Tensor], mask: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, d]` embeddings of the tokens that predict, and of the target tokens."""
        table = base.get_input_embeddings()
        return table(inputs["input_ids"][mask]), table(targets)

    def positions(self, prompt: int, answer: int) -> tuple[int, int]:
        """Both sides in a row."""
        return prompt + answer, 0

    def layout(
        self, template: Template, prompts: list[list[int]], prefixes: list[list[int]]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """The beginning of an answer is a longer prompt."""
        assert not template.start_ids, "the template belongs to another model"
        return [prompt + prefix for prompt, prefix in zip(prompts, prefixes, strict=True)], [[] for _ in prompts]

    def read_ids(self, row: TokenizedExample) -> list[int]:
        """Prompt and answer."""
        return row.ids

    def choice_scores(self, model: nn.Module, base: Any, rows: list[TokenizedExample], pad_id: int) -> list[float]:
        """Mean natural-log probability of each row's learned tokens."""
        device = base.device
        lengths = torch.tensor([len(row.learned_ids) for row in rows], device=device)
        tail = int(lengths.max())
        # Padded on the left, so that every choice ends in the last column and only the tail's logits are needed.
        ids, mask = (side.to(device) for side in padded([row.ids for row in rows], pad_id, left=True))
        positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
        logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=tail + 1).logits
        logp = logits[:, :-1].float().log_softmax(dim=-1).gather(2, ids[:, -tail:, None]).squeeze(2)
        kept = torch.arange(tail, device=device)[None, :] >= tail - lengths[:, None]
        return ((logp * kept).sum(dim=1) / lengths).tolist()
