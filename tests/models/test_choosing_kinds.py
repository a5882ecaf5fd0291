"""Encoders that compare options, classify and tag: what they read, say and answer is what the library computes."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMultipleChoice

from support import tiny, tiny_encoders
from understudy.errors import DataError, ModelError, TooLong
from understudy.evaluation.predict import dev_scores, predict
from understudy.models.forward import forward, probe
from understudy.models.generate import answer_examples, choice_scores
from understudy.models.kinds import KINDS, kind_of
from understudy.models.load import load_model
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.options import ScoredOptionTokenizer, ScoringTemplate
from understudy.types import Example

KINDS_HERE = ("choice", "classify", "tag")


def batched(rows: list[Any]) -> Any:
    return type(rows[0]).batched(rows, 0)


@pytest.mark.parametrize("kind", KINDS_HERE)
def test_a_model_is_known_by_its_class_and_answers(kind: str) -> None:
    model, reader, rows = tiny_encoders.bert(kind), tiny_encoders.reader(kind), tiny_encoders.ROWS[kind]()
    assert kind_of(model.config).name == kind
    assert probe(model, batched([reader.encode(rows[0])])["inputs"]) == 0.0
    answers = answer_examples(model, reader, rows, batch_size=5)
    alone = [answer_examples(model, reader, [row], batch_size=1)[0] for row in rows]
    assert [answer.text for answer in answers] == [answer.text for answer in alone]
    scores = dev_scores(reader, rows, batch_size=4)(model)
    assert 0 <= scores["exact_match"] <= 1
    assert scores["loss"] > 0


def test_options_are_what_the_library_says_of_them() -> None:
    model, reader, rows = tiny_encoders.bert("choice"), tiny_encoders.reader("choice"), tiny_encoders.choices()
    output: Any = forward(model, batched([reader.encode(row) for row in rows]))
    tokenizer = tiny_encoders.shared_tokenizer()
    predictions = predict(model, reader, rows, batch_size=3)
    for n, row in enumerate(rows):
        read = tokenizer([row.question] * len(row.choices), list(row.choices), padding=True, return_tensors="pt")
        with torch.no_grad():
            logits = model(**{name: value[None] for name, value in read.items()}).logits[0]
        assert output.mask[n].sum() == len(row.choices)
        torch.testing.assert_close(output.logits[n, : len(row.choices)], logits, atol=1e-5, rtol=1e-5)
        assert output.target_ids[n] == row.choices.index(row.answers[0])
        assert predictions[n].prediction == row.choices[int(logits.argmax())]
        expected = logits.log_softmax(-1).tolist()
        assert predictions[n].choice_scores == pytest.approx(expected, abs=1e-5)


def test_a_context_stands_before_question_and_option_and_is_reduced() -> None:
    reader = tiny_encoders.reader("choice")
    row = dataclasses.replace(tiny_encoders.choices()[0], context="The AMF ends mobility. " * 20)
    read: Any = reader.encode(row)
    assert max(len(text.ids) for text in read.texts) <= reader.data.max_length
    assert reader.notes == {"contexts reduced (window)": len(row.choices)}
    refusing = dataclasses.replace(reader, data=reader.data.model_copy(update={"context_overflow": "refuse"}))
    with pytest.raises(TooLong, match="max_length"):
        refusing.encode(row)


def test_a_text_that_is_too_long_is_cut_and_counted_or_refused() -> None:
    reader = tiny_encoders.reader("classify")
    row = dataclasses.replace(tiny_encoders.texts()[0], question="The AMF ends mobility. " * 20)
    ids = reader.encode(row).prompt_ids
    assert len(ids) == reader.data.max_length
    assert ids[-1] == tiny_encoders.shared_tokenizer().sep_token_id
    assert reader.notes == {"texts cut at max_length": 1}
    refusing = dataclasses.replace(reader, data=reader.data.model_copy(update={"context_overflow": "refuse"}))
    with pytest.raises(TooLong, match="max_length"):
        refusing.encode(row)


def test_a_word_is_told_by_its_first_token() -> None:
    reader = tiny_encoders.reader("tag")
    row = Example("r", "interfaceless UPFs end", ("O B-NF O",))
    encoded: Any = reader.encode(row)
    tokenizer = tiny_encoders.shared_tokenizer()
    together = tokenizer("interfaceless UPFs end")
    assert encoded.prompt_ids == together["input_ids"]
    first = [together.word_ids().index(word) for word in range(3)]
    assert list(encoded.places) == first
    assert encoded.answer_ids == [0, 1, 0]


@pytest.mark.parametrize(
    ("kind", "row", "message"),
    [
        ("choice", Example("r", "Who?", ("UPF",), choices=("AMF", "SMF")), "none of the options"),
        ("choice", Example("r", "Who?", ("UPF",)), "no options"),
        ("classify", Example("r", "Who?", ("radio",)), "none of the labels"),
        ("tag", Example("r", "The UPF", ("O",)), "2 words and 1 labels"),
        ("tag", Example("r", "The UPF", ("O X",)), "none of the labels"),
    ],
)
def test_what_cannot_be_learned_is_named(kind: str, row: Example, message: str) -> None:
    reader = tiny_encoders.reader(kind)
    with pytest.raises(DataError, match=message):
        reader.check(row, learned=True)
    if message != "no options":
        assert not reader.can_learn(row)


def test_names_of_control_tokens_are_text() -> None:
    tokenizer = tiny_encoders.shared_tokenizer()
    for kind in ("choice", "classify"):
        reader = tiny_encoders.reader(kind)
        row = dataclasses.replace(tiny_encoders.ROWS[kind]()[0], question="What is [SEP] here?")
        ids = reader.encode(row).prompt_ids
        texts = len(row.choices) or 1
        assert ids.count(tokenizer.sep_token_id) == (2 if kind == "choice" else 1) * texts


def test_a_head_is_made_for_the_labels(tmp_path: Path) -> None:
    tiny_encoders.bert("classify").save_pretrained(tmp_path / "own")
    tiny_encoders.bert("choice").save_pretrained(tmp_path / "other")
    cpu = torch.device("cpu")
    config = ModelConfig(model=str(tmp_path / "other"), kind="classify", labels=("a", "b", "c", "d"))
    model: Any = load_model(config, cpu)
    assert model.config.id2label == {0: "a", 1: "b", 2: "c", 3: "d"}
    assert model.classifier.out_features == 4
    with pytest.raises(ModelError, match="has a head for the labels mobility"):
        load_model(ModelConfig(model=str(tmp_path / "own"), labels=("a", "b", "c")), cpu)
    with pytest.raises(ModelError, match="before its head is built"):
        load_model(ModelConfig(model=str(tmp_path / "other"), kind="classify"), cpu)
    kept = load_model(ModelConfig(model=str(tmp_path / "own"), labels=tiny_encoders.LABELS), cpu)
    assert kind_of(kept.config).name == "classify"


def test_the_library_opens_what_was_saved(tmp_path: Path) -> None:
    from understudy.training.session import save_model

    model, reader = tiny_encoders.bert("choice"), tiny_encoders.reader("choice")
    save_model(model, reader.template, tmp_path / "model")
    opened = AutoModelForMultipleChoice.from_pretrained(tmp_path / "model")
    assert torch.equal(opened.classifier.weight, model.classifier.weight)


def test_a_causal_model_scores_options_as_it_scores_answers(tmp_path: Path) -> None:
    """The score of an option is the mean log-probability of its tokens, which `choice_scores` computes otherwise."""
    model, tokenizer = tiny.llama(300), tiny.tokenizer(300)
    reader = ScoredOptionTokenizer(ScoringTemplate(tokenizer), DataConfig(max_length=64, max_answer_tokens=16))
    rows = tiny_encoders.choices(6)
    writer = ExampleTokenizer(reader.template, reader.data)
    expected = choice_scores(
        model,
        [[writer.encode(dataclasses.replace(row, choices=()), option) for option in row.choices] for row in rows],
        pad_id=tokenizer.pad_token_id,
    )
    folder = tmp_path / "causal"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    scorer: Any = load_model(ModelConfig(model=str(folder), kind="scorer"), torch.device("cpu"))
    assert kind_of(scorer.config).name == "scorer"
    tokens = type(reader.encode(rows[0])).batched([reader.encode(row) for row in rows], tokenizer.pad_token_id)
    with torch.no_grad():
        quick: Any = forward(scorer, tokens)
    learning: Any = forward(scorer.requires_grad_(True), tokens)
    assert learning.logits.requires_grad
    torch.testing.assert_close(quick.logits, learning.logits.detach(), atol=1e-5, rtol=1e-5)
    for n, row in enumerate(rows):
        assert quick.logits[n, : len(row.choices)].tolist() == pytest.approx(expected[n], abs=1e-4)
    scorer.save_pretrained(tmp_path / "again")
    again = load_model(ModelConfig(model=str(tmp_path / "again")), torch.device("cpu"))
    assert kind_of(again.config).name == "scorer"
    assert probe(scorer, tokens["inputs"]) < 1e-4
    assert isinstance(reader.encode(rows[0]), TokenizedExample)
    assert KINDS["causal"].fits(model.config)
