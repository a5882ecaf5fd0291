"""The sections of a recipe about models and their training."""

from __future__ import annotations

import math
from typing import Any, Literal, Self

from pydantic import Field, field_validator

from understudy import bounds
from understudy.recipe.embedding import EmbeddingConfig
from understudy.recipe.endpoint import Section

Dtype = Literal["auto", "float32", "bfloat16", "float16"]

LEARNING_RATES = ((50e6, 5e-4, 1e-3), (500e6, 1e-4, 5e-4), (20e9, 2e-5, 2e-4), (math.inf, 1e-5, 1e-4))
"""(parameters below, peak for all weights, peak for adapters): where a recipe names none.

Habits of the field, to start from: 2e-4 up to 13 billion parameters and 1e-4 from 33 on are QLoRA's (Dettmers et al.,
2023), 1e-5 to 2e-5 for all weights are common in instruction tuning. None was tuned here.
"""


def default_learning_rate(num_parameters: int, *, lora: bool) -> float:
    """Peak learning rate of a model where the recipe names none.

    Args:
        num_parameters: of the model, adapters not counted; 0 for one that starts from random weights.
        lora: whether adapters are trained instead of all weights.
    """
    return next(adapters if lora else full for below, full, adapters in LEARNING_RATES if num_parameters < below)


class LoraConfig(Section):
    """Low-rank adapters instead of full fine-tuning (Hu et al., 2021)."""

    r: int = Field(default=16, gt=0, le=bounds.RANK)
    """Rank."""
    lora_alpha: float | None = Field(default=None, gt=0, le=bounds.FACTOR)
    """Scale numerator; default: 2 × r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    target_modules: str | list[str] = "all-linear"
    """Which layers get an adapter."""
    quantize_4bit: bool = False
    """QLoRA: hold the frozen weights in 4 bits while training (extra `understudy-distil[qlora]`)."""


class TrainConfig(Section):
    """One stage of training."""

    epochs: float = Field(default=2.0, gt=0, le=bounds.EPOCHS)
    """Passes over the data, unless `steps` is given."""
    steps: int | None = Field(default=None, gt=0, le=bounds.ROWS)
    """Optimiser steps; wins over `epochs`."""
    batch_size: int = Field(default=32, gt=0, le=bounds.BATCH)
    """Rows per optimiser step and process, accumulation included."""
    micro_batch_size: int | None = Field(default=None, gt=0, le=bounds.BATCH)
    """Rows per forward; must divide `batch_size`. A step's rows are cut by length, so it also saves padding."""
    learning_rate: float | None = Field(default=None, gt=0, le=bounds.RATE)
    """Peak learning rate. Default by size: 5e-4 (with `lora` 1e-3) below 50 million parameters and with `init: fresh`;
    1e-4 (5e-4) below 500 million; 2e-5 (2e-4) below 20 billion; 1e-5 (1e-4) above."""
    schedule: Literal["cosine", "linear", "constant", "plateau"] = "cosine"
    """Shape of the learning rate after warm-up. `plateau`: no warm-up, constant, halved when `eval_every` has brought
    no better development score twice in a row."""
    warmup: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps that warm up."""
    weight_decay: float = Field(default=0.01, ge=0, le=bounds.FACTOR)
    """AdamW weight decay."""
    max_grad_norm: float = Field(default=1.0, gt=0, le=bounds.NORM)
    """Gradients are clipped to this norm."""
    eval_every: int | None = Field(default=None, gt=0, le=bounds.ROWS)
    """Answer the development rows every so many steps, keep the (last) best weights; default: 3 times a run. They
    go by ROUGE-L of written answers, F1 of bundles, of encoders by the metric of their kind."""
    eval_rows: int = Field(default=200, gt=0, le=bounds.ROWS)
    """How many development rows to answer each time."""
    patience: int | None = Field(default=None, gt=0, le=bounds.ROWS)
    """Stop when so many evaluations in a row have brought no better development score; default: never."""
    save_every: int | None = Field(default=None, gt=0, le=bounds.ROWS)
    """Write a checkpoint every so many steps; default: as often as it evaluates."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third more time."""
    lora: LoraConfig | None = None
    """Train adapters instead of all weights."""

    def with_learning_rate(self, num_parameters: int) -> Self:
        """The stage with a learning rate: its own, or the default for a model of so many parameters."""
        rate = self.learning_rate or default_learning_rate(num_parameters, lora=self.lora is not None)
        return self.model_copy(update={"learning_rate": rate})


class PretrainConfig(TrainConfig):
    """Continued pretraining on raw text of the domain: the next token of every position is learned."""

    source: str
    """A file (.txt, .md: one document; .jsonl: one a line) or a folder of such files."""
    text_field: str = "text"
    """The field that holds the text in a .jsonl file."""
    max_length: int | None = Field(default=None, gt=1, le=bounds.TOKENS)
    """Documents are set one behind the other and cut into rows of so many tokens; default: `data.max_length`."""


class ModelConfig(Section):
    """A model and what is done to it before distillation: causal, encoder-decoder, or an encoder."""

    model: str
    """Hub id, folder, `.gguf` file, or `embedded:NAME` (`understudy docs embedded` has the names)."""
    tokenizer: str | None = None
    """A tokenizer of its own, where it does not lie beside the model, or in its GGUF file."""
    kind: str | None = None
    """`causal`, `seq2seq`, `image_text` (reads pictures and text, writes text), `speech` (writes down
    recordings); an encoder that points at its answers
    (`span`), compares options (`choice`), gives a text a label (`classify`), each word one (`tag`) or a picture one
    (`classify_images`), or makes vectors of queries and passages (`embed`); or a causal model that tells how likely
    each option is (`scorer`); default: what its config tells."""
    labels: tuple[str, ...] = ()
    """Of `classify`, `tag` and `classify_images`: `data.labels`, from where it comes by itself."""
    images: bool = True
    """Whether a model that reads pictures is shown those of a row (`images`); false: the text alone."""
    embedding: EmbeddingConfig | None = None
    """Of `embed`: how it makes a vector of a text. A student that is cut from its teacher has the teacher's."""
    init: Literal["pretrained", "fresh"] = "pretrained"
    """`fresh` takes the architecture and the tokenizer, but random weights."""
    config: dict[str, Any] = Field(default_factory=dict)
    """Fields of the architecture to change, with `init: fresh` only, for example `{num_hidden_layers: 2}`; of its parts
    under their names: `{text_config: {num_hidden_layers: 2}}`."""
    dtype: Dtype = "auto"
    """Floating-point type of the weights; auto: bfloat16 on a GPU that has it, else float32."""
    chat_template: str | None = None
    """A Jinja chat template that replaces the tokenizer's own."""
    resize_embeddings: bool = False
    """Give the model an embedding for each token of a tokenizer that has more: the mean of its own. With LoRA they stay
    that mean. Without it a tokenizer whose tokens the model does not have is refused."""
    revision: str | None = None
    """Revision of a hub id."""
    trust_remote_code: bool = False
    """Run code that comes with a hub model. Leave it off unless you have read that code."""
    seed: int | None = Field(default=None, ge=0, le=bounds.SEED)
    """Seed of its own training before distillation, so that runs of several seeds share it; default: the run's seed."""
    pretrain: PretrainConfig | None = None
    """Continued pretraining on raw text of the domain, before anything else."""
    sft: TrainConfig | None = None
    """Supervised fine-tuning on the gold answers before distillation."""

    @field_validator("config")
    @classmethod
    def _buildable(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Numbers of an architecture that could be built."""
        for name, value in config.items():
            if isinstance(value, dict):
                cls._buildable(value)
            if isinstance(value, int | float) and not -bounds.ARCHITECTURE <= value <= bounds.ARCHITECTURE:
                raise ValueError(f"{name}: no architecture has a number beyond {bounds.ARCHITECTURE:,}")
        return config

    @property
    def described_by(self) -> str:
        """Where tokenizer and architecture are read, before any weight is."""
        return self.model

    def seed_or(self, seed: int) -> int:
        """The seed of the model's own training and of its fresh weights: its own, else that of the run."""
        return seed if self.seed is None else self.seed


class SeqkdConfig(Section):
    """Sequence-level distillation: supervised fine-tuning on the teacher's own answers (Kim and Rush, 2016)."""

    keep_gold: bool = True
    """Learn the gold answer where there is one; the teacher answers only the rest. All gold: seqkd is sft."""
    keep_unfinished: bool = False
    """Keep answers that reached `data.max_answer_tokens` (learned without a stop token); else drop and count them."""
