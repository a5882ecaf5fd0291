"""From the bytes an endpoint sent to an answer, or to the reason why it is none."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from understudy.completers.cache import CachedAnswer, clean
from understudy.completers.faults import Fault
from understudy.errors import ConfigError
from understudy.tokens.thoughts import UNCLOSED, without_thought

_FENCE = re.compile(r"\A```[\w-]*[ \t]*\r?\n(.*?)\r?\n?```\Z", re.DOTALL)


def read_body(body: bytes, seconds: float) -> CachedAnswer:
    """The first choice of a chat completion.

    Raises:
        Fault: no JSON (`unreadable`), no answer in it (`empty`), cut short (`unfinished`) or withheld (`refused`);
            `tokens` says what it cost all the same.
    """
    try:
        document = json.loads(body)
    except ValueError as error:
        start = clean(body[:80].decode("utf-8", "replace")).strip()
        raise Fault("unreadable", f"the endpoint answered 200 with no JSON: {start!r}", unusable=True) from error
    usage = _mapping(_mapping(document).get("usage"))
    read, written = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    cost = (read, written) if read + written else None
    choices = _mapping(document).get("choices")
    choice = _mapping(choices[0]) if isinstance(choices, list) and choices else {}
    message = _mapping(choice.get("message"))
    text, finish = message.get("content"), choice.get("finish_reason")
    if finish == "length":
        raise Fault("unfinished", "the answer reached max_tokens", tokens=cost, charged=True)
    if finish == "content_filter" or message.get("refusal"):
        raise Fault("refused", "the endpoint withheld the answer", tokens=cost, charged=True)
    if not isinstance(text, str) or not text.strip():
        raise Fault("empty", "the endpoint answered without a text", tokens=cost, unusable=True)
    return CachedAnswer(clean(text), read, written, seconds)


def read_value(text: str, schema: Mapping[str, Any]) -> Any:
    """The JSON value in a text, checked; a thought before it and a code fence around it are tolerated.

    Raises:
        Fault: `unparseable`: no JSON, or JSON that breaks the schema.
    """
    try:
        value = _json(text)  # Whole first: a text inside the value may speak of tags.
    except (ValueError, RecursionError):
        answer = without_thought(text)
        if answer is None:
            raise Fault("unparseable", f"the answer is {UNCLOSED}: {text[:80]!r}", unusable=True) from None
        try:
            value = _json(answer)
        except (ValueError, RecursionError) as error:
            raise Fault("unparseable", f"the answer is no JSON: {answer[:80]!r}", unusable=True) from error
    fault = next(_validator(json.dumps(schema, sort_keys=True)).iter_errors(value), None)
    if fault is not None:
        where = "/".join(str(part) for part in fault.absolute_path) or "the answer"
        raise Fault("unparseable", f"{where} breaks the schema: {fault.message[:120]}", unusable=True)
    return value


def _json(text: str) -> Any:
    answer = text.strip()
    fenced = _FENCE.match(answer)
    # NaN and Infinity are Python's own, not JSON's.
    return json.loads(fenced[1] if fenced else answer, parse_constant=_no_constant)


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


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
