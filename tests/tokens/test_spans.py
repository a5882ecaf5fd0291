"""Answers that stand in a context: located, encoded in windows, and found again by their positions."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest

from support import tiny_span
from support.tiny import tokenizer as byte_level
from understudy.data.load import load_splits
from understudy.errors import DataError, ModelError
from understudy.recipe import DataConfig
from understudy.tokens.collate import encode_rows
from understudy.tokens.spans import NO_ANSWER, SpanExample, SpanTemplate, locate
from understudy.types import Example

XQUAD = Path(__file__).parents[3] / "shared" / "data" / "qa" / "xquad" / "xquad.en.json"


def pointed_at(row: SpanExample, context: str) -> str:
    """The text between two positions."""
    first, last = (place - row.context[0] for place in row.answer_ids)
    return context[row.offsets[first][0] : row.offsets[last][1]]


def test_the_layout_is_question_then_context() -> None:
    reader = tiny_span.reader()
    row = reader.encode(Example("a", "What ends N1?", ("SMF",), "The SMF ends N1."))
    tokens = reader.template.tokenizer.convert_ids_to_tokens(row.prompt_ids)
    assert tokens[0] == "[CLS]"
    assert [place for place, token in enumerate(tokens) if token == "[SEP]"] == [row.context[0] - 1, row.context[1]]
    assert set(row.segment_ids[: row.context[0]]) == {0}
    assert set(row.segment_ids[row.context[0] :]) == {1}
    assert pointed_at(row, "The SMF ends N1.") == "SMF"


def test_the_data_says_which_of_two_mentions_is_meant() -> None:
    example = Example("a", "Who?", ("SMF",), "The SMF, not this SMF.", meta={"answer_start": 18})
    assert locate(example, "SMF") == (18, 21)
    # A place that does not hold the answer is not believed.
    wrong = dataclasses.replace(example, meta={"answer_start": 3})
    assert locate(wrong, "SMF") == (4, 7)
    assert locate(example, "smf") == (4, 7)


def test_a_long_context_is_learned_in_the_window_that_holds_the_answer() -> None:
    context = " ".join(f"The UPF ends N{n}." for n in range(40)) + " The CHF charges." + " The UPF ends." * 40
    example = Example("long", "Who charges?", ("CHF",), context)
    reader = tiny_span.reader()
    windows = reader.windows(example)
    assert len(windows) > 5
    assert all(len(window.prompt_ids) <= reader.data.max_length for window in windows)
    # Together they hold every token, and each shares some with the next.
    whole = tiny_span.reader(data=DataConfig(max_length=4096, max_answer_tokens=8)).windows(example)[0]
    assert sorted({place for window in windows for place in window.offsets}) == sorted(whole.offsets)
    assert all(one.offsets[-1] >= other.offsets[0] for one, other in itertools.pairwise(windows))
    row = reader.encode(example)
    assert pointed_at(row, context) == "CHF"
    # Of the windows that hold it, the one with the most around it.
    before = row.answer_ids[0] - row.context[0]
    after = row.context[1] - 1 - row.answer_ids[1]
    assert min(before, after) >= 5


def test_no_answer_is_the_first_position() -> None:
    reader = tiny_span.reader()
    row = reader.encode(Example("a", "Who?", ("unanswerable",), "The SMF ends N1."))
    assert row.answer_ids == [NO_ANSWER, NO_ANSWER]


def test_what_cannot_be_pointed_at_is_named() -> None:
    reader = tiny_span.reader()
    with pytest.raises(DataError, match=r"row-7: the answer 'PCF' does not stand in the context"):
        reader.encode(Example("row-7", "Who?", ("PCF",), "The SMF ends N1."))
    with pytest.raises(DataError, match="row-8: there is no context"):
        reader.encode(Example("row-8", "Who?", ("PCF",)))
    with pytest.raises(DataError, match="row-9: the question takes"):
        reader.encode(Example("row-9", "Who ends N1? " * 60, ("SMF",), "The SMF ends N1."))
    with pytest.raises(ModelError, match=r"\[CLS\]"):
        SpanTemplate(byte_level())


def test_answers_of_a_teacher_that_stand_nowhere_are_left_out_and_counted() -> None:
    reader = tiny_span.reader()
    context = "The SMF ends N1."
    texts = ["SMF", "It is the SMF that ends N1.", "unanswerable"]
    rows = [Example(f"t{n}", "Who?", (text,), context, origin="teacher") for n, text in enumerate(texts)]
    assert [row.id for row in encode_rows(rows, reader)] == ["t0", "t2"]
    assert reader.notes == {"the teacher's answers that the student cannot give: left out": 1}
    with pytest.raises(DataError, match="none of the teacher's answers"):
        encode_rows(rows[1:2], reader)
    # A gold answer that stands nowhere is a mistake in the data.
    with pytest.raises(DataError, match="t1"):
        encode_rows([dataclasses.replace(rows[1], origin="gold")], reader)


def test_a_batch_offers_context_and_no_answer_alone() -> None:
    reader = tiny_span.reader()
    rows = [reader.encode(row) for row in tiny_span.examples(3)]
    tokens = SpanExample.batched(rows, 0)
    assert "candidates" in tokens
    for row, offered in zip(rows, tokens["candidates"], strict=True):
        assert offered.nonzero()[:, 0].tolist() == [NO_ANSWER, *range(*row.context)]
    assert tokens["target_ids"].tolist() == [place for row in rows for place in row.answer_ids]
    assert tokens["target_mask"].sum() == len(tokens["target_ids"])


@pytest.mark.skipif(not XQUAD.is_file(), reason="../shared/data is not here")
def test_every_answer_of_a_published_set_is_found_where_the_set_says() -> None:
    data = DataConfig(source=str(XQUAD), format="squad", dev=0.1, test=0.1, max_length=192, max_answer_tokens=64)
    splits = load_splits(data)
    rows = [*splits.train, *splits.dev, *splits.test]
    assert len(rows) == 1190
    reader = tiny_span.reader(tiny_span.tokenizer(tiny_span.texts_of(rows), 2000), data)
    for example in rows:
        assert locate(example, example.answers[0])[0] == example.meta["answer_start"]
        text = pointed_at(reader.encode(example), example.context or "")
        # A token may reach beyond the answer ("5" of "5G"), never fall short of it.
        assert example.answers[0].strip() in text
