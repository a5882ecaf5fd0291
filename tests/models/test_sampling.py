"""Samples against the distribution they are drawn from, and against each other."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from test_generate import prompts

from support.tiny import llama
from understudy.models.generate import generate
from understudy.models.sampling import GumbelNoise, Sampling, gumbel_noise

NUM = 1500


@pytest.fixture
def model(template):
    made = llama(len(template.tokenizer), tied=False)
    with torch.no_grad():
        made.get_output_embeddings().weight.mul_(4)  # far from uniform
    return made


def first_tokens(model, template, prompt, draws):
    """The first token of an answer for every draw, as `generate` chooses it."""
    ids = torch.tensor([prompt] * len(draws))
    with torch.no_grad():
        scores = model(input_ids=ids[:1]).logits[0, -1].expand(len(draws), -1)
    return GumbelNoise(draws)(ids, scores).argmax(dim=-1).tolist(), scores[0].double()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
def test_samples_follow_softmax_at_the_temperature(model, template, temperature):
    """Chi-square over the entries that are expected five times or more, the others together."""
    prompt = prompts(template)[0]
    seen, scores = first_tokens(model, template, prompt, [Sampling(temperature, seed) for seed in range(NUM)])
    expected = NUM * (scores / temperature).softmax(-1).numpy()
    counts = np.bincount(seen, minlength=len(expected))
    often = expected >= 5
    assert often.sum() > 10
    observed = [*counts[often], counts[~often].sum()]
    wanted = [*expected[often], expected[~often].sum()]
    assert stats.chisquare(observed, wanted).pvalue > 0.01


def test_a_wrong_temperature_would_show(model, template):
    prompt = prompts(template)[0]
    seen, scores = first_tokens(model, template, prompt, [Sampling(1.0, seed) for seed in range(NUM)])
    expected = NUM * (scores / 0.8).softmax(-1).numpy()
    often = expected >= 5
    counts = np.bincount(seen, minlength=len(expected))
    observed = [*counts[often], counts[~often].sum()]
    assert stats.chisquare(observed, [*expected[often], expected[~often].sum()]).pvalue < 1e-6


def test_whole_answers_follow_the_product_of_their_tokens(model, template):
    """Two tokens: each pair as often as the model's own chain of probabilities says; also in ragged batches."""
    prompt = prompts(template)[1]
    readable = [template.decode([token]).isalnum() for token in range(len(template.tokenizer))]
    head = model.get_output_embeddings()
    head.bias = torch.nn.Parameter(torch.where(torch.tensor(readable), 0.0, -20.0))
    draws = [Sampling(0.8, seed) for seed in range(NUM)]
    rows = [prompt if place % 7 else prompts(template)[2] for place in range(NUM)]
    answers = generate(model, template, rows, max_new_tokens=2, batch_size=250, samplings=draws)
    kept = Counter(answer.text for answer, row in zip(answers, rows, strict=True) if row is prompt)
    total = sum(kept.values())
    chances = Counter()
    size = len(template.tokenizer)
    with torch.no_grad():
        first = (model(input_ids=torch.tensor([prompt])).logits[0, -1].double() / 0.8).softmax(-1)
        longer = torch.tensor([[*prompt, one] for one in range(size)])
        second = (model(input_ids=longer).logits[:, -1].double() / 0.8).softmax(-1)
    pairs = (first[:, None] * second).tolist()
    for one in range(size):
        for two in range(size):
            kept_ids = [] if one in template.stop_ids else [one] if two in template.stop_ids else [one, two]
            chances[template.decode(kept_ids)] += pairs[one][two]
    common = [text for text, chance in chances.items() if chance * total >= 5]
    assert len(common) > 10
    assert sum(chances.values()) == pytest.approx(1)
    wanted = [chances[text] * total for text in common]
    observed = [kept[text] for text in common]
    rest = total - sum(wanted)
    assert stats.chisquare([*observed, total - sum(observed)], [*wanted, rest]).pvalue > 0.01


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_batches_and_order_do_not_change_samples(model, template, batch_size):
    rows = prompts(template)
    draws = [Sampling(0.9, seed) for seed in range(len(rows))]
    alone = [
        generate(model, template, [row], max_new_tokens=12, samplings=[draw])[0].text
        for row, draw in zip(rows, draws, strict=True)
    ]
    together = generate(model, template, rows, max_new_tokens=12, batch_size=batch_size, samplings=draws)
    assert [answer.text for answer in together] == alone
    turned = generate(model, template, rows[::-1], max_new_tokens=12, batch_size=batch_size, samplings=draws[::-1])
    assert [answer.text for answer in turned][::-1] == alone


def test_temperature_zero_and_nearly_zero_are_greedy(model, template):
    rows = prompts(template)
    greedy = [answer.text for answer in generate(model, template, rows, max_new_tokens=12)]
    for temperature in (0.0, 1e-6):
        draws = [Sampling(temperature, seed) for seed in range(len(rows))]
        assert [a.text for a in generate(model, template, rows, max_new_tokens=12, samplings=draws)] == greedy
    mixed = [Sampling(5.0 * (place % 2), place) for place in range(len(rows))]
    texts = [a.text for a in generate(model, template, rows, max_new_tokens=12, samplings=mixed)]
    assert texts[::2] == greedy[::2]
    assert texts[1::2] != greedy[1::2]


def test_seeds_and_steps_are_independent_streams():
    streams = [gumbel_noise(seed, step, 4000) for seed in (0, 1, 2**63) for step in (0, 1)]
    for place, stream in enumerate(streams):
        assert stats.kstest(stream, "gumbel_r").pvalue > 0.001
        for other in streams[:place]:
            assert abs(np.corrcoef(stream, other)[0, 1]) < 4 / math.sqrt(4000)
    assert (gumbel_noise(7, 3, 50) == gumbel_noise(7, 3, 50)).all()
