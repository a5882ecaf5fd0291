"""Constrained decoding: whatever a random model wants to write, the answer parses and names items of its session."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from support import tiny, tiny_seq2seq
from understudy.bundle_answers import Bundle, read_answer, write_answer
from understudy.completers.response_parsing import read_value
from understudy.errors import ModelError
from understudy.models.constrained import Grammars
from understudy.models.decoding import Generated
from understudy.models.generate import generate
from understudy.models.load import load_template
from understudy.models.sampling import Sampling
from understudy.recipe import ModelConfig
from understudy.sessions.answer_forms import ORDERED, answer_grammar, answer_schema
from understudy.tokens.template import Template

ANSWER = write_answer([Bundle((1, 12), "sleeping outside")])


@pytest.fixture(scope="module")
def causal():
    tokenizer = tiny.tokenizer()
    return tiny.llama(len(tokenizer)), Template(tokenizer)


@pytest.fixture(scope="module")
def bart():
    template = tiny_seq2seq.template("bart")
    return tiny_seq2seq.model("bart", len(template.tokenizer)), template


def draws(model, template: Template, lengths: list[int], seed: int, *, most: int = 120) -> list[Generated]:
    prompts = [template.text_ids(f"{length} items") for length in lengths]
    return generate(
        model,
        template,
        prompts,
        max_new_tokens=most,
        batch_size=4,
        samplings=[Sampling(5.0, seed + n) for n in range(len(lengths))],
        grammars=[answer_grammar(length) for length in lengths],
    )


def check(answer: Generated, length: int) -> None:
    """A finished answer is JSON of bundles of the session's items; one cut short names no others."""
    numbers = [
        int(number) for items in re.findall(r'"items": \[([\d, ]*)', answer.text) for number in items.split(", ")[:-1]
    ]
    assert all(1 <= number <= length for number in numbers)
    if not answer.finished:
        return
    bundles = json.loads(answer.text)["bundles"]
    assert read_answer(answer.text) == tuple(Bundle.of(row["items"], row["intent"]) for row in bundles)
    assert 1 <= len(bundles) <= length
    for row in bundles:
        assert 2 <= len(row["items"]) == len(set(row["items"]))
        assert all(1 <= number <= length for number in row["items"])
    assert read_value(answer.text, answer_schema(length))["bundles"] == bundles


@settings(max_examples=6, phases=[Phase.generate])
@given(lengths=st.lists(st.integers(2, 14), min_size=1, max_size=4), seed=st.integers(0, 10_000))
def test_every_sampled_answer_parses_and_names_only_items_of_its_session(causal, lengths, seed) -> None:
    for answer, length in zip(draws(*causal, lengths, seed), lengths, strict=True):
        check(answer, length)


def test_most_answers_come_to_an_end(causal) -> None:
    answers = draws(*causal, [2] * 12, 0, most=400)
    assert sum(answer.finished for answer in answers) >= 10
    for answer in answers:
        check(answer, 2)


def test_an_encoder_decoder_is_held_too(bart) -> None:
    for answer in draws(*bart, [3, 3], 7):
        check(answer, 3)


def spells(template: Template) -> bool:
    try:
        Grammars(template, len(template.tokenizer)).check(answer_grammar(12), ANSWER, "it")
    except ModelError:
        return False
    return True


@pytest.mark.parametrize("name", ["telecom-student", "telecom-student-other", "telecom-teacher"])
def test_the_embedded_tokenizers_can_be_held_to_it_though_they_put_a_space_before_every_text(name: str) -> None:
    assert spells(load_template(ModelConfig(model=f"embedded:{name}")))


def test_a_vocabulary_without_braces_is_refused_in_one_line() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.WordLevel({"<unk>": 0, "</s>": 1, "a": 2}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", unk_token="<unk>")
    with pytest.raises(ModelError, match="its tokenizer cannot write the JSON") as caught:
        Grammars(Template(tokenizer), 3).check(answer_grammar(12), ANSWER, "words")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [2, 3, 12, 100, 140])
def test_the_grammar_allows_all_items_whatever_their_number_and_nothing_beyond(causal, length: int) -> None:
    grammars = Grammars(causal[1], len(causal[1].tokenizer))

    def allows(*numbers: int) -> bool:
        matcher = grammars.matcher(answer_grammar(length))
        ids = causal[1].text_ids(write_answer([Bundle(numbers, "x")]))
        return matcher.try_consume_tokens(ids) == len(ids) and matcher.is_accepting()

    assert allows(1, length)
    assert allows(*range(1, length + 1))
    assert not allows(1, length + 1)
    assert not allows(1)
    assert allows(1, 1) == (length > ORDERED)
    assert allows(2, 1) == (length > ORDERED)
