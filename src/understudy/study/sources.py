"""Explanations out of run folders, and out of files that were made elsewhere."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.data.option_mentions import is_right, named_option
from understudy.data.read import read_source
from understudy.errors import ConfigError, DataError, listed
from understudy.files import fingerprint_file, read_jsonl
from understudy.recipe import Recipe
from understudy.records import ExplainedPrediction
from understudy.run import Run
from understudy.study.config import MethodConfig
from understudy.study.items import Explained, MethodText
from understudy.types import Example

_COLUMNS = ("id", "question", "text", "answer")
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no")


@dataclass(frozen=True)
class MethodTexts:
    """All that was read of one method.

    Attributes:
        name: of the method.
        config: where it came from.
        explained: id -> question, answer and explanation; items without a text are left out.
        left_out: why items were left out -> how many.
    """

    name: str
    config: MethodConfig
    explained: Mapping[str, Explained]
    left_out: Mapping[str, int]


def read_methods(sources: Sequence[str], *, finished_only: bool = True) -> list[MethodTexts]:
    """The explanations of each method.

    Args:
        sources: `RUN`, `NAME=RUN` or a file of rows with the columns id, question, text, answer and, where they are
            there, method, choices, gold, correct, context.
        finished_only: leave out texts that were cut at the longest length.

    Raises:
        ConfigError: a folder is no run or has no explanations; two methods have one name.
        DataError: a file cannot be read.
    """
    found = [method for source in sources for method in _read(source, finished_only)]
    names = [method.name for method in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"two sources are called {listed(twice)}", hint="give each a name of its own: NAME=runs/FOLDER"
        )
    return found


def _read(source: str, finished_only: bool) -> list[MethodTexts]:
    name, sign, rest = source.partition("=")
    if not sign or Path(source).exists():
        name, rest = "", source
    path = Path(rest).expanduser()
    if path.is_file():
        return _from_file(path, name)
    return _from_run(path, name, finished_only)


def _from_run(folder: Path, name: str, finished_only: bool) -> list[MethodTexts]:
    run = Run.open(folder)
    recipe = run.recipe
    arms = {arm: rows for arm in recipe.answering_arms if (rows := _explanations(run, arm))}
    if not arms:
        raise ConfigError(
            f"{folder} has no explanations",
            hint="arms that explain learn from texts: give the recipe `tasks` and the arm `explained`",
        )
    label = name or _label(recipe)
    several = len(arms) > 1
    return [
        _of_arm(run, f"{label}-{arm}" if several else label, arm, rows, finished_only) for arm, rows in arms.items()
    ]


def _label(recipe: Recipe) -> str:
    """A run's name in tables where none is given: letters, digits and dashes of the recipe's."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in recipe.name)[:40] or "run"


def _explanations(run: Run, arm: str) -> list[ExplainedPrediction]:
    path = run.predictions_path(arm)
    rows = read_jsonl(path) if path.is_file() else []
    return [ExplainedPrediction.from_json(row) for row in rows if row.get("explanation") is not None]


def _of_arm(run: Run, name: str, arm: str, rows: Sequence[ExplainedPrediction], finished_only: bool) -> MethodTexts:
    reasons = {row.id: _unfit(row, finished_only) for row in rows}
    explained = {row.id: _explained(row) for row in rows if not reasons[row.id]}
    config = MethodConfig(source=str(run.folder), arm=arm, fingerprint=fingerprint_file(run.predictions_path(arm)))
    return MethodTexts(name, config, explained, Counter(reason for reason in reasons.values() if reason))


def _unfit(row: ExplainedPrediction, finished_only: bool) -> str:
    """Why people cannot judge an explanation; empty where they can."""
    if not (row.explanation or "").strip():
        return "no text"
    if row.chosen is None and not (row.prediction or "").strip():
        return "no answer"
    return "cut at the longest length" if finished_only and row.explanation_finished is False else ""


def _explained(row: ExplainedPrediction) -> Explained:
    text = (row.explanation or "").strip()
    # The option that was named, as all methods would write it: the spelling of an answer would tell them apart.
    answer = row.choices[row.chosen] if row.choices and row.chosen is not None else (row.prediction or "").strip()
    correct = _is_correct(answer, row.choices, row.references)
    return Explained(
        row.id,
        row.question or "",
        row.context,
        row.choices,
        row.references,
        MethodText(text, answer, correct, len(text)),
    )


def _is_correct(answer: str, choices: tuple[str, ...], gold: tuple[str, ...]) -> bool | None:
    return is_right(answer, Example("", "", gold, choices=choices)) if gold else None


def _from_file(path: Path, name: str) -> list[MethodTexts]:
    rows = read_source(str(path)).rows
    by_method: dict[str, dict[str, Explained]] = {}
    for row in rows:
        if row.fault:
            raise DataError(f"{row.where}: {row.fault}")
        value = {key.strip().lower(): cell for key, cell in row.value.items()}
        method = str(value.get("method") or name or path.stem)
        explained = _from_row(value, row.where)
        if explained.id in by_method.setdefault(method, {}):
            raise DataError(f"{row.where}: item {explained.id!r} stands twice for the method {method!r}")
        by_method[method][explained.id] = explained
    digest = fingerprint_file(path)
    config = MethodConfig(source=str(path), fingerprint=digest)
    return [MethodTexts(method, config, explained, {}) for method, explained in by_method.items()]


def _from_row(value: Mapping[str, Any], place: str) -> Explained:
    missing = [column for column in _COLUMNS if not str(value.get(column) or "").strip()]
    if missing:
        raise DataError(
            f"{place}: no {missing[0]}", hint="rows need id, question, text, answer; optional: method, choices, gold"
        )
    choices, gold = _texts(value.get("choices"), place), _texts(value.get("gold"), place)
    answer, text = str(value["answer"]).strip(), str(value["text"]).strip()
    option = named_option(answer, choices) if choices else None
    answer = choices[option] if option is not None else answer
    correct = _truth(value.get("correct"), place)
    if correct is None:
        correct = _is_correct(answer, choices, gold)
    context = str(value["context"]) if value.get("context") else None
    return Explained(
        str(value["id"]), str(value["question"]), context, choices, gold, MethodText(text, answer, correct, len(text))
    )


def _texts(cell: Any, place: str) -> tuple[str, ...]:
    """A cell with one text or several: a list, a JSON list, or texts between bars `|`."""
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except ValueError as error:
            raise DataError(f"{place}: not a JSON list: {cell[:40]!r}") from error
    if isinstance(cell, list | tuple):
        return tuple(str(part) for part in cell)
    return tuple(part.strip() for part in str(cell).split("|") if part.strip()) if cell not in (None, "") else ()


def _truth(cell: Any, place: str) -> bool | None:
    word = str(cell).strip().lower() if cell is not None else ""
    if word and word not in (*_TRUE, *_FALSE):
        raise DataError(f"{place}: correct is {word[:40]!r}", hint="write true or false")
    return word in _TRUE if word else None
