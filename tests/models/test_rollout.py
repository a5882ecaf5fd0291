"""Answers that are drawn to be learned: the same tokens and log-probabilities as one row at a time without a cache."""

import numpy as np
import pytest
import torch

from support import tiny_seq2seq
from support.tiny import examples, llama, pair
from understudy.models.adapters import add_lora
from understudy.models.rollout import Drawing, Mixture, Rollout, draw, roll_out
from understudy.recipe import DataConfig, LoraConfig
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.template import Template

DATA = DataConfig(max_length=128, max_answer_tokens=16)
SEEDS = [(7, n) for n in range(12)]


def prompts_of(template: Template) -> list[list[int]]:
    tokenizer = ExampleTokenizer(template, DATA)
    return [tokenizer.prompt_ids(example) for example in examples()]


@torch.no_grad()
def slowly(model, template, prompt, seed, drawing):
    """One row, the whole of it read anew for each token, and the cumulated sums in float64."""
    uniform = np.random.default_rng(seed).random(drawing.max_new_tokens)
    ids, logp = [], []
    for u in uniform:
        if template.start_ids:
            written = torch.tensor([[*template.start_ids, *ids]])
            logits = model(input_ids=torch.tensor([prompt]), decoder_input_ids=written).logits[0, -1]
        else:
            logits = model(input_ids=torch.tensor([prompt + ids])).logits[0, -1]
        p = (logits[: drawing.columns].double() / drawing.temperature).softmax(-1)
        token = int((p.cumsum(0) <= u).sum())
        ids.append(token)
        logp.append(float(p[token].log()))
        if token in template.stop_ids:
            break
    return Rollout(tuple(ids), tuple(logp), ids[-1] in template.stop_ids)


def check(model, template, drawing):
    prompts = prompts_of(template)
    drawn = roll_out(model, template, prompts, SEEDS, drawing)
    for prompt, seed, ours in zip(prompts, SEEDS, drawn, strict=True):
        theirs = slowly(model, template, prompt, seed, drawing)
        assert ours.ids == theirs.ids
        assert ours.finished == theirs.finished
        np.testing.assert_allclose(ours.logp, theirs.logp, atol=2e-5)
    return drawn


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_a_batch_is_what_each_row_is_alone(batch_size):
    made = pair("kd", lora=False)
    drawing = Drawing(0.8, 16, len(made.template.tokenizer), batch_size)  # pyright: ignore
    drawn = check(made.student, made.template, drawing)
    assert {row.finished for row in drawn} == {True, False}


@pytest.mark.parametrize("kind", tiny_seq2seq.KINDS)
def test_so_it_is_of_an_encoder_decoder(kind):
    template = tiny_seq2seq.template(kind)
    size = len(template.tokenizer)  # pyright: ignore
    check(tiny_seq2seq.model(kind, size), template, Drawing(1.5, 10, size, 5))


def test_adapters_are_drawn_from_too():
    made = pair("kd", lora=False)
    prompts, drawing = prompts_of(made.template), Drawing(1.0, 16, None, 5)
    without = roll_out(made.student, made.template, prompts, SEEDS, drawing)
    model = add_lora(made.student, LoraConfig(r=4))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    model.train()
    assert roll_out(model, made.template, prompts, SEEDS, drawing) != without
    assert model.training
    check(model.eval(), made.template, drawing)


def test_without_a_cache_it_is_the_same():
    made = pair("kd", lora=False)
    prompts = prompts_of(made.template)
    pieces = [
        roll_out(made.student, made.template, prompts, SEEDS, Drawing(1.0, 12, None, 4, cached=cached))
        for cached in (True, False)
    ]
    assert [row.ids for row in pieces[0]] == [row.ids for row in pieces[1]]


def test_a_share_of_the_teacher_is_drawn_from():
    made = pair("kd", lora=False)
    prompts = prompts_of(made.template)
    mixture = Mixture(made.teacher, made.teacher_template, prompts, 0.3)
    drawn = roll_out(made.student, made.template, prompts, SEEDS, Drawing(1.0, 6, None, 5), mixture)
    row, prompt = drawn[0], prompts[0]
    whole = torch.tensor([prompt + list(row.ids)])
    with torch.no_grad():
        p, q = (
            model(whole).logits[0, len(prompt) - 1 : -1].double().softmax(-1) for model in (made.teacher, made.student)
        )
    logp = (0.3 * p + 0.7 * q).log().gather(1, torch.tensor(row.ids)[:, None])[:, 0]
    np.testing.assert_allclose(row.logp, logp.tolist(), atol=2e-5)


def test_columns_that_no_tokenizer_has_are_never_drawn():
    made = pair("kd", lora=False)
    wide = llama(600, seed=3)
    size = len(made.template.tokenizer)  # pyright: ignore
    prompts = prompts_of(made.template)
    drawn = roll_out(wide, made.template, prompts, SEEDS, Drawing(5.0, 16, size, 5))
    assert max(token for row in drawn for token in row.ids) < size


def test_draws_follow_the_distribution():
    p = torch.tensor([[0.1, 0.0, 0.6, 0.3]])
    uniform = (torch.arange(10_000) + 0.5) / 10_000
    token, logp = draw(p.expand(10_000, 4) * 7, torch.full((10_000,), 7.0), uniform)
    assert torch.bincount(token, minlength=4).tolist() == [1000, 0, 6000, 3000]
    torch.testing.assert_close(logp.exp(), p[0, token])


def test_one_number_below_one_still_finds_a_token():
    token, _ = draw(torch.tensor([[0.5, 0.5, 0.0]]), torch.ones(1), torch.tensor([1.0]))
    assert token.item() < 3
