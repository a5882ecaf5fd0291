"""The first two stages: read and split the data; check that the two models fit it and the method."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy import build
from understudy.caching import cached_gives, check_cache, check_new_answers, check_served
from understudy.data.load import load_splits
from understudy.errors import DataError, ModelError, TooLong, UnderstudyError
from understudy.files import fingerprint_folder, write_json, write_jsonl
from understudy.models.architecture import architecture_of, kind_at
from understudy.models.cut import check_shape
from understudy.models.load import head_columns, load_example_tokenizer, resolve
from understudy.models.row_lengths import check_positions
from understudy.pipeline.stages import served
from understudy.pipeline.stages.context import ROLES, Context, as_row, rows_of
from understudy.pipeline.stages.several_teachers import heard_alone, heard_together, other_teachers
from understudy.recipe import Recipe, TeacherConfig
from understudy.recipe.own_arms import for_arm
from understudy.records import DataNotes, ModelFolder, PairNotes
from understudy.teachers.remote import RemoteTeacher
from understudy.tokens.collate import Collator, ExampleTokenizer, encode_rows
from understudy.tokens.misfits import misfit_of, refuse_misfits
from understudy.tokens.template import Template
from understudy.tokens.template_checks import control_notes
from understudy.types import Example, Gives


def data(context: Context, _: str) -> DataNotes:
    """Load and split."""
    recipe, folder = context.recipe, context.run.folder / "data"
    context.progress(0, 1, "read")
    # Which rows fit is asked here only where those that do not are set aside; otherwise the stage `pair` stops at them.
    misfit = misfit_of(tokenizers_of(recipe)) if recipe.data.on_bad_row == "quarantine" else None
    splits = load_splits(recipe.data, quarantine_path=folder / "quarantine.jsonl", misfit=misfit)
    if not splits.test:
        raise DataError("there are no test rows", hint="raise data.test, or give data.test_source")
    if not splits.train:
        raise DataError("there are no training rows with an answer", hint="check data.source and data.gold_share")
    for role in ROLES:
        write_jsonl(folder / f"{role}.jsonl", (as_row(example) for example in getattr(splits, role)))
    write_json(folder / "notes.json", dict(splits.notes))
    rows = {role: len(getattr(splits, role)) for role in ROLES}
    return DataNotes(rows, splits.notes.get("group_by"), tuple(splits.notes.get("remarks", ())) or None)


def tokenizers_of(recipe: Recipe) -> list[ExampleTokenizer]:
    """One for each model that reads the rows: those of the run, and of arms that differ in their student."""
    added = recipe.teachers.added.values() if recipe.teachers else ()
    models = [
        *(recipe.teacher, *(other.loaded_as for other in added)),
        *(variant.student for variant in variants_of(recipe)),
    ]
    distinct = [model for n, model in enumerate(models) if model is not None and model not in models[:n]]
    return [load_example_tokenizer(model, recipe.data) for model in distinct]


def pair(context: Context, _: str) -> PairNotes:
    """Check that the two models fit the method and the rows, before any weight is loaded; for arms of one's own too."""
    rows = {role: rows_of(context.run, role) for role in ROLES}
    context.progress(0, 1, "check")
    variants = variants_of(context.recipe)
    checked = [check_variant(recipe, rows) for recipe in variants]
    served.check_served(context)
    student, teacher = checked[0].student, checked[0].teacher
    tokenizers = {"student tokenizer": student.notes} | ({"teacher tokenizer": teacher.notes} if teacher else {})
    warnings = dict.fromkeys(sentence for pair in checked for sentence in pair.warnings)
    return PairNotes(tokenizers, model_folders(variants), tuple(warnings))


def variants_of(recipe: Recipe) -> list[Recipe]:
    """The recipes by which a run trains: its own, and those of its arms that differ in what is checked here."""
    variants = [recipe]
    for name in recipe.evaluate.arms:
        variant = for_arm(recipe, name)
        if all(_looked_at(variant) != _looked_at(other) for other in variants):
            variants.append(variant)
    return variants


def _looked_at(recipe: Recipe) -> tuple[Any, ...]:
    return recipe.student, recipe.distil, recipe.candidates


@dataclass(frozen=True)
class CheckedPair:
    """Two models that fit a method and the rows.

    Attributes:
        student: speaks to the student.
        teacher: to the teacher, where a model of this machine teaches.
        warnings: what can be run, and should be known before it is.
    """

    student: Template
    teacher: Template | None
    warnings: Sequence[str]


def check_variant(recipe: Recipe, rows: Mapping[str, Sequence[Example]]) -> CheckedPair:
    """Check models, method and rows of one recipe.

    Raises:
        UnderstudyError: see `build` and `check_rows`.
        ModelError: see `check_positions`.
    """
    build.check_adapters(recipe)
    if recipe.student.from_teacher and recipe.teacher:
        check_shape(recipe.student.from_teacher, architecture_of(recipe.teacher, resolve(recipe.teacher.model)))
    student = load_example_tokenizer(recipe.student, recipe.data)
    teacher = load_example_tokenizer(recipe.teacher, recipe.data) if recipe.teacher else None
    build.check_audio(recipe, itertools.chain(*rows.values()), student.template, teacher and teacher.template)
    build.check_student(recipe, student.template)
    build.check_embeds(recipe, student.template, teacher.template if teacher else None)
    if teacher:
        build.check_weighed(recipe, student.template, teacher.template)
    columns = (head_columns(recipe.student), head_columns(recipe.teacher) if recipe.teacher else None)
    build.check_embeddings("student", student.template, columns[0])
    if teacher:
        build.check_embeddings("teacher", teacher.template, columns[1])
    if teacher and recipe.teacher and build.learns_from_signal(recipe):
        gives = _gives(recipe.teacher)
        check_new_answers(recipe)
        check_cache(recipe, teacher.template)
        check_served(recipe)
        gives = heard_together(recipe, teacher.template, rows, cached_gives(recipe, gives))
        build.check_pair(recipe, student.template, teacher.template, columns, gives=gives)
    unseen = build.check_images(recipe, itertools.chain(*rows.values()), student.template, teacher and teacher.template)
    check_rows(recipe, rows, student, teacher)
    warnings = unseen + check_positions(recipe, rows, student, teacher)
    if teacher and recipe.teachers and build.learns_from_signal(recipe):
        warnings += [line for name in recipe.teachers.added for line in check_added(recipe, name, rows, student)]
    for tokenizer in (student, teacher):
        if tokenizer:
            tokenizer.template.notes += control_notes(tokenizer.template, itertools.chain(*rows.values()))
    return CheckedPair(student.template, teacher.template if teacher else None, warnings)


def _gives(teacher: TeacherConfig) -> Gives:
    """What a teacher can say, before it is loaded or asked.

    Raises:
        ModelError: it is on a server, and no causal model.
    """
    kind = kind_at(teacher, resolve(teacher.described_by))
    if not teacher.remote:
        return kind.gives
    if kind.name != "causal":
        raise ModelError(
            f"a teacher on a server is a causal model, and teacher.tokenizer is that of {kind.title}",
            hint="name the tokenizer of the model that is served",
        )
    return RemoteTeacher.can_give


def check_added(
    recipe: Recipe, name: str, rows: Mapping[str, Sequence[Example]], student: ExampleTokenizer
) -> list[str]:
    """Check a teacher whose loss is added as if it were the only one.

    Returns:
        What can be run, and should be known before it is.

    Raises:
        UnderstudyError: as `check_variant`; the message begins with its name.
    """
    try:
        alone, gives = heard_alone(recipe, name)
        teacher = load_example_tokenizer(alone.local_teacher, recipe.data)
        columns = head_columns(recipe.student), head_columns(alone.local_teacher)
        build.check_embeddings("teacher", teacher.template, columns[1])
        check_cache(alone, teacher.template)
        build.check_pair(alone, student.template, teacher.template, columns, gives=cached_gives(alone, gives))
        check_rows(alone, rows, student, teacher)
        return [f"{name}: {line}" for line in check_positions(alone, rows, student, teacher)]
    except UnderstudyError as error:
        error.message = f"teachers.others.{name}: {error.message}"
        raise


def check_rows(
    recipe: Recipe,
    rows: Mapping[str, Sequence[Example]],
    student: ExampleTokenizer,
    teacher: ExampleTokenizer | None,
) -> None:
    """Render every row for both models, so that what cannot be rendered stops the run now and not after hours.

    Raises:
        DataError: a question is too long for `data.max_length`, or a model that points cannot learn an answer; the row
            is named.
        ModelError: the method compares token by token, and the two templates make different tokens of one answer.
    """
    # A teacher that is only asked may be given questions whose gold answers it could not give.
    taught = recipe.teacher is not None and recipe.teacher.sft is not None
    sides = [(student, True)] + ([(teacher, taught or build.reads_logits(recipe))] if teacher else [])
    misfits: dict[str, TooLong] = {}
    for role, examples in rows.items():
        for example in examples:
            for tokenizer, learns in sides:
                try:
                    tokenizer.check(example, learned=learns and role in ("train", "dev"))
                except TooLong as error:
                    misfits[example.id] = max(error, misfits.get(example.id, error), key=lambda e: e.needed)
    refuse_misfits(list(misfits.values()), sum(map(len, rows.values())))
    same = recipe.distil.one_vocabulary
    if teacher and same and build.reads_logits(recipe):
        pads: list[Any] = [side.template.tokenizer.pad_token_id for side in (student, teacher)]
        Collator(*pads)(encode_rows(rows["train"][:32], student, teacher))


def model_folders(recipes: Sequence[Recipe]) -> tuple[ModelFolder, ...]:
    """The folders and files that the models come from, with their fingerprints; a model of the hub has none."""
    configs = [config for recipe in recipes for config in (recipe.teacher, recipe.student) if config]
    folders = {Path(resolve(config.described_by)) for config in configs} | other_teachers(recipes[0])
    return tuple(
        ModelFolder(str(folder.resolve()), fingerprint_folder(folder)) for folder in sorted(folders) if folder.exists()
    )
