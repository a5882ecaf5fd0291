"""The first two stages: read and split the data; check that the two models fit it and the method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from understudy import build
from understudy.data.load import load_splits
from understudy.errors import DataError
from understudy.files import fingerprint_folder, write_json, write_jsonl
from understudy.models.load import head_columns, load_template, resolve
from understudy.pipeline.stages.context import ROLES, Context, as_row, rows_of
from understudy.recipe import Recipe
from understudy.tokens.collate import Collator, ExampleTokenizer, encode_rows
from understudy.tokens.template import Template
from understudy.types import Example


def data(context: Context, _: str) -> dict[str, Any]:
    """Load and split."""
    recipe, folder = context.recipe, context.run.folder / "data"
    context.progress(0, 1, "read")
    splits = load_splits(recipe.data, quarantine_path=folder / "quarantine.jsonl")
    if not splits.test:
        raise DataError("there are no test rows", hint="raise data.test, or give data.test_source")
    if not splits.train:
        raise DataError("there are no training rows with an answer", hint="check data.source and data.gold_share")
    for role in ROLES:
        write_jsonl(folder / f"{role}.jsonl", (as_row(example) for example in getattr(splits, role)))
    write_json(folder / "notes.json", dict(splits.notes))
    return {"rows": {role: len(getattr(splits, role)) for role in ROLES}}


def pair(context: Context, _: str) -> dict[str, Any]:
    """Check that the two models fit the method and the rows, before any weight is loaded."""
    recipe = context.recipe
    student = load_template(recipe.student)
    teacher = load_template(recipe.teacher) if recipe.teacher else None
    if teacher and build.learns_from_signal(recipe):
        columns = (head_columns(recipe.student), head_columns(recipe.local_teacher))
        build.check_pair(recipe, student, teacher, columns)
    context.progress(0, 1, "check")
    check_rows(recipe, {role: rows_of(context.run, role) for role in ROLES}, student, teacher)
    tokenizers = {"student tokenizer": student.notes} | ({"teacher tokenizer": teacher.notes} if teacher else {})
    return {"tokenizers": tokenizers, "models": model_folders(recipe)}


def check_rows(
    recipe: Recipe, rows: Mapping[str, Sequence[Example]], student: Template, teacher: Template | None
) -> None:
    """Render every row for both models, so that what cannot be rendered stops the run now and not after hours.

    Raises:
        DataError: a question is too long for `data.max_length`; the row is named.
        ModelError: the method compares token by token, and the two templates make different tokens of one answer.
    """
    ours, theirs = ExampleTokenizer(student, recipe.data), ExampleTokenizer(teacher, recipe.data) if teacher else None
    for examples in rows.values():
        for example in examples:
            ours.prompt_ids(example)
            if theirs:
                theirs.prompt_ids(example)
    same = recipe.distil.one_vocabulary
    if teacher and same and {"distilled", "kd_gold"} & set(recipe.evaluate.arms):
        pads: list[Any] = [template.tokenizer.pad_token_id for template in (student, teacher)]
        Collator(*pads)(encode_rows(rows["train"][:32], ours, theirs))


def model_folders(recipe: Recipe) -> list[dict[str, str]]:
    """The folders that the two models come from, with their fingerprints; a model of the hub has none."""
    folders = {Path(resolve(config.model)) for config in (recipe.teacher, recipe.student) if config}
    return [
        {"folder": str(folder.resolve()), "fingerprint": fingerprint_folder(folder)}
        for folder in sorted(folders)
        if folder.is_dir()
    ]
