"""Kinds of models that write text: targets are tokens of a vocabulary, under a head that turns states into logits."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, PreTrainedModel

from understudy.errors import ModelError
from understudy.losses.deviations import Deviations
from understudy.models.decoding import Generated, decode
from understudy.models.head import base_model, head_of
from understudy.models.kinds.base import ModelKind
from understudy.models.output import VocabularyOutput
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.template import Template
from understudy.types import Example, Gives, Tokens


class TextKind(ModelKind):
    """A kind that writes.

    Attributes:
        pads_left: whether prompts are padded on the left when it answers.
    """

    gives: ClassVar[Gives] = Gives.STATES | Gives.EMBEDDINGS
    reads_prompts: ClassVar[bool] = True
    pads_left: ClassVar[bool] = False

    @abstractmethod
    def states(self, base: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """`[B, S, d]` the last hidden states before the head."""

    @abstractmethod
    def embedded(self, base: Any, inputs: Mapping[str, Tensor], mask: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, d]` embeddings of the tokens that predict, and of the target tokens."""

    @abstractmethod
    def positions(self, prompt: int, answer: int) -> tuple[int, int]:
        """Positions that a prompt and an answer of so many tokens take, as `row_size` has them.

        What a decoder begins with counts as part of the answer.
        """

    @abstractmethod
    def layout(
        self, template: Template, prompts: list[list[int]], prefixes: list[list[int]]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """What the model reads of each prompt, and what its decoder has written already (a causal model: nothing)."""

    def row_size(self, tokenizer: ExampleTokenizer, example: Example, *, answered: bool) -> tuple[int, int]:
        """See the base class."""
        begun = max(0, len(tokenizer.template.start_ids) - 1)  # The last token that is written is never read.
        if answered:
            return self.positions(len(tokenizer.prompt_ids(example)), tokenizer.data.max_answer_tokens + begun)
        row = tokenizer.encode(example)
        return self.positions(len(row.prompt_ids), len(row.answer_ids) + begun)

    def decoder_arguments(self, template: Template, begun: list[list[int]], device: torch.device) -> dict[str, Any]:
        """Arguments of `generate` for what a decoder has written already."""
        return {}

    def write(self, base: Any, ids: Tensor, mask: Tensor, arguments: Mapping[str, Any]) -> Tensor:
        """`[B, S]` token ids that the model's own `generate` gives.

        Args:
            base: the model.
            ids: `[B, S]` the prompts.
            mask: `[B, S]` which of them are no padding.
            arguments: of `generate`.
        """
        return base.generate(input_ids=ids, attention_mask=mask, **arguments)

    def output(self, model: nn.Module, tokens: Tokens, *, embeddings: bool = False) -> VocabularyOutput:
        """See the base class; nothing of size `[N, V]`."""
        base = base_model(model)
        states = self.states(base, tokens["inputs"])
        # Of rows with several answers, the tokens of all of them.
        mask, target_ids = tokens.get("option_mask"), tokens.get("option_ids")
        if mask is None or target_ids is None:
            mask, target_ids = tokens["target_mask"], tokens["target_ids"]
        lengths = tuple(mask.sum(dim=1).tolist())
        inner, outer, deviations = None, None, None
        if embeddings:
            with torch.no_grad():
                inner, outer = self.embedded(base, tokens["inputs"], mask, target_ids)
                first = torch.zeros_like(target_ids[:1])
                outside = self.embedded(base, tokens["inputs"], mask, first)[1].sum(0)
                deviations = Deviations.over_batch(states, inner, outer, outside)
        return VocabularyOutput(target_ids, lengths, states[mask], head_of(model), inner, outer, deviations)

    @torch.no_grad()
    def probe(self, model: PreTrainedModel, inputs: dict[str, Tensor], name: str) -> float:
        """See the base class: `head(hidden)` must be the model's own logits.

        Raises:
            ModelError: they differ: something between hidden state and logits is unknown to `head_of`.
        """
        training = model.training
        try:
            if any(parameter.requires_grad for parameter in model.parameters()):
                # Dropout on the head shows itself in training alone.
                head_of(model.train())
            model.eval()
            expected = model(**inputs, use_cache=False).logits.float()
            logits = head_of(model).logits(self.states(base_model(model), inputs)).float()
        finally:
            model.train(training)
        if logits.shape != expected.shape:
            raise ModelError(f"{name}: the head gives {tuple(logits.shape)}, the model {tuple(expected.shape)}")
        gap = ((logits - expected).abs().max() / expected.abs().max().clamp_min(1e-6)).item()
        exact = expected.dtype == torch.float32 and next(model.parameters()).dtype == torch.float32
        if not gap <= (1e-4 if exact else 3e-2):
            raise ModelError(
                f"{name}: head(hidden) differs from the model's own logits by {gap:.2%}",
                hint="this architecture does something between hidden state and logits that understudy does not know",
            )
        return gap

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
        """Greedy answers."""
        return decode(
            self,
            model,
            tokenizer.template,
            [tokenizer.prompt_ids(example) for example in examples],
            max_new_tokens=tokenizer.data.max_answer_tokens,
            batch_size=batch_size,
            progress=progress,
            confidence=confidence,
        )

    def prepare_to_save(self, model: PreTrainedModel, template: Template) -> None:
        """Its generation config: greedy, for sampling fields would keep `transformers` from saving it."""
        start = template.start_ids
        model.generation_config = GenerationConfig(
            decoder_start_token_id=start[0] if start else None,
            # What the tokenizer puts before an answer, the decoder is given: BART's <s>.
            forced_bos_token_id=start[1] if len(start) > 1 else None,
            bos_token_id=template.tokenizer.bos_token_id,
            pad_token_id=template.tokenizer.pad_token_id,
            eos_token_id=list(template.stop_ids),
        )
