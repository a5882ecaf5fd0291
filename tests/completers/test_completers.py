"""Which completer a recipe means, and the one that runs in this process."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from support.asking import by_id, question
from support.tiny import llama, tokenizer
from understudy.completers.budget import most_tokens
from understudy.completers.factory import build_completer
from understudy.completers.local_completer import LocalCompleter
from understudy.completers.openai_completer import ApiCompleter
from understudy.errors import ModelError
from understudy.models.generate import generate
from understudy.recipe import EndpointConfig, JudgeConfig
from understudy.tokens.template import Template


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model of a few thousand parameters that answers nonsense of some length."""
    where = tmp_path_factory.mktemp("model")
    words = tokenizer(300)
    llama(len(words)).save_pretrained(where)
    words.save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def finishing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same kind of model with its end token so chosen that its answer to "same" ends after a few tokens."""
    prompt = [{"role": "user", "content": "same"}]
    for seed in range(20):
        where = tmp_path_factory.mktemp("finishing")
        words = tokenizer(300)
        model = llama(len(words), seed=seed)
        template = Template(words)
        ids = model.generate(torch.tensor([template.prompt_ids(prompt)]), max_new_tokens=8, do_sample=False)[0].tolist()
        written = ids[len(template.prompt_ids(prompt)) :]
        words.eos_token = words.convert_ids_to_tokens(written[-1])
        ended = Template(words)
        (answer,) = generate(model, ended, [ended.prompt_ids(prompt)], max_new_tokens=12)
        if answer.finished and answer.text:
            model.save_pretrained(where)
            words.save_pretrained(where)
            return where
    raise AssertionError("none of these models finishes")


def config(folder: Path, **others: object) -> EndpointConfig:
    return EndpointConfig(**{"model": str(folder), "max_tokens": 12, "concurrency": 3, **others})  # pyright: ignore


def test_the_address_decides(folder: Path) -> None:
    assert isinstance(build_completer(EndpointConfig(model="m", base_url="http://localhost:1/v1")), ApiCompleter)
    local = build_completer(JudgeConfig(model=str(folder)))
    assert isinstance(local, LocalCompleter)
    assert local.name == str(folder)


def test_it_says_what_the_model_says(folder: Path, tmp_path: Path) -> None:
    texts = [f"Which function is number {number}?" for number in range(7)]
    asked = LocalCompleter(config(folder), tmp_path)
    found = by_id(asked.complete(question(text) for text in texts))
    model = asked._model
    prompts = [model.template.prompt_ids([{"role": "user", "content": text}]) for text in texts]
    answers = generate(model.model, model.template, prompts, max_new_tokens=12, batch_size=3)
    for text, prompt, answer in zip(texts, prompts, answers, strict=True):
        if answer.finished:
            assert found[text].text == answer.text
            assert (found[text].input_tokens, found[text].output_tokens) == (len(prompt), answer.tokens)
        else:
            assert found[text].reason == "unfinished: the answer reached max_tokens"
    assert asked.usage.calls == 7
    assert asked.usage.answered + asked.usage.missing["unfinished"] == 7


def test_answers_are_kept_and_equal_questions_are_one(finishing: Path, tmp_path: Path) -> None:
    first = LocalCompleter(config(finishing, concurrency=5), tmp_path)
    found = by_id(first.complete(question("same", name=str(number)) for number in range(5)))
    assert first.usage.calls == 1
    assert [found[str(number)].cached for number in range(5)] == [False, True, True, True, True]
    again = LocalCompleter(config(finishing), tmp_path)
    (kept,) = again.complete([question("same")])
    assert kept.text == found["0"].text
    assert kept.cached
    assert "_model" not in vars(again), "no model is loaded for what is known"


def test_a_schema_is_checked(finishing: Path) -> None:
    (completion,) = LocalCompleter(config(finishing)).complete([question("same", schema={"type": "object"})])
    assert completion.reason.startswith("unparseable: ")


def test_what_does_not_fit_is_a_reason(folder: Path) -> None:
    (completion,) = LocalCompleter(config(folder)).complete([question("many words " * 200)])
    assert completion.reason.startswith("request: ")
    assert "256" in completion.reason


def test_the_budget_holds_here_too(folder: Path) -> None:
    asked = LocalCompleter(config(folder, max_calls=4))
    found = by_id(asked.complete(question(f"q{number}") for number in range(10)))
    assert asked.usage.calls == 4
    assert sum(completion.reason.startswith("budget: ") for completion in found.values()) == 6


def test_a_budget_is_spent_on_what_answers_cost_and_not_on_what_they_could_have_cost(folder: Path) -> None:
    """Eight in one batch: their estimates do not fit together, their tokens do."""
    asks = [question(f"q{number}") for number in range(8)]
    free = LocalCompleter(config(folder, concurrency=8))
    list(free.complete(asks))
    cost = free.usage.input_tokens + free.usage.output_tokens
    limit = cost + most_tokens(asks[0], 12)
    assert sum(most_tokens(ask, 12) for ask in asks) > limit
    asked = LocalCompleter(config(folder, concurrency=8, max_total_tokens=limit))
    found = list(asked.complete(asks))
    assert asked.usage.calls == 8
    assert not any(completion.reason.startswith("budget") for completion in found)
    assert asked.usage.input_tokens + asked.usage.output_tokens == cost


def drawn(asked: LocalCompleter, samples: int = 4, **others: float) -> list[str | None]:
    requests = [question("same", name=str(number), sample=number, **others) for number in range(samples)]
    found = by_id(asked.complete(requests))
    return [found[str(number)].text or found[str(number)].reason for number in range(samples)]


def test_samples_differ_and_are_drawn_the_same_again(finishing: Path, tmp_path: Path) -> None:
    """By the completer's temperature or the request's own, with other neighbours, and out of another folder."""
    texts = drawn(LocalCompleter(config(finishing, temperature=0.02)))
    assert len(set(texts)) > 1
    assert drawn(LocalCompleter(config(finishing, concurrency=1)), temperature=0.02) == texts
    moved = shutil.copytree(finishing, tmp_path / "moved")
    assert drawn(LocalCompleter(config(moved, concurrency=4, temperature=0.02))) == texts


def test_temperatures_are_cached_apart(finishing: Path, tmp_path: Path) -> None:
    asked = LocalCompleter(config(finishing), tmp_path)
    (greedy,) = asked.complete([question("same")])
    warm = drawn(asked, temperature=0.02)
    assert asked.usage.cached == 0
    again = LocalCompleter(config(finishing), tmp_path)
    assert [completion.text for completion in again.complete([question("same")])] == [greedy.text]
    assert drawn(again, temperature=0.02) == warm
    assert {greedy.text} == set(drawn(again))


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        list(LocalCompleter(EndpointConfig(model="./nowhere")).complete([question("q")]))


def test_choosing_loads_neither_torch_nor_openai() -> None:
    code = (
        "import sys, understudy.metrics, understudy.metrics.judged_metrics, understudy.metrics.judge_reliability\n"
        "import understudy.completers.factory as c\n"
        "from understudy.recipe import EndpointConfig\n"
        "c.build_completer(EndpointConfig(model='m', base_url='http://localhost:1/v1'))\n"
        "c.build_completer(EndpointConfig(model='m'))\n"
        "sys.exit(bool({'torch', 'transformers', 'openai', 'aiohttp'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
