"""A causal model that is asked how likely each option is as an answer: a teacher for encoders that compare options.

The logit of an option is the mean log-probability of its tokens, the stop token among them: long options are not
punished for their length (Brown et al., 2020, section 2.4, normalise so too).
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from understudy.losses.divergences import forward_kl
from understudy.losses.fused import head_losses
from understudy.losses.requests import HeadTerms
from understudy.losses.token_logp import token_logp
from understudy.models.decoding import Generated
from understudy.models.head import base_model, head_of
from understudy.models.kinds.causal import Causal
from understudy.models.kinds.choosing import ChoosingKind, option_answer, scattered
from understudy.models.output import VocabularyOutput
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.options import OptionsExample, OptionTokenizer, ScoredOptionTokenizer, ScoringTemplate
from understudy.tokens.template import Template
from understudy.types import Example, Tokens

MARK = "understudy_scores_options"
"""The field of a config by which such a model is known again: its weights are those of any causal model."""


class Scorer(ChoosingKind):
    """Llama, Qwen, GPT-2 and kin as judges of options."""

    name = "scorer"
    title = "causal model that scores options"
    pipeline_tag = "text-generation"
    peft_task = "CAUSAL_LM"
    kept_by = "accuracy"
    reads_prompts: ClassVar[bool] = True
    makes_head: ClassVar[bool] = False
    causal: ClassVar[Causal] = Causal()

    def fits(self, architecture: PreTrainedConfig) -> bool:
        """Whether it was opened as one before."""
        return bool(getattr(architecture, MARK, False))

    def has_room(self, data: DataConfig) -> bool:
        """See the base class: options take room as answers do."""
        return self.causal.has_room(data)

    def auto_class(self, architecture: PreTrainedConfig, name: str) -> Any:
        """That of causal models."""
        return self.causal.auto_class(architecture, name)

    def config_fields(self, config: ModelConfig, architecture: PreTrainedConfig, source: str) -> dict[str, Any]:
        """See the base class: the mark."""
        return {MARK: True}

    def template(
        self, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, architecture: PreTrainedConfig, source: str
    ) -> Template:
        """See the base class."""
        return ScoringTemplate(tokenizer)

    def example_tokenizer(self, template: Template, data: DataConfig) -> ExampleTokenizer:
        """See the base class."""
        return ScoredOptionTokenizer(template, data)

    def read(self, tokenizer: ExampleTokenizer, example: Example) -> OptionsExample:
        """See the base class."""
        assert isinstance(tokenizer, OptionTokenizer), "the tokenizer belongs to another kind of model"
        return tokenizer.read(example)

    def row_size(self, tokenizer: ExampleTokenizer, example: Example, *, answered: bool) -> tuple[int, int]:
        """See the base class: the longest option behind its question."""
        assert isinstance(tokenizer, ScoredOptionTokenizer), "the tokenizer belongs to another kind of model"
        return max(len(row.ids) - 1 for row in tokenizer.read(example).answers), 0

    def candidate_logits(self, model: nn.Module, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """See the base class; log-probabilities are taken without logits in full."""
        candidates = tokens["candidates"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        mask, ids = tokens["option_mask"], tokens["option_ids"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        states = self.causal.states(base_model(model), tokens["inputs"])[mask]
        lengths = mask.sum(1)
        logp = _logp(VocabularyOutput(ids, tuple(lengths.tolist()), states, head_of(model)))
        rows = torch.arange(len(lengths), device=mask.device).repeat_interleave(lengths)
        sums = logp.new_zeros(len(lengths)).index_add(0, rows, logp)
        return scattered(sums / lengths, candidates), candidates

    def probe(self, model: PreTrainedModel, inputs: dict[str, Tensor], name: str) -> float:
        """See the base class: as of any causal model."""
        return self.causal.probe(model, inputs, name)

    def answer(self, tokenizer: ExampleTokenizer, example: Example, logp: Tensor) -> Generated:
        """See the base class."""
        assert isinstance(tokenizer, OptionTokenizer)
        return option_answer(tokenizer.options(example), logp[0], own=bool(example.choices))

    def prepare_to_save(self, model: PreTrainedModel, template: Template) -> None:
        """See the base class: as of any causal model."""
        self.causal.prepare_to_save(model, template)


def _logp(output: VocabularyOutput) -> Tensor:
    """`[N]` log-probabilities of the target tokens."""
    if torch.is_grad_enabled() and output.hidden.requires_grad:
        return token_logp(output.states, output.target_ids)
    ones = torch.ones_like(output.target_ids, dtype=torch.float32)
    losses = head_losses(output.states, None, HeadTerms(forward_kl, gold_ids=output.target_ids, gold_weights=ones))
    assert losses.gold is not None
    return -losses.gold
