"""The embedded pair for bundles: what made it, how large it is, and that it answers as it is said to."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module, resources
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from understudy.bundle_answers import read_answer
from understudy.completers.local_completer import LocalCompleter
from understudy.data.embedded.bundles import generate
from understudy.data.embedded.bundles.readings import HELD_BACK, text_fingerprint
from understudy.data.sessions import session_of
from understudy.files import read_json
from understudy.metrics import score
from understudy.recipe import EndpointConfig
from understudy.tokens.prompts import messages
from understudy.types import Example, Message, Request

WEIGHTS = Path(str(resources.files("understudy.models"))) / "embedded"
PAIR = ("bundles-teacher", "bundles-student")
TOKENIZER = AutoTokenizer.from_pretrained(WEIGHTS / PAIR[0])


@pytest.mark.parametrize("name", PAIR)
def test_provenance_names_what_made_the_weights(name: str) -> None:
    provenance = read_json(WEIGHTS / name / "provenance.json")
    model = AutoModelForCausalLM.from_pretrained(WEIGHTS / name)
    assert provenance["script"] == "scripts/pretrain_bundles.py"
    assert provenance["text"] == text_fingerprint()
    assert provenance["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert provenance["steps"] == provenance["cycles"] * provenance["plan"]["steps"]
    assert {"seed", "final_loss", "torch"} <= set(provenance)
    assert len(AutoTokenizer.from_pretrained(WEIGHTS / name)) == model.config.vocab_size


def test_the_pair_shares_a_vocabulary_and_stays_small() -> None:
    first, second = (AutoTokenizer.from_pretrained(WEIGHTS / name).get_vocab() for name in PAIR)
    assert first == second
    files = [path for name in PAIR for path in (WEIGHTS / name).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6e6


def test_a_session_is_short_and_its_words_and_numbers_are_tokens() -> None:
    for row in generate(seed=0).test[:50]:
        length = len(TOKENIZER(row.question + row.answers[0])["input_ids"])
        assert length < 40 + 7 * row.meta["length"] + 4 * len(row.meta["true_bundles"])
        for word in (*row.meta["session"]["categories"], "10", "1"):
            assert len(TOKENIZER(word)["input_ids"]) == 1
            assert TOKENIZER.decode(TOKENIZER(word)["input_ids"]) == word


@settings(deadline=None, max_examples=50)
@given(text=st.text(max_size=40))
def test_the_tokenizer_is_lossless_on_any_text(text: str) -> None:
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


def answered(name: str, rows: Sequence[Example]) -> list[str]:
    """Greedy answers without any training."""
    model = LocalCompleter(EndpointConfig(model=f"embedded:{name}", concurrency=60, max_tokens=64), device="cpu")
    turns = [tuple(Message(turn["role"], turn["content"]) for turn in messages(row)) for row in rows]
    return [answer.text or "" for answer in model.complete(Request(str(n), turn) for n, turn in enumerate(turns))]


def rows_without_what_is_held_back(count: int) -> list[Example]:
    """Test sessions whose bundles are all of regularities that were read."""

    def is_read(row: Example) -> bool:
        categories = {item.category for item in session_of(row).items}
        return not any(len(categories & set(held)) > 1 for held in HELD_BACK)

    return [row for row in generate(seed=0).test if is_read(row)][:count]


@pytest.mark.parametrize("name", PAIR)
def test_its_answers_can_be_read(name: str) -> None:
    answers = answered(name, generate(seed=0).test[:60])
    assert sum(read_answer(answer) is not None for answer in answers) >= 0.95 * len(answers)


@pytest.mark.parametrize("name", PAIR)
def test_it_finds_bundles_in_sessions_it_has_never_read(name: str) -> None:
    rows = rows_without_what_is_held_back(60)
    answers = answered(name, rows)
    found = score(answers, [row.answers for row in rows], metrics=["bundle_f1"])["bundle_f1"]
    assert found.value > 0.7


def test_the_page_says_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parents[2]
    monkeypatch.syspath_prepend(str(root / "scripts"))
    render_results = import_module("render_results")
    page = (root / "docs" / "embedded.md").read_text(encoding="utf-8")
    tables = list(render_results.MARKED.finditer(page))
    assert [match["name"] for match in tables] == ["sessions", "rules"]
    for match in tables:
        assert match["table"] == render_results.rendered(root / "docs" / "results", match["file"], match["name"])
