"""Models that make vectors of texts: what they read and find, how they are opened, kept and refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from support import tiny, tiny_embed
from understudy.errors import DataError, ModelError, TooLong
from understudy.models.forward import forward, probe
from understudy.models.generate import answer_examples, choice_scores
from understudy.models.kinds import kind_of
from understudy.models.kinds.embed import settings_of
from understudy.models.load import load_example_tokenizer, load_model
from understudy.models.sentence_vectors import sentence_vectors
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.collate import encode_rows, short_inputs
from understudy.tokens.passages import Embedding, PassageExample, PassageTokenizer
from understudy.training.session import save_model
from understudy.types import Example

CPU = torch.device("cpu")
E5 = Embedding("mean", True, "query: ", "passage: ", 0.05)


def vector(model: Any, text: str, settings: Embedding = tiny_embed.SETTINGS) -> torch.Tensor:
    """A vector by hand: one text at a time, float64, no padding."""
    inputs = tiny_embed.shared_tokenizer()(text, return_tensors="pt")
    with torch.no_grad():
        states = model.eval()(**inputs).last_hidden_state[0].double()
    pooled = states.mean(0) if settings.pooling == "mean" else states[0]
    return pooled / pooled.norm() if settings.normalize else pooled


@pytest.mark.parametrize("settings", [tiny_embed.SETTINGS, E5, Embedding("cls", False, "", "about: ", 2.0)])
def test_what_it_says_of_a_batch_is_the_formula(settings: Embedding) -> None:
    """s(x, y) = e(x)·e(y) / τ over the distinct passages of the batch, in float64 and without padding."""
    model, reader, rows = tiny_embed.bert(settings=settings), tiny_embed.reader(settings), tiny_embed.rows(12)
    batch = PassageExample.batched([reader.encode(row) for row in rows], 0)
    with torch.no_grad():
        output = forward(model, batch)
    columns = list(dict.fromkeys(text for row in rows for text in (row.answers[0], *row.choices)))
    assert output.logits.shape == (12, len(columns))
    for n, row in enumerate(rows):
        query = vector(model, settings.query_prefix + row.question, settings)
        for place, text in enumerate(columns):
            passage = vector(model, settings.passage_prefix + text, settings)
            expected = float(query @ passage) / settings.temperature
            assert float(output.logits[n, place]) == pytest.approx(expected, rel=1e-4, abs=1e-4)
        assert columns[int(output.target_ids[n])] == row.answers[0]


def test_what_is_right_too_is_no_negative() -> None:
    """Another right passage, the passage of the same query in another row, and the query itself."""
    reader = tiny_embed.reader()
    rows = [
        Example("a", "Who?", ("one", "two")),
        Example("b", "Who?", ("three",)),
        Example("c", "What?", ("two",), choices=("two", "four")),
        Example("d", "four", ("five",)),
    ]
    batch = PassageExample.batched([reader.encode(row) for row in rows], 0)
    # Columns: one, three, two, four, five.
    assert batch["candidates"].tolist() == [
        [True, False, False, True, True],
        [False, True, False, True, True],
        [True, True, True, True, True],
        [True, True, True, False, True],
    ]
    assert batch["target_ids"].tolist() == [0, 1, 2, 4]
    assert batch["owners"].tolist() == [0, 1, 2, 3, 0, 1, 2, 2, 3]


def test_it_is_opened_from_an_encoder_and_known_by_its_folder(tmp_path: Path) -> None:
    plain = tiny_embed.folder(tmp_path / "plain")
    section = {"kind": "embed", "embedding": {"pooling": "cls", "query_prefix": "query: "}}
    config = ModelConfig.model_validate({"model": str(plain), **section})
    model, reader = load_model(config, CPU), load_example_tokenizer(config, tiny_embed.DATA)
    assert isinstance(reader, PassageTokenizer)
    assert settings_of(model) == reader.template.embedding == Embedding("cls", True, "query: ", "", 0.05)
    assert not any(parameter.requires_grad for parameter in model.pooler.parameters())
    assert probe(model, short_inputs(reader.encode(tiny_embed.rows(1)[0]))) == 0
    save_model(model, reader.template, tmp_path / "saved")
    again = ModelConfig(model=str(tmp_path / "saved"))
    assert kind_of(load_model(again, CPU).config).name == "embed"
    assert settings_of(load_model(again, CPU)) == settings_of(model)
    warmer = ModelConfig.model_validate({"model": str(tmp_path / "saved"), "embedding": {"temperature": 0.5}})
    assert settings_of(load_model(warmer, CPU)) == Embedding("cls", True, "query: ", "", 0.5)


@pytest.mark.parametrize("settings", [E5, Embedding("cls", False, "", "", 0.1)])
def test_sentence_transformers_opens_what_is_saved_and_gives_the_same_vectors(
    tmp_path: Path, settings: Embedding
) -> None:
    model, reader = tiny_embed.bert(settings=settings), tiny_embed.reader(settings)
    reader.template.longest = 48
    save_model(model, reader.template, tmp_path / "saved")
    theirs = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    assert theirs.max_seq_length == 48
    assert theirs.similarity_fn_name == ("cosine" if settings.normalize else "dot")
    rows = tiny_embed.rows(8)
    for name, prefix, texts in (
        ("query", settings.query_prefix, [row.question for row in rows]),
        ("document", settings.passage_prefix, list(tiny_embed.PASSAGES)),
    ):
        read = [reader.template.read(prefix + text).ids for text in texts]
        own = sentence_vectors(model, read, pad_id=0, batch_size=3)
        other = torch.from_numpy(theirs.encode(texts, prompt_name=name))
        torch.testing.assert_close(own, other, atol=1e-5, rtol=1e-5)


def test_what_sentence_transformers_wrote_is_read(tmp_path: Path) -> None:
    """Its own folder, pooled by [CLS], not normalised, with prompts, without a word in the recipe."""
    model, reader = tiny_embed.bert(), tiny_embed.reader()
    plain = tiny_embed.folder(tmp_path / "plain")
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer

    parts: Any = [Transformer(str(plain)), Pooling(model.config.hidden_size, pooling_mode="cls")]
    theirs = SentenceTransformer(modules=parts, device="cpu", prompts={"query": "query: ", "passage": "passage: "})
    theirs.save_pretrained(str(tmp_path / "theirs"))
    config = ModelConfig(model=str(tmp_path / "theirs"), kind="embed")
    own, reader = load_model(config, CPU), load_example_tokenizer(config, tiny_embed.DATA)
    assert isinstance(reader, PassageTokenizer)
    assert reader.template.embedding == Embedding("cls", False, "query: ", "passage: ", 0.05)
    texts = list(tiny_embed.PASSAGES)
    got = sentence_vectors(own, [reader.read_passage(text, "").ids for text in texts], pad_id=0, batch_size=8)
    expected = torch.from_numpy(theirs.encode([f"passage: {text}" for text in texts]))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("1_Pooling/config.json", {"pooling_mode_max_tokens": True}, "pools by max_tokens"),
        ("1_Pooling/config.json", {"pooling_mode": ["cls", "mean"]}, "pools by"),
        ("modules.json", [{"type": "x.Transformer"}, {"type": "x.Pooling"}, {"type": "x.Dense"}], "a layer Dense"),
        ("modules.json", "no list", "is no JSON"),
    ],
)
def test_layers_that_there_are_not_here_are_refused(tmp_path: Path, name: str, content: Any, message: str) -> None:
    folder = tiny_embed.folder(tmp_path / "plain")
    modules = [{"path": "", "type": "x.Transformer"}, {"path": "1_Pooling", "type": "x.Pooling"}]
    (folder / "1_Pooling").mkdir()
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    with pytest.raises(ModelError, match=message):
        load_model(ModelConfig(model=str(folder), kind="embed"), CPU)


def test_a_model_that_writes_cannot_be_one(tmp_path: Path) -> None:
    tiny.llama(300).save_pretrained(tmp_path)
    tiny.tokenizer(300).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="cannot be a model that makes vectors of texts"):
        load_model(ModelConfig(model=str(tmp_path), kind="embed"), CPU)


def test_the_nearest_passage_is_found_in_all_of_the_corpus(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    others = [f"The {name} ends interface {n}." for n, name in enumerate(tiny_embed.FUNCTIONS)]
    path.write_text("".join(json.dumps({"passage": text}) + "\n" for text in others), encoding="utf-8")
    data = tiny_embed.DATA.model_copy(update={"corpus": str(path)})
    model, reader, rows = tiny_embed.bert(), tiny_embed.reader(data=data), tiny_embed.rows(8)
    answers = answer_examples(model, reader, rows, batch_size=3)
    corpus = [*tiny_embed.PASSAGES, *others]
    for row, answer in zip(rows, answers, strict=True):
        logits = {text: float(vector(model, row.question) @ vector(model, text)) / 0.1 for text in corpus}
        total = sum(math.exp(value) for value in logits.values())
        ranking = sorted(corpus, key=lambda text: -logits[text])
        assert answer.text == ranking[0]
        assert [text for text, _ in answer.candidates] == ranking[:10]
        for text, probability in answer.candidates:
            assert probability == pytest.approx(math.exp(logits[text]) / total, abs=1e-4)


def test_texts_without_any_passage_are_looked_up_among_each_other() -> None:
    texts = [Example(f"t{n}", text) for n, text in enumerate(tiny_embed.PASSAGES)]
    answers = answer_examples(tiny_embed.bert(), tiny_embed.reader(), texts, batch_size=8)
    for text, answer in zip(texts, answers, strict=True):
        assert answer.text in tiny_embed.PASSAGES
        assert text.question not in dict(answer.candidates)
    with pytest.raises(DataError, match="no passages to search"):
        answer_examples(tiny_embed.bert(), tiny_embed.reader(), texts[:1], batch_size=8)


def test_what_a_model_has_read_is_read_anew_once_it_has_learned() -> None:
    model, reader, rows = tiny_embed.bert(), tiny_embed.reader(), tiny_embed.rows(8)
    before = [answer.candidates for answer in answer_examples(model, reader, rows, batch_size=8)]
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.1)
    batch = PassageExample.batched([reader.encode(row) for row in rows], 0)
    forward(model, batch).logits.logsumexp(-1).sum().backward()
    optimizer.step()
    after = [answer.candidates for answer in answer_examples(model, reader, rows, batch_size=8)]
    fresh = tiny_embed.bert(seed=9)
    fresh.load_state_dict(model.state_dict())
    expected = [answer.candidates for answer in answer_examples(fresh, reader, rows, batch_size=8)]
    assert after == expected != before


def test_a_passage_is_scored_among_those_of_its_rows() -> None:
    model, reader, rows = tiny_embed.bert(), tiny_embed.reader(), tiny_embed.rows(8)
    encoded = encode_rows(rows, reader)
    [*scores] = choice_scores(model, [[row.student] for row in encoded], pad_id=0, batch_size=8)
    output = forward(model, PassageExample.batched([row.student for row in encoded], 0))
    logp = output.states.masked().double().log_softmax(-1)
    for n, [value] in enumerate(scores):
        assert value == pytest.approx(float(logp[n, output.target_ids[n]].detach()), abs=1e-5)


def test_what_is_too_long_is_cut_and_counted_or_refused() -> None:
    short = DataConfig(max_length=5, max_answer_tokens=2)
    model, row = tiny_embed.bert(), tiny_embed.rows(1)[0]
    reader = tiny_embed.reader(data=short)
    encoded = reader.encode(row)
    assert [len(text.ids) for text in (encoded.query, *encoded.passages)] == [5, 5]
    assert encoded.query.ids[-1] == tiny_embed.shared_tokenizer().sep_token_id
    assert reader.notes == {"texts cut at max_length": 2}
    with pytest.raises(TooLong, match="query-0: the text takes"):
        tiny_embed.reader(data=short.model_copy(update={"context_overflow": "refuse"})).encode(row)
    assert forward(model, PassageExample.batched([encoded], 0)).logits.shape == (1, 1)


def test_a_passage_that_is_its_query_is_refused() -> None:
    with pytest.raises(DataError, match="x: the passage is the query itself"):
        tiny_embed.reader().encode(Example("x", "Who?", ("Who?",)))


def test_the_choices_of_a_row_that_a_teacher_answered_are_no_negatives() -> None:
    """The right passage may be among them."""
    row = Example("x", "Who?", ("two",), choices=("one", "two", "three"), origin="teacher")
    assert tiny_embed.reader().encode(row).texts == ("two",)
