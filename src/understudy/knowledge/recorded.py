"""Outputs of a teacher that were written down earlier, as rows of knowledge.

| what lies at the path                     | how its outputs find their examples                                     |
|-------------------------------------------|-------------------------------------------------------------------------|
| `.jsonl` with `step` and `text`           | rows of knowledge: by id                                                |
| `.jsonl` with `id` and a text             | by id                                                                   |
| a folder of these                         | by id                                                                   |
| a folder of `.json` lists of texts        | by order with the questions, then by the questions' ids                 |

A text stands under `rationale`, `explanation` or `text`; `answer`, `choice` (place from 0, or an option) and `step` may
stand beside it. Lists of texts are raw outputs of a few-shot prompt and have no ids: their files, in the order of their
numbers, are the outputs for the rows of one file of questions: the one that is named, or the one that lies in the
folder or in the one above it. An output that runs on into questions of its own is cut before the first of them.

Of several texts of one example, step and option the first is learned; the others stay beside it, rejected as
`duplicate`. Where a step is sampled (`answer`) they are its samples and are numbered.
"""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from understudy.data.load import read_examples
from understudy.data.option_mentions import folded, mentioned, named_option
from understudy.data.tasks import with_answer
from understudy.errors import DataError, listed, shortened
from understudy.files import read_json, read_jsonl
from understudy.knowledge.quality import sift
from understudy.knowledge.step import is_sampled, load_user_steps
from understudy.knowledge.step_counts import count_steps
from understudy.knowledge.store import from_row, write_step
from understudy.recipe import DataConfig, GenerateConfig
from understudy.records import WritingNotes
from understudy.tokens.thoughts import UNCLOSED, without_thought
from understudy.types import Example, Knowledge, Provenance

EXPLAIN_BLIND, EXPLAIN, COUNTERFACTUAL = "explain_blind", "explain", "counterfactual"

NEXT_QUESTION = "\n\nQ:"
"""Where an output begins to ask questions of its own."""

_STATEMENT = re.compile(r"\b(?:so |thus |hence |therefore,? )?the answer is\b:?", re.IGNORECASE)
_LABELLED = re.compile(r"\(([a-z])\)([^()]*)", re.IGNORECASE)
_BETWEEN = re.compile(r"[\s,;]+(?:(?:or|and)\s*)?$")
_NEARLY = 0.8
_COLUMNS = "leave `reasons` out of a row of your own; an id and a text are enough"


@dataclass(frozen=True, slots=True)
class ParsedOutput:
    """What a raw output says.

    Attributes:
        rationale: what stands before the answer.
        answer: the options' own texts, or the teacher's words where they are none of them; several joined by `or`.
        places: the options it answers with, by their letters.
    """

    rationale: str
    answer: str
    places: tuple[int, ...]


def parse_output(output: str, choices: Sequence[str]) -> ParsedOutput | str:
    """Take a raw output apart, or say why that cannot be done.

    The answer is what follows the last "the answer is" before the first further question. It names options by letter,
    `(b) pond`, several where the teacher could not decide. Words after a letter that are not nearly its option's
    stay as they are: then the teacher answered with something that it was not offered.
    """
    answer = without_thought(output)
    if answer is None:
        return f"unfinished: {UNCLOSED}"
    text = answer.split(NEXT_QUESTION, 1)[0].strip()
    statements = list(_STATEMENT.finditer(text))
    if not statements:
        return "unparseable: it states no answer"
    rationale, tail = text[: statements[-1].start()].strip(), text[statements[-1].end() :].strip()
    if not rationale:
        return "unparseable: nothing stands before its answer"
    labelled = [(ord(label.lower()) - ord("a"), _plain(words)) for label, words in _LABELLED.findall(tail)]
    if labelled:
        answers = [_answer(place, words, choices) for place, words in labelled]
        return ParsedOutput(
            rationale, " or ".join(answers), tuple(place for place, _ in labelled if place < len(choices))
        )
    places = mentioned(tail, choices)
    if not places:
        return "unparseable: its answer names no option"
    named = list(dict.fromkeys(folded(choices[place]) for place in places))
    places = tuple(next(p for p in places if folded(choices[p]) == text) for text in named)
    return ParsedOutput(rationale, " or ".join(choices[place] for place in places), places)


def _plain(text: str) -> str:
    return _BETWEEN.sub("", text.strip()).rstrip(".").strip()


def _answer(place: int, text: str, choices: Sequence[str]) -> str:
    """An option's own text where the words behind its letter are nearly that."""
    if place >= len(choices):
        return text or "no option"
    option = choices[place]
    alike = difflib.SequenceMatcher(None, folded(text), folded(option), autojunk=False).ratio() >= _NEARLY
    return option if alike or not text else text


def read_recorded(
    path: str | os.PathLike[str], examples: Iterable[Example], questions: str | os.PathLike[str] | None = None
) -> Iterator[Knowledge]:
    """The recorded rows of examples, in the order of the examples; of one example as they are recorded.

    An output that cannot be read, and an example that none was recorded for, is a row without a text and with the
    reason. Rows of other examples are left out.

    Args:
        path: a file or a folder, see the table above.
        examples: with the ids that the recording has.
        questions: the file of questions that lists of texts answer; default: the one that lies beside or above them.

    Raises:
        DataError: nothing is there to read, numbers of outputs and questions differ, a question is another one than
            its example's, or no example has a row.
    """
    examples = list(examples)
    examples_by_id = {example.id: example for example in examples}
    rows_by_id: dict[str, list[Knowledge]] = {}
    for row in _rows(Path(path), examples_by_id, None if questions is None else Path(questions)):
        if row.id in examples_by_id:
            rows_by_id.setdefault(row.id, []).append(row)
    if not rows_by_id:
        raise DataError(
            f"{path} has no output for any of the {len(examples)} examples",
            hint="the ids in the recording must be those of data.source",
        )
    step = next(iter(rows_by_id.values()))[0].step
    for example in examples:
        missing = Knowledge(example.id, step, None, reasons=("missing: no output was recorded",))
        yield from _distinct(rows_by_id.get(example.id, (missing,)))


def _distinct(rows: Iterable[Knowledge]) -> Iterator[Knowledge]:
    """The rows of one example with those marked, or numbered, that stand where an earlier text stands already."""
    taken: set[tuple[str, int | None, int]] = set()
    for row in rows:
        place = (row.step, row.choice, row.sample)
        if row.kept and place in taken:
            if is_sampled(row.step):
                free = next(number for number in itertools.count() if (*place[:2], number) not in taken)
                row = replace(row, sample=free)
            else:
                row = replace(row, reasons=("duplicate: an earlier text of this example and step is learned",))
        if row.kept:
            taken.add((row.step, row.choice, row.sample))
        yield row


def import_recorded(
    path: str | os.PathLike[str],
    examples: Sequence[Example],
    config: GenerateConfig,
    folder: str | os.PathLike[str],
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> WritingNotes:
    """Write recorded rows into a folder as if the steps had just been asked, and judge them by `config.filter`.

    Args:
        path: a file or a folder, see the table above.
        examples: to be written about.
        config: its `steps` are those that are taken over, its `filter` says what is rejected.
        folder: of the rows (`knowledge/store.py`); files of the same steps are replaced.
        progress: called with (finished, of how many, note).

    Returns:
        What `pipeline.generate` returns; `finished` counts the examples with a text, and `left` is 0: there is
        nobody to ask again.

    Raises:
        DataError: as `read_recorded`, or the recording has none of the steps.
        ConfigError: a file of steps of your own fails.
        RunError: the folder cannot be written.
    """
    load_user_steps(config.own_steps)  # They say which of their texts are rationales, to be judged.
    rows = list(read_recorded(path, examples, config.recorded_questions))
    steps = sorted({row.step for row in rows})
    if not set(steps) & set(config.steps):
        raise DataError(
            f"{path} has rows of {listed(steps)}, and generate.steps asks for {listed(config.steps)}",
            hint=f"write generate.steps: [{listed(steps)}]",
        )
    for step in config.steps:
        write_step(folder, step, (row for row in rows if row.step == step))
    sift(folder, config.steps, examples, config.filter)
    if progress:
        progress(len(examples), len(examples), Path(path).name)
    return WritingNotes(
        teacher=Path(path).name,
        examples=len(examples),
        finished=len({row.id for row in rows if row.text is not None and row.step in config.steps}),
        left=0,
        stopped="",
        steps=count_steps(folder, config.steps),
    )


def _rows(path: Path, examples_by_id: Mapping[str, Example], questions: Path | None) -> Iterator[Knowledge]:
    if path.is_dir():
        lines, lists = _files(path, ".jsonl"), [file for file in _files(path, ".json") if _is_list(file)]
        if lists:
            yield from _in_order(lists, examples_by_id, questions)
            return
        if not lines:
            raise DataError(f"{path} holds no recorded outputs", hint="expected .jsonl files, or .json lists of texts")
        for file in lines:
            yield from _lines(file, examples_by_id)
    elif path.suffix == ".json":
        yield from _in_order([path], examples_by_id, questions)
    else:
        yield from _lines(path, examples_by_id)


def _files(folder: Path, suffix: str) -> list[Path]:
    """The files of a folder in the order of the numbers in their names; those of a run that are no rows left out."""
    files = [path for path in folder.iterdir() if path.suffix == suffix and path.name != "finished-examples.jsonl"]
    return sorted(files, key=lambda path: [int(part) if part.isdigit() else part for part in _parts(path.name)])


def _parts(name: str) -> list[str]:
    # Text and digits take turns, so that numbers are compared with numbers only.
    return re.split(r"(\d+)", name)


def _is_list(path: Path) -> bool:
    with path.open(encoding="utf-8-sig") as handle:
        start = handle.read(64).split()
    return "".join(start)[:2] == '["'


def _in_order(
    files: Sequence[Path], examples_by_id: Mapping[str, Example], questions_path: Path | None
) -> Iterator[Knowledge]:
    """Outputs without ids, put to the rows of the file of questions one by one."""
    outputs = [(file, place, text) for file in files for place, text in enumerate(_texts(file))]
    source = questions_path or _questions(files)
    questions = read_examples(DataConfig(source=str(source)), str(source), labelled=False)
    if questions.faults or len(outputs) != len(questions.examples):
        raise DataError(
            f"{len(outputs)} outputs in {files[0].parent} for {len(questions.examples)} readable questions in {source}",
            hint="they are put together by their order, so there must be one output for each question",
        )
    for (file, place, text), question in zip(outputs, questions.examples, strict=True):
        example = examples_by_id.get(question.id)
        if example is None:
            continue
        if folded(example.question) != folded(question.question) or example.choices != question.choices:
            raise DataError(
                f"{source}: {question.id} is another question there than in the data",
                hint="outputs are joined by id once they have the id of their question; use the recording's own data",
            )
        yield _parsed(text, question, Provenance(file.name, parameters={"row": place}))


def _texts(path: Path) -> list[str]:
    value = read_json(path)
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise DataError(f"{path} is no list of texts", hint="recorded outputs without ids are a JSON list of strings")
    return value


def _questions(files: Sequence[Path]) -> Path:
    """The one other file of rows beside the outputs or above them."""
    for folder in (files[0].parent, files[0].parent.parent):
        candidates = [path for suffix in (".json", ".jsonl") for path in _files(folder, suffix)]
        candidates = [
            path for path in candidates if path not in files and not (path.suffix == ".json" and _is_list(path))
        ]
        if len(candidates) == 1:
            return candidates[0]
    raise DataError(
        f"which questions do the outputs in {files[0].parent} answer?",
        hint="name their file in generate.recorded_questions, or put it (.json or .jsonl, in their order) beside them",
    )


def _parsed(text: str, example: Example, source: Provenance) -> Knowledge:
    output = parse_output(text, example.choices)
    if isinstance(output, str):
        return Knowledge(example.id, EXPLAIN_BLIND, None, reasons=(output,), provenance=source)
    return Knowledge(example.id, EXPLAIN_BLIND, with_answer(output.rationale, output.answer), provenance=source)


def _lines(path: Path, examples_by_id: Mapping[str, Example]) -> Iterator[Knowledge]:
    for number, row in enumerate(read_jsonl(path), start=1):
        if not isinstance(row, dict) or "id" not in row:
            raise DataError(f"{path}: row {number} has no id", hint="each row needs an id and a text")
        example = examples_by_id.get(str(row["id"]))
        if example is not None:
            whole = {"step", "text", "reasons"} <= row.keys()
            yield (_from_knowledge_row if whole else _from_columns)(row, example, path, number)


def _from_knowledge_row(row: Mapping[str, Any], example: Example, path: Path, number: int) -> Knowledge:
    """A row of knowledge as it was written."""
    try:
        knowledge = from_row(row)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: row {number} is no row of knowledge: {error}", hint=_COLUMNS) from error
    wrong = [
        name
        for name, kinds in (("text", str | None), ("sample", int), ("reasons", list | tuple | None))
        if not isinstance(row.get(name, knowledge.sample), kinds)
    ]
    if wrong:
        raise DataError(f"{path}: row {number} is no row of knowledge: look at its {wrong[0]}", hint=_COLUMNS)
    knowledge = replace(knowledge, choice=_choice(knowledge.choice, example))
    text = None if knowledge.text is None else without_thought(knowledge.text)
    if text is None and knowledge.text is not None:
        return replace(knowledge, text=None, reasons=(*knowledge.reasons, f"unfinished: {UNCLOSED}"))
    return replace(knowledge, text=text)


def _from_columns(row: Mapping[str, Any], example: Example, path: Path, number: int) -> Knowledge:
    """A row of columns: a stated answer goes behind the mark, and says that the gold one was not shown."""
    name = next((name for name in ("rationale", "explanation", "text") if name in row), None)
    if name is None:
        raise DataError(f"{path}: row {number} has no text", hint="name it rationale, explanation or text")
    value = row[name].get("open-ended") if isinstance(row[name], dict) else row[name]
    if not isinstance(value, str | None):
        raise DataError(f"{path}: row {number}: {name} is no text", hint="a row has one text, as a string")
    text, answer = without_thought((value or "").strip()), _answer_text(row.get("answer"), example)
    choice = _choice(row.get("choice"), example)
    step = str(row.get("step") or (COUNTERFACTUAL if choice is not None else EXPLAIN_BLIND if answer else EXPLAIN))
    source = Provenance(path.name, parameters={"row": number - 1})
    if not text:
        reason = "empty: no text was recorded" if text is not None else f"unfinished: {UNCLOSED}"
        return Knowledge(example.id, step, None, choice, reasons=(reason,), provenance=source)
    place = named_option(answer, example.choices) if answer else None
    answer = answer if place is None else example.choices[place]
    text = with_answer(text, answer) if answer else text
    return Knowledge(example.id, step, text, choice, _sample(row, path, number), provenance=source)


def _sample(row: Mapping[str, Any], path: Path, number: int) -> int:
    """Which of several answers it is."""
    sample = row.get("sample") or 0
    if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
        raise DataError(
            f"{path}: row {number}: sample {shortened(repr(sample))} is no number of an answer", hint="count from 0"
        )
    return sample


def _answer_text(value: Any, example: Example) -> str:
    """An answer as text; a whole number is a place from 0 where there are options, as it is in data."""
    if isinstance(value, int) and not isinstance(value, bool) and example.choices:
        place = _choice(value, example)
        return "" if place is None else example.choices[place]
    return "" if value is None else str(value).strip()


def _choice(value: Any, example: Example) -> int | None:
    """The place of the option that a text argues for."""
    if value is None or value == "":
        return None
    if isinstance(value, int | float):
        # A number out of range is no option; as text it would be counted from 1.
        place = value if isinstance(value, int) and value in range(len(example.choices)) else None
    else:
        place = named_option(str(value), example.choices)
    if place is None or isinstance(value, bool):
        raise DataError(
            f"{example.id}: choice {shortened(repr(value))} is none of its options",
            hint="a place from 0, or an option",
        )
    return place
