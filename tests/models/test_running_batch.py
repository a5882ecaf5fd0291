"""Rows that join and leave a running batch, against the same rows written alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from test_generate import prompts
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, GPT2Config, GPT2LMHeadModel

from support import tiny_seq2seq
from support.tiny import llama
from understudy.models.live_decoding import WrittenToken
from understudy.models.running_batch import RunningBatch, rows_can_join
from understudy.models.sampling import Sampling, with_noise


@pytest.fixture(params=["llama", "gpt2"])
def model(request, template):
    """In 64 bits, so that the order of sums decides nothing; positions turned, and looked up in a table."""
    if request.param == "llama":
        made = llama(len(template.tokenizer), tied=False, seed=5)
    else:
        torch.manual_seed(5)
        config = GPT2Config(vocab_size=len(template.tokenizer), n_embd=32, n_layer=2, n_head=2, n_positions=256)
        made = GPT2LMHeadModel(config)
    return made.double().eval()


@torch.no_grad()
def alone(model, prompt: Sequence[int], sampling: Sampling, length: int) -> list[WrittenToken]:
    """Without a cache and without a batch: the whole row is read anew for every token."""
    row, written = list(prompt), []
    for step in range(length):
        logits = model(input_ids=torch.tensor([row])).logits[:, -1].float()
        logp = logits.log_softmax(-1)[0]
        token = int(with_noise(logits, [sampling], [step]).argmax())
        values, places = (side.tolist() for side in logp.topk(3))
        written.append(WrittenToken(token, float(logp[token]), tuple(zip(places, values, strict=True))))
        row.append(token)
    return written


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_come_and_go_are_written_as_they_are_alone(model, template, seed):
    """Rows of every length join between any two tokens, a few at once, and leave in any order."""
    draw = random.Random(seed)
    known = prompts(template)
    rows = [draw.choice(known) * draw.randint(1, 3) for _ in range(12)]
    samplings = [Sampling(draw.choice([0.0, 0.0, 1.0]), place, draw.choice([1.0, 0.8])) for place in range(len(rows))]
    lengths = [draw.randint(1, 9) for _ in rows]
    batch, coming, live = RunningBatch(model, template), list(range(len(rows))), []
    written: list[list[WrittenToken]] = [[] for _ in rows]
    while coming or live:
        came, coming = coming[: (number := draw.randint(0, 4))], coming[number:]
        if came:
            batch.join([rows[row] for row in came], [samplings[row] for row in came])
            live += came
        if not live:
            continue
        assert len(batch) == len(live)
        for row, token in zip(live, batch.choose(3), strict=True):
            written[row].append(token)
        order = batch.go_on([place for place, row in enumerate(live) if len(written[row]) < lengths[row]])
        live = [live[place] for place in order]
    for row, sampling, length, tokens in zip(rows, samplings, lengths, written, strict=True):
        expected = alone(model, row, sampling, length)
        assert [token.id for token in tokens] == [token.id for token in expected]
        for token, other in zip(tokens, expected, strict=True):
            assert token.logp == pytest.approx(other.logp, abs=1e-5)
            assert [place for place, _ in token.top] == [place for place, _ in other.top]


def test_only_the_rows_in_use_are_read(template):
    """What a long row took is not read any more when that row has ended, and given back when all have."""
    model, known = llama(len(template.tokenizer)).eval(), prompts(template)
    batch = RunningBatch(model, template)
    batch.join([known[0] * 5, known[0]], [Sampling(), Sampling()])
    batch.choose(2)
    assert batch.go_on([1]) == [1]
    layer: Any = batch._layers[0]
    assert layer.get_mask_sizes(1) == (len(known[0]) + 1, 0)
    assert layer.keys.shape[2] >= 5 * len(known[0])
    batch.choose(2)
    assert batch.go_on([]) == []
    assert not batch._layers
    assert len(batch) == 0


def test_models_that_keep_something_else_are_told_apart():
    sliding = Gemma3TextConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
    )
    assert rows_can_join(llama(300))
    assert not rows_can_join(Gemma3ForCausalLM(sliding))
    assert not rows_can_join(tiny_seq2seq.model("t5", 300))
