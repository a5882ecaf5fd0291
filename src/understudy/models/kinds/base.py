"""What a kind of model is to the house: how it is opened, what it reads, says and answers, how it is saved."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from understudy.models.decoding import Generated
from understudy.models.output import Output
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.template import Template
from understudy.types import Example, Gives, Tokens


class ModelKind(ABC):
    """A kind of model, declared once; `register` makes the rest of the house know it.

    Attributes:
        name: how it is called in the registry.
        title: how it is called in a message.
        pipeline_tag: the hub's name of its task, for the model card.
        peft_task: what `peft` calls its task.
        gives: what a teacher of this kind says of a target.
        kept_by: the metric of development rows by which weights are kept; higher is better.
        reads_prompts: whether what it reads is the rendered conversation, all of it.
        reads_plain_text: whether it can be pretrained on plain text, token by token.
        reads_with_holes: whether it can be pretrained on plain text in which tokens are hidden.
        reads_text: whether it has a tokenizer; a model that only sees has none.
        makes_head: whether weights without a head of this kind, or with another, get a new one.
        embeds_texts: whether the mean of its last hidden states can stand for a text: encoders alone.
        searches: whether its answers are found among the passages of all rows that it is given together.
        keeps_ties: whether its config's `tie_word_embeddings` says more than that the head is the embedding.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    pipeline_tag: ClassVar[str]
    peft_task: ClassVar[str]
    gives: ClassVar[Gives]
    kept_by: ClassVar[str] = "rougeL"
    reads_prompts: ClassVar[bool] = False
    reads_plain_text: ClassVar[bool] = False
    keeps_ties: ClassVar[bool] = False
    reads_with_holes: ClassVar[bool] = False
    reads_text: ClassVar[bool] = True
    makes_head: ClassVar[bool] = False
    embeds_texts: ClassVar[bool] = False
    searches: ClassVar[bool] = False

    @abstractmethod
    def fits(self, architecture: PreTrainedConfig) -> bool:
        """Whether a config is that of a model of this kind."""

    @abstractmethod
    def auto_class(self, architecture: PreTrainedConfig, name: str) -> Any:
        """The auto class of `transformers` that opens it.

        Raises:
            ModelError: the architecture cannot do what this kind does.
        """

    def config_fields(self, config: ModelConfig, architecture: PreTrainedConfig, source: str) -> dict[str, Any]:
        """Fields of its config that come from the recipe, whatever the weights' own config says.

        Raises:
            ModelError: the recipe says too little, or the model contradicts it.
        """
        return {}

    def template(
        self, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, architecture: PreTrainedConfig, source: str
    ) -> Template:
        """Its tokenizer made ready."""
        return Template(tokenizer)

    def example_tokenizer(self, template: Template, data: DataConfig) -> ExampleTokenizer:
        """What turns examples into its tokens."""
        return ExampleTokenizer(template, data)

    def has_room(self, data: DataConfig) -> bool:
        """Whether `data.max_length` leaves a prompt any token, the longest answer being written behind it."""
        return data.max_length > data.max_answer_tokens

    def longest_row(self, room: int, data: DataConfig) -> int:
        """The `data.max_length` by which no row takes more than `room` positions of what is read."""
        return room

    @abstractmethod
    def row_size(self, tokenizer: ExampleTokenizer, example: Example, *, answered: bool) -> tuple[int, int]:
        """Positions that an example takes: of what is read, and of what a decoder of its own writes.

        Args:
            tokenizer: of a model of this kind.
            example: the row.
            answered: whether the model answers it, so that an answer of `data.max_answer_tokens` counts in place of the
                row's own.

        Raises:
            DataError: the row does not fit into `data.max_length`.
        """

    @abstractmethod
    def output(self, model: nn.Module, tokens: Tokens, *, embeddings: bool = False) -> Output:
        """What a model says of the targets of a batch; see `models.forward`."""

    @abstractmethod
    def probe(self, model: PreTrainedModel, inputs: dict[str, Any], name: str) -> float:
        """Assert that `output` is what the model itself computes; the largest relative difference."""

    @abstractmethod
    def answers(
        self,
        model: nn.Module,
        tokenizer: ExampleTokenizer,
        examples: Sequence[Example],
        *,
        batch_size: int,
        progress: Callable[[int], None] | None = None,
        confidence: bool = False,
    ) -> list[Generated]:
        """The model's answer to each example, in order; with how sure it is of each, where that is asked for."""

    @abstractmethod
    def read_ids(self, row: TokenizedExample) -> list[int]:
        """What is read of a row at once; rows are sorted by its length."""

    @abstractmethod
    def choice_scores(self, model: nn.Module, base: Any, rows: list[TokenizedExample], pad_id: int) -> list[float]:
        """Mean natural-log probability of each row's targets."""

    def prepare_loaded(self, model: PreTrainedModel) -> None:
        """Set what is not read of a model that was just loaded: by default nothing."""
        return

    def prepare_to_save(self, model: PreTrainedModel, template: Template) -> None:
        """Set what goes into the model's folder beside weights and config: by default nothing."""
        return
