"""The registry of formats: a raw row becomes an `Example`. `FORMATS` is all there is; `register` adds to it.

An adapter reads the answer only where `labelled` is asked for; without it the example comes out as a question
that somebody else will answer. Outer white space of every text goes, the rest stays as it was written.

Left out on purpose: plain `text` rows. Every method here asks a question and learns an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.data.benchmark_formats import (
    csqa,
    gsm8k,
    oran_bench,
    squad,
    squad_questions,
    telco_long,
    telco_mcq,
    teleqna,
)
from understudy.data.plain_formats import QA_FIELDS, labelled, messages, prompt, qa, retrieval, sharegpt, speech
from understudy.data.rows import Row
from understudy.data.sessions import FIELDS as SESSION_FIELDS
from understudy.data.sessions import Item, gather_log, session, with_catalogue
from understudy.errors import ConfigError
from understudy.extensions import claim
from understudy.types import Example


@dataclass(frozen=True, slots=True)
class Format:
    """How one format is read.

    Attributes:
        adapt: `(row, labelled) -> Example`; raises `BadRow`.
        fields: the fields it reads, for `data.columns` and for messages.
        needs: fields without which no row can be read; `a|b` where either will do.
        answer: the fields that a labelled row needs besides, in the same way.
        matches: whether a raw row looks like this format.
        expand: one raw row into several (an article of SQuAD into its questions).
        gather: all raw rows into others, with the catalogue of `data.catalogue`; None: each stands for itself, and
            there is no catalogue to read.
    """

    adapt: Callable[[Row, bool], Example]
    fields: tuple[str, ...]
    needs: tuple[str, ...]
    answer: tuple[str, ...]
    matches: Callable[[Any], bool]
    expand: Callable[[Row], Iterator[Row]] = lambda row: iter((row,))
    gather: Callable[[Sequence[Row], Mapping[str, Item]], list[Row]] | None = None


def _has(*names: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, Mapping) and {str(key).strip().lower() for key in value} >= set(names)


def _looks_session(value: Any) -> bool:
    return _has("session", "items")(value) and isinstance(value.get("items"), list)


def _looks_session_log(value: Any) -> bool:
    return _has("session", "item")(value) and not _has("question")(value)


def _looks_squad(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    flat = {"question", "context", "answers"} <= set(value)
    return "paragraphs" in value or (flat and isinstance(value["answers"], Mapping))


def _looks_csqa(value: Any) -> bool:
    return isinstance(value, Mapping) and ("answerKey" in value or isinstance(value.get("question"), Mapping))


def _looks_gsm8k(value: Any) -> bool:
    return isinstance(value, Mapping) and "question" in value and "\n####" in str(value.get("answer"))


def _looks_oran(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 3 and isinstance(value[1], list)


def _looks_labelled(value: Any) -> bool:
    return any(_has(*names)(value) for names in (("text", "label"), ("words", "tags"), ("images", "label")))


def _looks_spoken(value: Any) -> bool:
    return _has("audio")(value) and not _has("question")(value)


def _looks_retrieval(value: Any) -> bool:
    names = (("query", "positive"), ("query", "positives"), ("query", "passage"), ("anchor", "positive"))
    return any(_has(*pair)(value) for pair in names) and not any(_has(name)(value) for name in ("question", "answer"))


def _looks_teleqna(value: Any) -> bool:
    return _has("question", "option 1")(value) and "option 1" in value


FORMATS: dict[str, Format] = {
    "messages": Format(messages, ("id", "messages", "context", "images"), ("messages",), (), _has("messages")),
    "sharegpt": Format(
        sharegpt, ("id", "conversations", "system", "context", "images"), ("conversations",), (), _has("conversations")
    ),
    "prompt": Format(
        prompt, ("id", "prompt", "completion", "context", "images"), ("prompt",), ("completion",), _has("prompt")
    ),
    "oran_bench": Format(oran_bench, (), (), (), _looks_oran),
    "squad": Format(
        squad,
        ("id", "question", "context", "answers", "is_impossible"),
        ("question", "context"),
        ("answers|is_impossible",),
        _looks_squad,
        squad_questions,
    ),
    "csqa": Format(csqa, ("id", "question", "choices", "answerKey"), ("question",), ("answerKey",), _looks_csqa),
    "gsm8k": Format(gsm8k, ("id", "question", "answer"), ("question",), ("answer",), _looks_gsm8k),
    "telco_long": Format(
        telco_long,
        ("id", "Question", "Candidate Answer 1", "Candidate Answer 2", "Candidate Answer 3"),
        ("Question",),
        ("Candidate Answer 1",),
        _has("question", "candidate answer 1"),
    ),
    "teleqna": Format(
        teleqna,
        ("id", "question", "option 1", "option 2", "option 3", "option 4", "option 5", "answer", "explanation"),
        ("question", "option 1", "option 2"),
        ("answer",),
        _looks_teleqna,
    ),
    "telco_mcq": Format(
        telco_mcq,
        ("id", "Question", "Option 1", "Option 2", "Option 3", "Option 4", "Answer", "Explanation"),
        ("Question", "Option 1", "Option 2"),
        ("Answer",),
        _has("question", "option 1", "option 4", "answer"),
    ),
    "session": Format(
        session, SESSION_FIELDS, ("session", "items"), ("bundles",), _looks_session, gather=with_catalogue
    ),
    "session_log": Format(
        session,
        ("session", "item", "bundle", "intent", "title", "category", "domain", "split"),
        ("session", "item"),
        ("bundle",),
        _looks_session_log,
        gather=gather_log,
    ),
    "speech": Format(speech, ("id", "audio", "text"), ("audio",), ("text",), _looks_spoken),
    "labelled": Format(
        labelled,
        ("id", "text", "label", "words", "tags", "context", "images"),
        ("text|words|images",),
        ("label|tags",),
        _looks_labelled,
    ),
    "retrieval": Format(
        retrieval,
        ("id", "query", "anchor", "positive", "positives", "passage", "negative", "negatives", "text"),
        ("query|anchor|text|positive|positives|passage",),
        ("positive|positives|passage",),
        _looks_retrieval,
    ),
    "qa": Format(qa, QA_FIELDS, ("question",), ("answer|answers",), _has("question")),
}
"""Every format by the name that `data.format` takes, the most particular first: detection takes the first that fits."""


def register(name: str, layout: Format) -> None:
    """Make a format of your own known, so that `data.format` takes it; a recipe names its file in `extensions`.

    Detection (`auto`) asks it first, so `matches` had better be particular.

    Raises:
        ConfigError: the name is taken, empty or `auto`.
    """
    if not name.strip() or name == "auto":
        raise ConfigError(f"a format cannot be named {name!r}")
    claim("format", name, FORMATS)
    others = dict(FORMATS)
    FORMATS.clear()
    FORMATS.update({name: layout, **others})


def detect(values: Sequence[Any]) -> str | None:
    """The format that most of the rows look like; the first of `FORMATS` among equals, None where none fits."""
    counts = {name: sum(map(layout.matches, values)) for name, layout in FORMATS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else None
