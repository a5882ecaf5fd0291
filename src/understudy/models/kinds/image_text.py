"""Vision–language models: pictures and text are read, text is written; a causal model behind an eye."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from understudy.errors import ModelError
from understudy.models.decoding import Generated, decode
from understudy.models.head import base_model, head_of
from understudy.models.kinds.causal import Causal
from understudy.models.sources import pretrained
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.collate import move
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.pictures import PictureExample, PictureTemplate, PictureTokenizer
from understudy.tokens.template import Template
from understudy.types import Example


class ImageText(Causal):
    """LLaVA, SmolVLM, Idefics3 and kin."""

    name = "image_text"
    title = "vision–language model"
    pipeline_tag = "image-text-to-text"
    reads_plain_text = False

    def fits(self, architecture: PreTrainedConfig) -> bool:
        """Whether its config has a part that sees, and `AutoModelForImageTextToText` opens it."""
        return (
            type(architecture) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
            and hasattr(architecture, "vision_config")
            and not architecture.is_encoder_decoder
        )

    def auto_class(self, architecture: PreTrainedConfig, name: str) -> Any:
        """`AutoModelForImageTextToText`.

        Raises:
            ModelError: the model sees nothing.
        """
        if not self.fits(architecture):
            raise ModelError(
                f"{name} ({architecture.model_type}) cannot be a {self.title}",
                hint=f"take a model that reads pictures and text, or leave out `kind: {self.name}`",
            )
        return AutoModelForImageTextToText

    def template(
        self, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, architecture: PreTrainedConfig, source: str
    ) -> Template:
        """The tokenizer with the processor that lies beside it.

        Raises:
            ModelError: there is none, or a package is missing that it needs.
        """
        try:
            with pretrained(config, source) as (name, arguments):
                processor = AutoProcessor.from_pretrained(name, **arguments)
        except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"cannot load the processor of {source}: {reason}",
                hint="its folder needs processor_config.json or preprocessor_config.json",
            ) from error
        if not hasattr(processor, "image_processor"):
            raise ModelError(
                f"{source} has no image processor",
                hint="its folder needs processor_config.json or preprocessor_config.json",
            )
        return PictureTemplate(tokenizer, processor=processor, source=source, shown=config.images)

    def example_tokenizer(self, template: Template, data: DataConfig) -> ExampleTokenizer:
        """See the base class."""
        assert isinstance(template, PictureTemplate)
        return PictureTokenizer(template, data)

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
        """Greedy answers to questions with their pictures."""
        assert isinstance(tokenizer, PictureTokenizer), "the tokenizer belongs to another kind of model"
        reader = tokenizer.template.reader
        device = base_model(model).device
        return decode(
            self,
            model,
            tokenizer.template,
            [tokenizer.prompt_ids(example) for example in examples],
            max_new_tokens=tokenizer.data.max_answer_tokens,
            batch_size=batch_size,
            progress=progress,
            confidence=confidence,
            beside=lambda rows: move(reader.inputs([tokenizer.images(examples[row]) for row in rows]), device),
        )

    @torch.no_grad()
    def choice_scores(self, model: nn.Module, base: Any, rows: list[TokenizedExample], pad_id: int) -> list[float]:
        """Mean natural-log probability of each row's learned tokens."""
        tokens = move(PictureExample.batched(rows, pad_id), base.device)
        states = self.states(base, tokens["inputs"])[tokens["target_mask"]]
        logp = head_of(model).logits(states).float().log_softmax(dim=-1).gather(1, tokens["target_ids"][:, None])
        return [piece.mean().item() for piece in logp.squeeze(1).split(tokens["target_mask"].sum(dim=1).tolist())]
