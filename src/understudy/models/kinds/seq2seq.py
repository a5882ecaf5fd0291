"""Encoder–decoders: the encoder reads the prompt, and the decoder writes the answer behind its start tokens."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForSeq2SeqLM, GenerationConfig, PreTrainedConfig, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from understudy.models.kinds.text import TextKind
from understudy.models.sources import revision_of
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.collate import move
from understudy.tokens.encoded import TokenizedExample, padded
from understudy.tokens.seq2seq_template import Seq2SeqTemplate
from understudy.tokens.template import Template


class Seq2Seq(TextKind):
    """T5, BART and kin."""

    name = "seq2seq"
    title = "encoder–decoder"
    pipeline_tag = "text2text-generation"
    peft_task = "SEQ_2_SEQ_LM"
    # It ties more than its head by this field (BART), or scales by it (UMT5).
    keeps_ties = True

    def fits(self, architecture: PreTrainedConfig) -> bool:
        """Whether its config says that it has both."""
        return bool(architecture.is_encoder_decoder)

    def auto_class(self, architecture: PreTrainedConfig, name: str) -> Any:
        """`AutoModelForSeq2SeqLM`."""
        return AutoModelForSeq2SeqLM

    def template(
        self, tokenizer: PreTrainedTokenizerBase, config: ModelConfig, architecture: PreTrainedConfig, source: str
    ) -> Template:
        """That there is an encoder, and what the decoder begins with."""
        start = getattr(architecture, "decoder_start_token_id", None)
        if start is None:
            with suppress(OSError, ValueError):
                revision = revision_of(config, source)
                start = GenerationConfig.from_pretrained(source, revision=revision).decoder_start_token_id
        return Seq2SeqTemplate(tokenizer, start_id=start)

    def states(self, base: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """`[B, S, d]` the decoder's."""
        read = base.get_encoder()(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], return_dict=True
        ).last_hidden_state
        written = base.get_decoder()(
            input_ids=inputs["decoder_input_ids"],
            attention_mask=inputs["decoder_attention_mask"],
            encoder_hidden_states=read,
            encoder_attention_mask=inputs["attention_mask"],
            use_cache=False,
            return_dict=True,
        )
        return written.last_hidden_state

    def embedded(self, base: Any, inputs: Mapping[str, Tensor], mask: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """`[N, d]` the decoder's embeddings of the tokens that predict, and of the target tokens."""
        table = base.get_decoder().get_input_embeddings()
        return table(inputs["decoder_input_ids"][mask]), table(targets)

    def longest_row(self, room: int, data: DataConfig) -> int:
        """See the base class: the encoder reads the prompt alone."""
        return room + data.max_answer_tokens

    def positions(self, prompt: int, answer: int) -> tuple[int, int]:
        """Each side counts by itself."""
        return prompt, answer

    def layout(
        self, template: Template, prompts: list[list[int]], prefixes: list[list[int]]
    ) -> tuple[list[list[int]], list[list[int]]]:
        """The beginning of an answer is what the decoder has written so far."""
        assert template.start_ids, "the template belongs to another model"
        return list(prompts), [[*template.start_ids, *prefix] for prefix in prefixes]

    def decoder_arguments(self, template: Template, begun: list[list[int]], device: torch.device) -> dict[str, Any]:
        """What the decoder has written, all of one length."""
        start = torch.tensor(begun, device=device)
        return {"decoder_input_ids": start, "decoder_start_token_id": template.start_ids[0]}

    def read_ids(self, row: TokenizedExample) -> list[int]:
        """The prompt; choices of one question stay side by side, so that the encoder reads it once."""
        return row.prompt_ids

    def choice_scores(self, model: nn.Module, base: Any, rows: list[TokenizedExample], pad_id: int) -> list[float]:
        """Mean natural-log probability of each row's learned tokens; each prompt of the batch is read once."""
        assert all(row.start for row in rows), "rows of a causal model for an encoder–decoder"
        places = {key: n for n, key in enumerate(dict.fromkeys(tuple(row.prompt_ids) for row in rows))}
        source, mask = (side.to(base.device) for side in padded(list(places), pad_id))
        of = torch.tensor([places[tuple(row.prompt_ids)] for row in rows], device=base.device)
        states = base.get_encoder()(input_ids=source, attention_mask=mask, return_dict=True).last_hidden_state
        tokens = move(TokenizedExample.batched(rows, pad_id), base.device)
        written = {key: value for key, value in tokens["inputs"].items() if key.startswith("decoder_")}
        encoded = BaseModelOutput(last_hidden_state=states[of])
        logits = model(encoder_outputs=encoded, attention_mask=mask[of], **written, use_cache=False).logits
        logp = logits[tokens["target_mask"]].float().log_softmax(dim=-1).gather(1, tokens["target_ids"][:, None])
        return [piece.mean().item() for piece in logp.squeeze(1).split(tokens["target_mask"].sum(dim=1).tolist())]
