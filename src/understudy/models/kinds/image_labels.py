"""Models that give a picture one of `data.labels`: they see, and read no text at all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from understudy.errors import ModelError
from understudy.models.decoding import Generated
from understudy.models.head import base_model
from understudy.models.kinds.choosing import LabellingKind, option_answer
from understudy.models.sources import pretrained
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.image_labels import ImageLabelTemplate, ImageLabelTokenizer
from understudy.tokens.template import Template
from understudy.types import Example, Tokens


class ClassifyImages(LabellingKind):
    """ViT, ResNet, ConvNeXt and kin with a head that gives a picture one of `data.labels`."""

    name = "classify_images"
    title = "model that classifies pictures"
    pipeline_tag = "image-classification"
    kept_by = "macro_f1"
    peft_task = "SEQ_CLS"
    reads_text = False
    suffix = "ForImageClassification"
    mapping = MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    auto = AutoModelForImageClassification

    def auto_class(self, architecture: PreTrainedConfig, name: str) -> Any:
        """See the base class."""
        if type(architecture) not in self.mapping:
            raise ModelError(
                f"{name} ({architecture.model_type}) cannot be a {self.title}",
                hint=f"take a model that sees (ViT, ResNet, ConvNeXt …), or leave out `kind: {self.name}`",
            )
        return self.auto

    def template(
        self, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, architecture: PreTrainedConfig, source: str
    ) -> Template:
        """The image processor that lies beside the model.

        Raises:
            ModelError: there is none, a package is missing that it needs, or pictures are not to be shown.
        """
        if not config.images:
            raise ModelError(
                f"{source} reads nothing but pictures, and images: false keeps them from it",
                hint="leave out images, or take a model that reads text",
            )
        try:
            with pretrained(config, source) as (name, arguments):
                processor = AutoImageProcessor.from_pretrained(name, **arguments)
        except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(
                f"cannot load the image processor of {source}: {reason}",
                hint="its folder needs preprocessor_config.json",
            ) from error
        return ImageLabelTemplate(tokenizer, processor=processor, source=source)

    def example_tokenizer(self, template: Template, data: DataConfig) -> ExampleTokenizer:
        """See the base class."""
        assert isinstance(template, ImageLabelTemplate)
        return ImageLabelTokenizer(template, data)

    def candidate_logits(self, model: nn.Module, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """See the base class; every label is a candidate."""
        logits = base_model(model)(**tokens["inputs"], return_dict=True).logits
        return logits, torch.ones_like(logits, dtype=torch.bool)

    def answer(self, tokenizer: ExampleTokenizer, example: Example, logp: Tensor) -> Generated:
        """See the base class."""
        return option_answer(tokenizer.data.labels, logp[0], own=example.choices == tokenizer.data.labels)
