"""From bytes to an answer, and what a status and its headers mean."""

from __future__ import annotations

import json
import time
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.completers.faults import Fault, retry_after, status_fault
from understudy.completers.response_parsing import read_body, read_value
from understudy.errors import TeacherError

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_fault(body: bytes) -> None:
    with pytest.raises(Fault) as caught:
        read_body(body, 0.0)
    assert caught.value.kind == "unreadable"
    assert "\n" not in str(caught.value)


@given(JSON, JSON, JSON)
def test_any_json_is_an_answer_or_a_fault(choices: Any, content: Any, usage: Any) -> None:
    for document in (choices, {"choices": choices}, {"choices": [{"message": {"content": content}}], "usage": usage}):
        body = json.dumps(document).encode()
        if document is not choices and "usage" in document and isinstance(content, str) and content.strip():
            assert read_body(body, 0.5).text == content
            continue
        blank = isinstance(content, str) and document is not choices and "usage" in document
        with pytest.raises(Fault, match=r"\Aempty: " if blank else r"\Aunreadable: "):
            read_body(body, 0.5)


def test_what_was_written_in_vain_is_counted() -> None:
    document = {
        "choices": [{"message": {"content": "cut"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 9},
    }
    with pytest.raises(Fault) as caught:
        read_body(json.dumps(document).encode(), 0.0)
    assert (caught.value.kind, caught.value.tokens, caught.value.charged) == ("unfinished", (5, 9), True)


@given(JSON)
def test_a_value_comes_back_bare_fenced_or_behind_a_thought(value: Any) -> None:
    text = json.dumps(value)
    for form in (text, f"\n {text}\n", f"```json\n{text}\n```", f"```\n{text}```", f"<think>{{\n</think>\n\n{text}"):
        assert read_value(form, {}) == value


@pytest.mark.parametrize("text", ["1e400", "[-1e999]", '{"a": 1, "a": 2}', "9" * 5_000, "[" * 100_000])
def test_what_only_python_would_take_for_a_value_is_a_fault(text: str) -> None:
    with pytest.raises(Fault, match="unparseable"):
        read_value(text, {})


@pytest.mark.parametrize("text", ["", "```json\n```", "<think>1</think>", "1 2", "NaN", "{'a': 1}", "<think>1"])
def test_no_value_is_a_fault(text: str) -> None:
    with pytest.raises(Fault, match="unparseable"):
        read_value(text, {})


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "3", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0.0),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_retry_after_a_date() -> None:
    found = retry_after({"retry-after": formatdate(time.time() + 60, usegmt=True)})
    assert found is not None
    assert 50 < found <= 60


@pytest.mark.parametrize("status", range(300, 600))
def test_every_status_means_something(status: int) -> None:
    found = status_fault(status, "words", {}, key_variable="KEY")
    if status in (408, 409, 429) or status >= 500:
        assert isinstance(found, Fault)
        assert found.retryable
        assert not found.charged
    elif status in (400, 413, 422):
        assert isinstance(found, Fault)
        assert not found.retryable
    else:
        assert isinstance(found, TeacherError)
        assert not found.retryable
        assert ("KEY" in found.hint) == (status in (401, 403))


def test_a_value_behind_half_a_thought_and_a_value_that_speaks_of_tags() -> None:
    """Servers whose template opens the thought send its second half; half a thought is no reason to cut a value."""
    assert read_value('Let me see {"a": 2}.\n</thinking>\n\n{"a": 1}', {}) == {"a": 1}
    assert read_value('{"a": "end with </think>, then answer"}', {}) == {"a": "end with </think>, then answer"}
    with pytest.raises(Fault, match="never closed"):
        read_value('<thought>{"a": 1}', {})
