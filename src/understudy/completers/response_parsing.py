"""From the bytes an endpoint sent to an answer, or to the reason why it is none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from understudy.completers.cache import CachedAnswer, clean
from understudy.completers.faults import EndpointError, Fault
from understudy.errors import ConfigError
from understudy.strict_json import JsonFault, parse_json
from understudy.tokens.thoughts import UNCLOSED, without_thought

WHOLE = frozenset({"", "stop", "eos", "eos_token", "stop_sequence", "stop_token", "end_turn"})
"""Finish reasons, in lower case, of an answer that is whole; no reason at all is one of them."""

CUT = frozenset({"length", "max_tokens", "model_length", "max_length"})
"""Finish reasons of an answer that reached its longest length."""

WITHHELD = frozenset({"content_filter", "safety", "recitation", "refusal", "blocklist", "prohibited_content"})
"""Finish reasons of an answer that the endpoint keeps back."""

BROKEN_OFF = frozenset({"error", "abort", "cancelled", "canceled", "timeout"})
"""Finish reasons of an answer that broke off for something that may pass."""

_FENCE = re.compile(r"\A```[\w-]*[ \t]*\r?\n(.*?)\r?\n?```\Z", re.DOTALL)
_STATUS_BY_WORD = {
    429: ("quota", "ratelimit", "toomanyrequests", "resourceexhausted"),
    401: ("authentication", "unauthorized", "unauthenticated", "apikey", "permission", "forbidden"),
    404: ("notfound",),
    400: ("invalid", "badrequest", "contextlength", "unprocessable", "unsupported"),
}


def read_body(body: bytes, seconds: float) -> CachedAnswer:
    """The first choice of a chat completion.

    Raises:
        EndpointError: it is an error, whatever its status was.
        Fault: no chat completion (`unreadable`), no text in it (`empty`), cut short (`unfinished`), broken off
            (`server`) or withheld (`refused`); `tokens` says what it cost all the same.
    """
    choice, (read, written), cost = first_choice(body)
    message = _mapping(choice.get("message"))
    _check_finish(choice.get("finish_reason"), message, cost)
    text = _text(message.get("content"))
    if text is None:
        raise Fault(
            "unreadable", f"the endpoint answered 200 without a text: {_start(body)}", tokens=cost, unusable=True
        )
    if not text.strip():
        raise Fault("empty", "the endpoint answered without a text", tokens=cost, unusable=True)
    return CachedAnswer(clean(text), read, written, seconds)


def first_choice(body: bytes) -> tuple[Mapping[str, Any], tuple[int, int], tuple[int, int] | None]:
    """The first choice of a completion, the tokens that it read and wrote, and the same as its cost where it counts.

    Raises:
        EndpointError: it is an error, whatever its status was.
        Fault: it cannot be read (`unreadable`).
    """
    document = document_of(body)
    usage = _mapping(document.get("usage"))
    tokens = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    cost = tokens if sum(tokens) else None
    choices = document.get("choices")
    choice = _mapping(choices[0]) if isinstance(choices, list) and choices else {}
    if error := _error(document, choice):
        raise EndpointError(*error, tokens=cost)
    return choice, tokens, cost


def document_of(body: bytes) -> Mapping[str, Any]:
    """The object that a body holds; an empty one where it holds something else.

    Raises:
        Fault: it is no JSON (`unreadable`).
    """
    return _mapping(_document(body))


def error_message(body: bytes) -> str:
    """What the body of an error says, whatever form it came in: its message, behind its code where that is a word."""
    try:
        document = parse_json(body)
    except JsonFault:
        return body.decode("utf-8", "replace")
    error = _error(_mapping(document), {})
    return error[1] if error else body.decode("utf-8", "replace")


def _document(body: bytes) -> Any:
    try:
        return parse_json(body)
    except JsonFault as fault:
        reason = "no JSON" if fault.syntax else f"JSON that cannot be read, {fault.reason}"
        raise Fault("unreadable", f"the endpoint answered 200 with {reason}: {_start(body)}", unusable=True) from fault


def _start(body: bytes) -> str:
    return repr(clean(body[:80].decode("utf-8", "replace")).strip())


def _error(document: Mapping[str, Any], choice: Mapping[str, Any]) -> tuple[int, str] | None:
    """Status and message of an error that stands in a body; None where there is none."""
    error = document.get("error") or choice.get("error")
    if not error and "choices" not in document and (document.get("message") or document.get("detail")):
        error = document
    if not error:
        return None
    fields = _mapping(error)
    message = fields.get("message") or fields.get("detail") or (fields.get("metadata") if fields else error)
    codes = [fields.get(name) for name in ("code", "status", "type")]
    word = next((code for code in codes if isinstance(code, str) and code and not code.isdigit()), "")
    text = message if isinstance(message, str) else json.dumps(message, ensure_ascii=False) if message else ""
    return _status(codes, message=text), text if not word or word in text else f"{word}: {text}".removesuffix(": ")


def _status(codes: Sequence[Any], *, message: str) -> int:
    """The HTTP status that an error's code, status and type mean; 500 where they mean nothing that is known."""
    for code in codes:
        if str(code).isdecimal() and len(str(code)) == 3 and 400 <= int(code) < 600:
            return int(code)
    for words in (" ".join(str(code) for code in codes), message):
        letters = "".join(filter(str.isalpha, words.lower()))
        for status, marks in _STATUS_BY_WORD.items():
            if any(mark in letters for mark in marks):
                return status
    return 500


def _check_finish(reason: Any, message: Mapping[str, Any], cost: tuple[int, int] | None) -> None:
    """Refuse an answer that did not come to its end."""
    finish = "" if reason is None else str(reason).strip().lower()
    if finish in CUT:
        raise Fault("unfinished", "the answer reached max_tokens", tokens=cost, charged=True)
    if finish in WITHHELD or message.get("refusal"):
        raise Fault("refused", "the endpoint withheld the answer", tokens=cost, charged=True)
    if finish in BROKEN_OFF:
        detail = f"the endpoint broke the answer off: finish_reason {finish}"
        raise Fault("server", detail, tokens=cost, retryable=True, charged=True)
    if finish not in WHOLE:
        detail = f"the answer ended for a reason that is not known: {clean(finish)[:40]!r}"
        raise Fault("unfinished", detail, tokens=cost, unusable=True)


def _text(content: Any) -> str | None:
    """A message's text, which may come in parts; parts of other kinds, such as thoughts, are passed over."""
    if isinstance(content, str):
        return content
    parts = [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []
    texts = [part.get("text") for part in parts if part.get("type") in ("text", "output_text")]
    return "".join(text for text in texts if isinstance(text, str)) if texts else None


def read_value(text: str, schema: Mapping[str, Any]) -> Any:
    """The JSON value in a text, checked; a thought before it and a code fence around it are tolerated.

    A number beyond what a double holds, such as 1e400, and an object that has one key twice are no value: read as
    Python reads them, the one would be `inf` and the other whichever came last.

    Raises:
        Fault: `unparseable`: no JSON, or JSON that breaks the schema.
    """
    try:
        value = _json(text)  # Whole first: a text inside the value may speak of tags.
    except JsonFault:
        answer = without_thought(text)
        if answer is None:
            raise Fault("unparseable", f"the answer is {UNCLOSED}: {text[:80]!r}", unusable=True) from None
        try:
            value = _json(answer)
        except JsonFault as fault:
            reason = "no JSON" if fault.syntax else f"JSON that cannot be used, {fault.reason}"
            raise Fault("unparseable", f"the answer is {reason}: {answer[:80]!r}", unusable=True) from fault
    fault = next(_validator(json.dumps(schema, sort_keys=True)).iter_errors(value), None)
    if fault is not None:
        where = "/".join(str(part) for part in fault.absolute_path) or "the answer"
        raise Fault("unparseable", f"{where} breaks the schema: {fault.message[:120]}", unusable=True)
    return value


def _json(text: str) -> Any:
    answer = text.strip()
    fenced = _FENCE.match(answer)
    return parse_json(fenced[1] if fenced else answer, finite=True)


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    parsed = json.loads(schema)
    try:
        Draft202012Validator.check_schema(parsed)
    except SchemaError as error:
        raise ConfigError(f"the schema of an answer is no JSON schema: {error.message}") from error
    return Draft202012Validator(parsed)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
