"""Contexts that are too long: never over budget, never silently, never inside a sentence without need."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from understudy.errors import DataError
from understudy.tokens.bm25 import score, terms
from understudy.tokens.overflow import fit_context, sentences

TEXT = (
    "The AMF terminates the N2 interface. The SMF manages sessions, e.g. their addresses. "
    "The UPF forwards packets. Timer T3512 starts a periodic registration. The NRF keeps profiles."
)


def words(text: str) -> int:
    return len(text.split())


COUNTERS: list[Callable[[str], int]] = [len, words, lambda text: math.ceil(len(text.encode()) / 3)]
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.lists(
    st.sampled_from(["The AMF.", "N2 is here!", "e.g. so", "word", "\n", "\n\n", "日本語。", "x" * 30, "- item"]),
    max_size=30,
).map(" ".join)


@given(
    context=ANY_TEXT,
    question=ANY_TEXT,
    budget=st.integers(-1, 120),
    count=st.sampled_from(COUNTERS),
    mode=st.sampled_from(["window", "truncate"]),
)
def test_the_budget_is_never_exceeded_and_the_text_is_a_piece_of_the_context(
    context: str, question: str, budget: int, count: Callable[[str], int], mode
) -> None:
    text, report = fit_context(context, question, budget, count, mode)
    assert count(text) <= max(budget, 0)
    assert text == context[report.start : report.end]
    assert report.tokens_after == count(text)
    assert report.tokens_before == count(context)
    assert (report.action == "kept") == (text == context and count(context) <= budget)


@given(context=ANY_TEXT, question=ANY_TEXT, budget=st.integers(1, 60), mode=st.sampled_from(["window", "truncate"]))
def test_sentences_stay_whole_unless_one_alone_is_too_long(context: str, question: str, budget: int, mode) -> None:
    _, report = fit_context(context, question, budget, words, mode)
    if report.action == "kept" or report.start == report.end:
        return
    spans = sentences(context)
    whole = report.start in {start for start, _ in spans} and report.end in {end for _, end in spans}
    cut = [(start, end) for start, end in spans if start < report.end and report.start < end]
    assert whole or (len(cut) == 1 and words(context[slice(*cut[0])]) > budget)


def test_the_window_holds_what_was_asked_for_and_truncation_does_not() -> None:
    window, report = fit_context(TEXT, "What does timer T3512 start?", 12, words, "window")
    assert "T3512" in window
    assert report.action == "window"
    head, report = fit_context(TEXT, "What does timer T3512 start?", 12, words, "truncate")
    assert head == "The AMF terminates the N2 interface."
    assert report.note() == "context cut at its end: 6 of 27 tokens, 1 of 5 sentences"


def test_what_surrounds_a_match_is_kept_on_both_sides() -> None:
    window, _ = fit_context(TEXT, "Which packets?", 17, words, "window")
    assert window == (
        "The SMF manages sessions, e.g. their addresses. The UPF forwards packets. "
        "Timer T3512 starts a periodic registration."
    )


def test_refusing_names_the_row_and_the_lengths() -> None:
    with pytest.raises(DataError, match=r"^row-7: the context takes 27 tokens, and 12 are left") as caught:
        fit_context(TEXT, "q", 12, words, "refuse", id="row-7")
    assert "context_overflow" in caught.value.hint
    assert fit_context(TEXT, "q", 27, words, "refuse")[1].action == "kept"


def test_no_shared_word_keeps_the_beginning() -> None:
    window, _ = fit_context(TEXT, "Zebra?", 6, words, "window")
    assert window == "The AMF terminates the N2 interface."


def test_one_long_sentence_is_cut_between_words_around_the_match() -> None:
    context = " ".join(f"w{n}" for n in range(400)) + " the needle lies here " + " ".join(f"v{n}" for n in range(400))
    window, report = fit_context(context, "Where is the needle?", 20, words, "window")
    assert "needle" in window
    assert words(window) == 20
    assert report.sentences_after == 1


def test_one_long_word_is_cut_inside() -> None:
    assert fit_context("x" * 90, "q", 40, len, "window")[0] == "x" * 40
    assert fit_context("x" * 90, "q", 40, len, "truncate")[0] == "x" * 40


def test_sentences_know_abbreviations_numbers_and_lists() -> None:
    text = "See Fig. 3 of TS 23.501, e.g. clause 5. It says so! Does it?\n\nA heading"
    text += "\n- one item\n- two\nwrapped line. 終わり。次"
    assert [text[start:end] for start, end in sentences(text)] == [
        "See Fig. 3 of TS 23.501, e.g. clause 5.",
        "It says so!",
        "Does it?",
        "A heading",
        "- one item",
        "- two\nwrapped line.",
        "終わり。",
        "次",
    ]


def test_few_calls_for_a_long_text() -> None:
    calls = 0

    def count(text: str) -> int:
        nonlocal calls
        calls += 1
        return len(text.split())

    context = " ".join(f"Sentence number {n} says something." for n in range(2000))
    fit_context(context, "What says number 1234?", 200, count, "window")
    assert calls < 2000 + 60  # each sentence once, the rest by bisection
    calls = 0
    fit_context(context, "q", 200, count, "truncate")
    assert calls < 20


def test_bm25_by_hand() -> None:
    pieces = ["alpha beta", "beta gamma delta", "delta"]
    idf = math.log(1 + (3 - 2 + 0.5) / (2 + 0.5))
    expected = [
        idf * 1 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 2 / 2)),
        idf * 1 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 3 / 2)),
        0.0,
    ]
    assert score(pieces, "beta?") == pytest.approx(expected, rel=1e-12)


def test_words_are_found_through_their_endings_and_compounds() -> None:
    assert set(terms("released timers")) & set(terms("The timer was released")) >= {"timer", "releas"}
    assert {"23.501", "23", "501"} <= set(terms("TS 23.501"))
    assert terms("class") == ["class"]


def test_on_real_reading_questions_the_window_keeps_far_more_answers_than_the_head(shared: Path) -> None:
    """XQuAD: every article's paragraphs as one long context, a third of its mean length allowed, real tokenizer."""
    tokenizer = Tokenizer.from_file(str(shared / "tokenizers" / "gpt2" / "tokenizer.json"))

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    articles = json.loads((shared / "qa/xquad/xquad.en.json").read_text("utf-8"))["data"]
    kept = {"window": 0, "truncate": 0}
    asked = 0
    for article in articles[:24]:
        context = "\n\n".join(paragraph["context"] for paragraph in article["paragraphs"])
        for question in (paragraph["qas"][0] for paragraph in article["paragraphs"]):
            asked += 1
            for mode in ("window", "truncate"):
                text, report = fit_context(context, question["question"], 250, count, mode)
                assert count(text) <= 250 < report.tokens_before
                kept[mode] += question["answers"][0]["text"] in text
    assert asked == 120
    assert kept["window"] >= 0.8 * asked
    assert kept["window"] >= 2 * kept["truncate"]
