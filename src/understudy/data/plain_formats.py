"""Adapters for rows in the everyday layouts: `question`/`answer`, `messages`, `prompt`/`completion`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.data.choices import chosen, option_columns, option_labels, option_texts, read_choices
from understudy.data.pictures import images_of
from understudy.data.recordings import audio_of
from understudy.data.rows import (
    BadRow,
    Cell,
    Row,
    as_answers,
    as_mapping,
    as_text,
    as_texts,
    leftovers,
    lowered,
    missing,
    optional,
    present,
    rationale_texts,
    required,
    row_id,
    unpack,
)
from understudy.errors import shortened
from understudy.strict_json import JsonFault, parse_json
from understudy.types import Example, Message

ROLES = ("system", "user", "assistant", "tool")
"""Who may speak in a conversation."""
SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "function_response": "tool",
}
"""Who speaks in ShareGPT rows -> who that is here."""


QA_FIELDS = (
    *("id", "question", "answer", "answers", "context", "choices", "rationale", "rationales", "system", "images"),
)


def qa(row: Row, labelled: bool) -> Example:
    """`question` with `answer` or `answers`; if wanted `context`, `choices`, `rationale(s)`, `system`, `images`."""
    fields = lowered(row)
    question = required(fields, "question")
    choices, labels, used = options_of(fields, row)
    meta = leftovers(as_mapping(row), used)
    answers: tuple[str, ...] = ()
    if labelled:
        field = "answers" if missing(fields.get("answer")) and "answers" in fields else "answer"
        value = present(fields, field)
        if choices:
            answers, places = chosen(row, value, choices, field, labels)
            meta |= places
        else:
            answers = as_answers(row, value, field)
        if not answers:
            raise BadRow(field, "empty")
    system = optional(fields, "system")
    return Example(
        id=row_id(fields, row),
        question=question,
        answers=answers,
        context=optional(fields, "context"),
        choices=choices,
        history=(Message("system", system),) if system else (),
        rationales=rationale_texts(fields, "rationale", "rationales"),
        meta=meta,
        images=images_of(fields),
    )


def options_of(fields: Mapping[str, Any], row: Row) -> tuple[tuple[str, ...], tuple[str, ...], set[str]]:
    """Options and labels out of `choices` or out of columns of their own, and the fields that are used up.

    Args:
        fields: the row's, in lower case too (`lowered`).
        row: for the columns under the names that they have.

    Raises:
        BadRow: there are options, but fewer than two, or one that is empty or no text.
    """
    used: set[str] = set(QA_FIELDS)
    if not missing(fields.get("choices")):
        choices, labels = read_choices(fields["choices"], "choices")
        return choices, labels, used
    columns = as_mapping(row)
    names = option_columns(columns)
    if not all(missing(columns[name]) for name in names):
        return option_texts(columns), option_labels(columns), used | {name.lower() for name in names}
    options = unpack(fields.get("options"), "options")
    if isinstance(options, list | Mapping) and options:
        choices, labels = read_choices(options, "options")
        return choices, labels, used | {"options"}
    return (), (), used


def _turns(
    value: Any, field: str, *, keys: tuple[str, str] = ("role", "content"), names: Mapping[str, str] | None = None
) -> list[Message]:
    """The turns of a conversation: the keys of speaker and text, and what speakers are called there -> here."""
    value = unpack(value, field, never_text=True)
    speaker, text = keys
    if not isinstance(value, list) or not value:
        raise BadRow(field, f"expected a list of messages with `{speaker}` and `{text}`")
    turns = []
    for place, turn in enumerate(value):
        name = f"{field}[{place}]"
        if not isinstance(turn, Mapping):
            raise BadRow(name, f"expected an object with `{speaker}` and `{text}`")
        role = as_text(present(turn, speaker, f"{name}.{speaker}"), f"{name}.{speaker}")
        role = (names or {}).get(role.lower(), role)
        if role not in ROLES:
            raise BadRow(f"{name}.{speaker}", f"{shortened(role)!r} is none of {', '.join((*(names or {}), *ROLES))}")
        turns.append(Message(role, as_text(present(turn, text, f"{name}.{text}"), f"{name}.{text}")))
    return turns


def _conversation(row: Row, turns: list[Message], answers: tuple[str, ...], used: set[str], field: str) -> Example:
    if not turns or turns[-1].role != "user":
        raise BadRow(field, "the turn before the answer must be the user's")
    fields = lowered(row)
    return Example(
        id=row_id(fields, row),
        question=turns[-1].content,
        answers=answers,
        context=optional(fields, "context"),
        history=tuple(turns[:-1]),
        rationales=rationale_texts(fields, "rationale", "rationales"),
        meta=leftovers(as_mapping(row), used | {"id", "context", "rationale", "rationales", "images"}),
        images=images_of(fields),
    )


def messages(row: Row, labelled: bool) -> Example:
    """`messages`: turns of `role` and `content`; the last one, the assistant's, is the answer to learn."""
    turns = _turns(present(lowered(row), "messages"), "messages")
    return _last_turn_learned(row, turns, labelled, {"messages"}, "messages", "role")


def sharegpt(row: Row, labelled: bool) -> Example:
    """ShareGPT: `conversations` of `from` (`system`, `human`, `gpt` …) and `value`; the last one, of `gpt`, is learned.

    A system prompt may also stand in a field of its own.
    """
    fields = lowered(row)
    turns = _turns(present(fields, "conversations"), "conversations", keys=("from", "value"), names=SHAREGPT_ROLES)
    system = optional(fields, "system")
    before = [Message("system", system)] if system else []
    return _last_turn_learned(row, turns, labelled, {"conversations", "system"}, "conversations", "from", before)


def _last_turn_learned(
    row: Row,
    turns: list[Message],
    labelled: bool,
    used: set[str],
    field: str,
    speaker: str,
    before: Sequence[Message] = (),
) -> Example:
    answered = turns[-1].role == "assistant"
    if labelled and not answered:
        raise BadRow(f"{field}[{len(turns) - 1}].{speaker}", "the last turn must be the assistant's answer")
    answers = (turns[-1].content,) if labelled else ()
    return _conversation(row, [*before, *(turns[:-1] if answered else turns)], answers, used, field)


def prompt(row: Row, labelled: bool) -> Example:
    """`prompt` and `completion`, each a text or a list of messages."""
    fields = lowered(row)
    answers: tuple[str, ...] = ()
    if labelled:
        completion = fields.get("completion")
        if _is_turns(completion):
            turns = _turns(completion, "completion")
            if len(turns) != 1 or turns[0].role != "assistant":
                raise BadRow("completion", "expected exactly one turn, the assistant's")
            answers = (turns[0].content,)
        else:
            answers = (required(fields, "completion"),)
    prompt_cell = fields.get("prompt")
    turns = _turns(prompt_cell, "prompt") if _is_turns(prompt_cell) else [Message("user", required(fields, "prompt"))]
    return _conversation(row, turns, answers, {"prompt", "completion"}, "prompt")


def _is_turns(value: Any) -> bool:
    """Whether a field holds messages, as a list or as JSON in a `Cell`; text that merely looks like JSON is text."""
    if isinstance(value, Cell) and value.lstrip().startswith("[{"):
        try:
            value = parse_json(value)
        except JsonFault:
            return False
        return isinstance(value, list) and all(isinstance(turn, Mapping) and "role" in turn for turn in value)
    return isinstance(value, list)


def labelled(row: Row, labelled: bool) -> Example:
    """`text` with `label`: rows to be classified; or `words` with `tags`, one a word, each with blanks between.

    A picture in `images` may stand in place of the text, or beside it.
    """
    fields = lowered(row)
    text, label = ("words", "tags") if not missing(fields.get("words")) else ("text", "label")
    answers = (_joined(fields, label),) if labelled else ()
    images = images_of(fields)
    return Example(
        id=row_id(fields, row),
        question="" if images and missing(fields.get(text)) else _joined(fields, text),
        answers=answers,
        context=optional(fields, "context"),
        meta=leftovers(as_mapping(row), {"id", text, label, "context", "images"}),
        images=images,
    )


def speech(row: Row, labelled: bool) -> Example:
    """`audio` with `text`: a recording and what is said in it."""
    fields = lowered(row)
    audio = audio_of(fields)
    if audio is None:
        raise BadRow("audio", "empty" if "audio" in fields else "absent")
    return Example(
        id=row_id(fields, row),
        question="",
        answers=(required(fields, "text"),) if labelled else (),
        meta=leftovers(as_mapping(row), {"id", "audio", "text"}),
        audio=audio,
    )


def retrieval(row: Row, labelled: bool) -> Example:
    """`query` (or `anchor`) with `positive` (or `passage`), one or a list, and `negatives` that do not answer it.

    Without an answer any of them may stand alone: a text to learn from the teacher's vectors.
    """
    fields = lowered(row)
    query = next((name for name in ("query", "anchor") if not missing(fields.get(name))), None)
    positive = next(
        (name for name in ("positive", "positives", "passage") if not missing(fields.get(name))), "positive"
    )
    answers = tuple(dict.fromkeys(as_texts(present(fields, positive), positive))) if labelled else ()
    negatives = _negatives({k: unpack(v, k) for k, v in fields.items() if k == k.lower()}, answers) if labelled else ()
    if query is None and not labelled:
        query = next((name for name in ("text", positive) if not missing(fields.get(name))), None)
    used = {"id", "query", "anchor", "positive", "positives", "passage", "text"}
    used |= {name for name in fields if name.startswith("negative")}
    return Example(
        id=row_id(fields, row),
        question=required(fields, query or "query"),
        answers=answers,
        # In an order that does not tell the right one.
        choices=tuple(sorted((*answers, *negatives))) if negatives else (),
        meta=leftovers(as_mapping(row), used),
    )


def _negatives(fields: Mapping[str, Any], positives: Sequence[str]) -> tuple[str, ...]:
    """The distinct passages in `negative`, `negatives`, `negative_1` and so on, in the order of the columns.

    Raises:
        BadRow: one is no text, or is a positive too.
    """
    found: dict[str, None] = {}
    for name, value in fields.items():
        if not name.startswith("negative") or missing(value):
            continue
        for place, item in enumerate(value if isinstance(value, list | tuple) else [value]):
            text = as_text(item, f"{name}[{place}]" if isinstance(value, list | tuple) else name)
            if text in positives:
                raise BadRow(name, "a negative is the positive passage too")
            found[text] = None
    return tuple(found)


def _joined(fields: Mapping[str, Any], field: str) -> str:
    """A text, or a list of texts with blanks between."""
    value = unpack(fields.get(field), field)
    if isinstance(value, list):
        parts = [as_text(part, f"{field}[{place}]") for place, part in enumerate(value)]
        if not all(part and not part.split()[1:] for part in parts):
            raise BadRow(field, "expected a list of words without blanks")
        return " ".join(parts)
    return required(fields, field)
