"""One row as token ids, what of it is learned, and rows padded to what a model eats.

This is where targets are shifted by one position and padding is masked, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch

from understudy.types import Tokens


@dataclass(frozen=True)
class TokenizedExample:
    """A prompt and its answer as token ids; the answer ends with the stop token.

    Attributes:
        prompt_ids: the prompt.
        answer_ids: the answer.
        token_ends: bytes of the answer's stripped text, one more than there are answer tokens: token i covers what
            lies between `token_ends[i]` and `token_ends[i + 1]`. Negative in what the template puts before the answer;
            the stop token covers one byte past the end. Empty where nobody asked, or where the template rewrites the
            answer.
        answer_prefix: what the template puts between the prompt and the answer's text, where there are token ends.
        num_forced: how many of the answer's first tokens the model reads without learning to write them.
        start: tokens the decoder of an encoder–decoder begins with; empty for a causal model.
    """

    prompt_ids: list[int]
    answer_ids: list[int]
    token_ends: list[int] = field(default_factory=list)
    answer_prefix: str = ""
    num_forced: int = 0
    start: tuple[int, ...] = ()

    def first(self, count: int) -> TokenizedExample:
        """The same with the first `count` tokens of the answer."""
        answer, token_ends = self.answer_ids[:count], self.token_ends[: count + 1]
        return replace(self, answer_ids=answer, token_ends=token_ends, num_forced=min(self.num_forced, count))

    @property
    def learned_ids(self) -> list[int]:
        """The target tokens: the answer without what is forced of it."""
        return self.answer_ids[self.num_forced :]

    def reads_as(self, other: TokenizedExample) -> bool:
        """Whether a model would read and learn the same of both."""
        fields = ("prompt_ids", "answer_ids", "num_forced", "start")
        return all(getattr(self, name) == getattr(other, name) for name in fields)

    @property
    def ids(self) -> list[int]:
        """Prompt and answer in a row."""
        return self.prompt_ids + self.answer_ids

    def short(self, longest: int) -> TokenizedExample:
        """The same with so many tokens of either side, for a trial."""
        return replace(self, prompt_ids=self.prompt_ids[:longest], answer_ids=self.answer_ids[:longest], num_forced=0)

    @classmethod
    def batched(cls, rows: Sequence[TokenizedExample], pad_id: int) -> Tokens:
        """What one model eats of some rows of this class, padded on the right."""
        encoder_decoder = bool(rows[0].start)
        starts = [list(row.start) if encoder_decoder else row.prompt_ids for row in rows]
        input_ids = [[*start, *row.answer_ids][:-1] for start, row in zip(starts, rows, strict=True)]
        ids, attention = padded(input_ids, pad_id)
        targets = torch.zeros_like(ids, dtype=torch.bool)
        for index, (start, row) in enumerate(zip(starts, rows, strict=True)):
            targets[index, len(start) + row.num_forced - 1 : len(input_ids[index])] = True
        inputs = {"input_ids": ids, "attention_mask": attention}
        if encoder_decoder:
            source, source_attention = padded([row.prompt_ids for row in rows], pad_id)
            inputs = {
                "input_ids": source,
                "attention_mask": source_attention,
                "decoder_input_ids": ids,
                "decoder_attention_mask": attention,
            }
        target_ids = torch.tensor([token for row in rows for token in row.learned_ids])
        return {"inputs": inputs, "target_mask": targets, "target_ids": target_ids}


def padded(rows: Sequence[Sequence[int]], pad_id: int, *, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of token ids as one tensor, padded on the right or on the left, and the mask that tells padding."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(len(row))
        ids[index, place] = torch.tensor(row, dtype=torch.long)
        mask[index, place] = 1
    return ids, mask
