"""What a kind of model is to the rest of the house: how it is opened, run up to its head, answered with and saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from understudy.recipe import ModelConfig
from understudy.tokens.template import Template, TokenizedExample


class ModelKind(ABC):
    """A kind of model, declared once; `register` makes the rest of the house know it.

    Attributes:
        name: how it is called in the registry.
        title: how it is called in a message.
        pipeline_tag: the hub's name of its task, for the model card.
        peft_task: what `peft` calls its task.
        reads_plain_text: whether it can be pretrained on plain text, token by token.
        pads_left: whether prompts are padded on the left when it answers.
        keeps_ties: whether its config's `tie_word_embeddings` says more than that the head is the embedding.
    """

    name: str
    title: str
    pipeline_tag: str
    peft_task: str
    reads_plain_text: bool = False
    pads_left: bool = False
    keeps_ties: bool = False

    @abstractmethod
    def fits(self, architecture: PreTrainedConfig) -> bool:
        """Whether a config is that of a model of this kind."""

    @abstractmethod
    def auto_class(self, architecture: PreTrainedConfig, name: str) -> Any:
        """The auto class of `transformers` that opens it.

        Raises:
            ModelError: the architecture cannot do what this kind does.
        """

    def template_fields(self, config: ModelConfig, architecture: PreTrainedConfig, source: str) -> dict[str, Any]:
        """What its `Template` must know beyond the tokenizer."""
        return {}

    @abstractmethod
    def states(self, base: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """`[B, S, d]` the last hidden states before the head."""

    @abstractmethod
    def embedded(self, base: Any, inputs: Mapping[str, Tensor], mask: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, d]` embeddings of the tokens that predict, and of the target tokens."""

    @abstractmethod
    def positions(self, prompt: int, answer: int) -> int:
        """Positions that a prompt and an answer of so many tokens take of `max_position_embeddings`."""

    @abstractmethod
    def layout(
        self, template: Template, prompts: list[list[int]], prefixes: list[list[int]]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """What the model reads of each prompt, and what its decoder has written already (a causal model: nothing)."""

    def decoder_arguments(self, template: Template, begun: list[list[int]], device: torch.device) -> dict[str, Any]:
        """Arguments of `generate` for what a decoder has written already."""
        return {}

    @abstractmethod
    def read_ids(self, row: TokenizedExample) -> list[int]:
        """What is read of a row at once; rows are sorted by its length."""

    @abstractmethod
    def choice_scores(self, model: nn.Module, base: Any, rows: list[TokenizedExample], pad_id: int) -> list[float]:
        """Mean natural-log probability of each row's learned tokens."""
