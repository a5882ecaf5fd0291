"""Text from a model: answers in batches, greedy or sampled, and the likelihood of given choices."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from transformers import LogitsProcessorList

from understudy.data.template import Template
from understudy.models.forward import base_model
from understudy.models.sampling import Draw, GumbelNoise


@dataclass(frozen=True)
class Answer:
    """A generated answer.

    Attributes:
        text: the answer without special tokens.
        tokens: how many tokens it took, the stop token included.
        finished: whether the model stopped by itself.
        seconds: its share of the batch's wall time.
    """

    text: str
    tokens: int
    finished: bool
    seconds: float


@torch.no_grad()
def generate(
    model: nn.Module,
    template: Template,
    prompts: Sequence[list[int]],
    *,
    max_new_tokens: int,
    batch_size: int = 64,
    draws: Sequence[Draw] | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Answer]:
    """Answer prompts, longest first so that a batch that does not fit fails at once.

    Args:
        model: a causal language model.
        template: its tokenizer and stop tokens.
        prompts: token ids of each prompt.
        max_new_tokens: longest answer.
        batch_size: prompts at once.
        draws: how each answer is drawn, one a prompt; default: greedily.
        progress: called with the number of prompts just answered.

    Returns:
        One answer a prompt, in the order of the prompts.
    """
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i]))
    answers: dict[int, Answer] = {}
    training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            drawn = [draws[i] for i in chosen] if draws else []
            found = _batch(model, template, [prompts[i] for i in chosen], max_new_tokens, drawn)
            answers |= zip(chosen, found, strict=True)
            if progress:
                progress(len(chosen))
    finally:
        model.train(training)
    return [answers[i] for i in range(len(prompts))]


def _batch(
    model: nn.Module, template: Template, prompts: list[list[int]], max_new_tokens: int, draws: list[Draw]
) -> list[Answer]:
    device = base_model(model).device
    width = max(len(p) for p in prompts)
    pad = template.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=device)
    begin = time.perf_counter()
    out = base_model(model).generate(
        input_ids=ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        # Sampling is the likeliest token under noise, which is why no sampling of the library's own is asked for.
        do_sample=False,
        logits_processor=LogitsProcessorList([GumbelNoise(draws)] if draws else []),
        temperature=None,
        top_p=None,
        top_k=None,
        # Some models bring a penalty along; greedy here means the likeliest token.
        repetition_penalty=1.0,
        pad_token_id=pad,
        eos_token_id=list(template.stop_ids),
    )
    seconds = (time.perf_counter() - begin) / len(prompts)
    return [_answer(template, row, seconds) for row in out[:, width:].tolist()]


def _answer(template: Template, row: list[int], seconds: float) -> Answer:
    end = next((i for i, token in enumerate(row) if token in template.stop_ids), None)
    kept = row if end is None else row[:end]
    return Answer(template.decode(kept), len(kept) + (end is not None), end is not None, seconds)


@torch.no_grad()
def choice_scores(
    model: nn.Module, rows: Sequence[Sequence[tuple[list[int], list[int]]]], *, pad_id: int, batch_size: int = 64
) -> list[list[float]]:
    """Log-likelihood of each choice, per token of the choice.

    Args:
        model: a causal language model.
        rows: for each question, (prompt ids, answer ids) of each choice.
        pad_id: what pads.
        batch_size: sequences at once.

    Returns:
        For each question, one score a choice: mean natural-log probability of the choice's tokens (stop included).
    """
    flat = [pair for row in rows for pair in row]
    order = sorted(range(len(flat)), key=lambda i: -len(flat[i][0]) - len(flat[i][1]))
    scores = [0.0] * len(flat)
    training = model.training
    model.eval()
    try:
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            for index, value in zip(chosen, _score(model, [flat[i] for i in chosen], pad_id), strict=True):
                scores[index] = value
    finally:
        model.train(training)
    taken = iter(scores)
    return [[next(taken) for _ in row] for row in rows]


def _score(model: nn.Module, pairs: list[tuple[list[int], list[int]]], pad_id: int) -> list[float]:
    device = base_model(model).device
    longest = max(len(p) + len(a) for p, a in pairs)
    tail = max(len(a) for _, a in pairs)
    # Padded on the left, so that every choice ends in the last column and only the tail's logits are needed.
    ids = torch.tensor([[pad_id] * (longest - len(p) - len(a)) + p + a for p, a in pairs], device=device)
    mask = torch.tensor([[0] * (longest - len(p) - len(a)) + [1] * (len(p) + len(a)) for p, a in pairs], device=device)
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    logits = model(input_ids=ids, attention_mask=mask, position_ids=positions, logits_to_keep=tail + 1).logits
    logp = logits[:, :-1].float().log_softmax(dim=-1).gather(2, ids[:, -tail:, None]).squeeze(2)
    lengths = torch.tensor([len(a) for _, a in pairs], device=device)
    kept = torch.arange(tail, device=device)[None, :] >= tail - lengths[:, None]
    return ((logp * kept).sum(dim=1) / lengths).tolist()
