"""Adapters for published data sets: SQuAD, TeleQnA, ORAN-Bench, MM-TelcoBench, CommonsenseQA, GSM8K."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from understudy.data.choices import chosen, option_columns, option_labels, option_texts, read_choices
from understudy.data.rows import (
    BadRow,
    Row,
    as_answers,
    as_mapping,
    as_text,
    as_texts,
    jsonable,
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
from understudy.normal_form import NO_ANSWER
from understudy.strict_json import unreadable_in
from understudy.types import Example

UNANSWERABLE = NO_ANSWER
"""The answer to learn where the context does not answer the question (SQuAD 2.0, TeleQuAD)."""


def squad(row: Row, labelled: bool) -> Example:
    """SQuAD 1.1 and 2.0, in articles or flat. A question that the context leaves open gets `UNANSWERABLE`.

    Where the first answer stands in the context is kept in `meta["answer_start"]`, for models that point; what an
    impossible question's annotators found plausible, under `answers` or `plausible_answers`, in
    `meta["plausible_answers"]`.
    """
    fields = as_mapping(row)
    question, context = required(fields, "question"), required(fields, "context")
    meta = leftovers(fields, {"id", "question", "context", "answers", "is_impossible"})
    answers: tuple[str, ...] = ()
    if labelled:
        answers = _squad_answers(row, fields)
        if not answers:
            answers, meta["impossible"] = (UNANSWERABLE,), True
            meta |= _own_answers(fields) if "plausible_answers" not in meta else {}
        elif (start := _answer_start(fields)) is not None:
            meta["answer_start"] = start
    return Example(row_id(fields, row), question, answers, context, meta=meta)


def _squad_answers(row: Row, fields: Mapping[str, Any]) -> tuple[str, ...]:
    impossible = fields.get("is_impossible")
    if impossible is True:
        return ()
    # An empty list is an answer: the context leaves the question open.
    answers = tuple(dict.fromkeys(as_answers(row, present(fields, "answers"), "answers")))
    if not answers and impossible is False:
        raise BadRow("answers", "empty, although `is_impossible` is false")
    return answers


def _own_answers(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The answers that stand beside `is_impossible: true`: not right ones, but kept."""
    answers = unpack(fields.get("answers"), "answers")
    texts = answers.get("text") if isinstance(answers, Mapping) else answers
    return {"plausible_answers": jsonable(answers)} if texts else {}


def _answer_start(fields: Mapping[str, Any]) -> int | None:
    """Where the first answer stands in the context, in characters, as either layout has it; None where none is told.

    Context and answer lose the blanks before them, so the place moves along.
    """
    context, answers = fields["context"], unpack(fields["answers"], "answers")
    if isinstance(answers, list | tuple) and answers:
        answers = answers[0]
    if not isinstance(answers, Mapping):
        return None
    text, start = (
        value[0] if isinstance(value, list | tuple) and value else value
        for value in (answers.get("text"), answers.get("answer_start"))
    )
    if (
        not isinstance(start, int)
        or isinstance(start, bool)
        or not isinstance(text, str)
        or not isinstance(context, str)
    ):
        return None
    return start + _blanks(text) - _blanks(context)


def _blanks(text: str) -> int:
    return len(text) - len(text.lstrip())


def squad_questions(row: Row) -> Iterator[Row]:
    """The questions of one article; a flat row comes back as it is, a broken part as a row with its fault."""
    if row.fault or not isinstance(row.value, Mapping) or "paragraphs" not in row.value:
        yield row
        return
    article = {name: value for name, value in row.value.items() if name != "paragraphs"}
    paragraphs = row.value["paragraphs"]
    if not isinstance(paragraphs, list):
        yield Row(row.value, row.where, row.id, fault=unreadable_in(paragraphs) or "`paragraphs` is no list")
        return
    for place, paragraph in enumerate(paragraphs):
        where = f"{row.where} paragraphs[{place}]"
        if not isinstance(paragraph, Mapping) or not isinstance(paragraph.get("qas"), list):
            fault = unreadable_in(paragraph) or "no list `qas` of questions"
            yield Row(paragraph, where, f"{row.id}-{place}", fault=fault)
            continue
        for number, question in enumerate(paragraph["qas"]):
            value = _with_surroundings(question, paragraph, article) if isinstance(question, Mapping) else question
            fault = unreadable_in(value)
            yield Row(value, f"{where}.qas[{number}]", f"{row.id}-{place}-{number}", fault=fault)


_OF_A_QUESTION = frozenset({"id", "question", "answers", "is_impossible", "plausible_answers"})


def _with_surroundings(
    question: Mapping[str, Any], paragraph: Mapping[str, Any], article: Mapping[str, Any]
) -> dict[str, Any]:
    """A question with the context, and with what its paragraph and its article say of themselves.

    A name that the question has, or that would be read as the question's own, gets its owner's before it
    (`paragraph_id`, `article_source`).
    """
    value = {name: content for name, content in paragraph.items() if name == "context"} | dict(question)
    parts = {"paragraph": (paragraph, {"qas", "context"}), "article": (article, {"context"})}
    for owner, (fields, read) in parts.items():
        for name, content in fields.items():
            if name not in read and not missing(content):
                taken = name in value or name in _OF_A_QUESTION
                value.setdefault(f"{owner}_{name}" if taken else name, content)
    return value


def teleqna(row: Row, labelled: bool) -> Example:
    """TeleQnA: `question`, `option 1` …, `answer` as `option 3: …`, `explanation`, `category`."""
    return _multiple_choice(row, as_mapping(row), labelled)


def telco_mcq(row: Row, labelled: bool) -> Example:
    """MM-TelcoBench MCQ: `Question`, `Option 1` …, `Answer`, `Explanation` and where it comes from."""
    return _multiple_choice(row, lowered(row), labelled)


def _multiple_choice(row: Row, fields: Mapping[str, Any], labelled: bool) -> Example:
    columns = as_mapping(row)
    choices = option_texts(columns)
    used = {name.lower() for name in option_columns(columns)}
    meta = leftovers(columns, used | {"id", "question", "answer", "explanation"})
    answers: tuple[str, ...] = ()
    if labelled:
        answers, places = chosen(row, present(fields, "answer"), choices, "answer", option_labels(columns))
        meta |= places
    return Example(
        id=optional(fields, "id") or row.key or row.id,
        question=required(fields, "question"),
        answers=answers,
        choices=choices,
        rationales=rationale_texts(fields, "explanation"),
        meta=meta,
    )


_CANDIDATE = re.compile(r"candidate answer \d{1,4}")


def telco_long(row: Row, labelled: bool) -> Example:
    """MM-TelcoBench LONG: `Question` with reference answers, as many as there are columns, and where it comes from."""
    fields = lowered(row)
    names = sorted((name for name in fields if _CANDIDATE.fullmatch(name)), key=lambda name: int(name.split()[-1]))
    answers: tuple[str, ...] = ()
    if labelled:
        candidates = [required(fields, "candidate answer 1"), *(fields[n] for n in names if not n.endswith(" 1"))]
        answers = as_answers(row, candidates, "candidate answer")
    return Example(
        id=row_id(fields, row),
        question=required(fields, "question"),
        answers=answers,
        meta=leftovers(as_mapping(row), {"id", "question", *names}),
    )


def oran_bench(row: Row, labelled: bool) -> Example:
    """ORAN-Bench: `[question, ["1. …", …], "number"]`; the numbers go from the options."""
    value = row.value
    if not isinstance(value, list) or len(value) != 3:
        raise BadRow("", "expected [question, [options], answer number]")
    question = as_text(value[0], "question")
    texts, _ = read_choices(value[1], "options")
    choices = tuple(re.sub(rf"^{place}\s*[.)]\s*", "", text) for place, text in enumerate(texts, start=1))
    answers: tuple[str, ...] = ()
    meta: dict[str, Any] = {}
    if labelled:
        # The number of an option, never its text: options may themselves be numbers.
        places = [_numbered(number, choices) for number in _oran_numbers(value[2])]
        answers, meta = tuple(choices[place] for place in places), {"answer_index": places[0]}
        meta |= {"answer_indices": places} if len(places) > 1 else {}
    return Example(row.id, question, answers, choices=choices, meta=meta)


def _oran_numbers(value: Any) -> list[str]:
    """The number of the right option, or of several."""
    texts = as_texts(value, "answer") if isinstance(value, list) and value else (as_text(value, "answer"),)
    return list(dict.fromkeys(part for text in texts for part in re.split(r"\s*(?:[,;&]|\band\b)\s*", text) if part))


def _numbered(number: str, choices: tuple[str, ...]) -> int:
    if not re.fullmatch("[0-9]{1,4}", number) or not 1 <= int(number) <= len(choices):
        raise BadRow("answer", f"{number[:60]!r} is not among the {len(choices)} options")
    return int(number) - 1


def csqa(row: Row, labelled: bool) -> Example:
    """CommonsenseQA: the official nesting (`question.stem`, `question.choices`) and the flat one."""
    fields = as_mapping(row)
    nested = fields.get("question")
    inner = nested if isinstance(nested, Mapping) else {**fields, **({"stem": nested} if "question" in fields else {})}
    choices, labels = read_choices(present(inner, "choices", "question.choices"), "question.choices")
    meta = leftovers({**fields, **inner}, {"id", "stem", "question", "choices", "answerkey"})
    answers: tuple[str, ...] = ()
    if labelled:
        answers, places = chosen(row, present(fields, "answerKey"), choices, "answerKey", labels)
        meta |= places
    question = as_text(present(inner, "stem", "question.stem"), "question.stem")
    return Example(row_id(fields, row), question, answers, choices=choices, meta=meta)


_CALCULATOR = re.compile(r"<<[^<>]*>>")


def gsm8k(row: Row, labelled: bool) -> Example:
    """GSM8K: the answer stands after `####`, the worked solution before it; calculator marks `<<…>>` go."""
    fields = as_mapping(row)
    answers: tuple[str, ...] = ()
    rationales: tuple[str, ...] = ()
    if labelled:
        solution, mark, answer = required(fields, "answer").rpartition("####")
        if not mark:
            raise BadRow("answer", "no `####` before the final answer")
        answers = (as_text(answer, "answer"),)
        rationales = (_CALCULATOR.sub("", solution).strip(),) if solution.strip() else ()
    meta = leftovers(fields, {"id", "question", "answer"})
    return Example(row_id(fields, row), required(fields, "question"), answers, rationales=rationales, meta=meta)
