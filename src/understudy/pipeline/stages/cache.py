"""What the teacher says of the training rows, written down once; the arms that read it train from there."""

from __future__ import annotations

import dataclasses
from typing import Any

from understudy.caching import cache_targets
from understudy.models.load import load_example_tokenizer, load_model
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stages.context import Context, cache_folder, rows_of, teacher_weights
from understudy.pipeline.stages.training import job_of
from understudy.recipe import Recipe
from understudy.recipe.own_arms import for_arm
from understudy.records import CacheNotes
from understudy.run import Run
from understudy.teachers.cache.identity import FILE, check_identity, stored_format, teacher_identity, write_identity
from understudy.teachers.cache.store import Index, is_whole, repair
from understudy.teachers.cache.write import Row, fill, rows_to_read, time_costs
from understudy.teachers.ensemble import shares_of
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import EncodedRow
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.options import OptionsExample


def cache(context: Context, _: str) -> CacheNotes:
    """Write what the cache lacks of the rows that an arm of the run reads the teacher on.

    Raises:
        RunError: the folder holds another teacher's targets, or other targets; what differs is named.
    """
    recipe, device = context.recipe, context.device
    config, folder = recipe.local_teacher, cache_folder(context.run, context.run_recipe)
    assert folder is not None
    context.progress(0, 1, "load")
    weights = teacher_weights(context.run, recipe)
    tokenizer = load_example_tokenizer(config, recipe.data, weights=weights)
    pad_id: Any = tokenizer.template.tokenizer.pad_token_id
    rows = training_rows(context, tokenizer, pad_id)
    model = load_model(config, device, weights=weights, seed=config.seed_or(recipe.seed))
    teacher = LocalTeacher(model)
    targets = cache_targets(context.run_recipe, model, most_candidates(recipe, rows))
    identity = teacher_identity(config, weights, tokenizer.template, device, recipe.seed)
    damage = ""
    if (folder / FILE).is_file():
        targets = check_identity(folder, targets, identity)
        damage = repair(folder, targets.record_bytes).words
    else:
        write_identity(folder, targets, identity)
    costs = time_costs(teacher, rows, targets, pad_id, device)
    note = f"pays after {costs.epochs:.1f} epochs"
    written = fill(folder, targets, teacher, rows, pad_id, device, context.progress, note)
    index = Index(folder, targets.record_bytes)
    tokens = sum(index.places[row.key].count for row in rows)
    return CacheNotes(
        folder=str(folder),
        targets=targets.describe(),
        rows=len(rows),
        written=written,
        target_tokens=tokens,
        bytes_per_token=round(index.bytes / max(index.tokens, 1), 2),
        pays_after_epochs=round(costs.epochs, 2),
        repaired=damage,
    )


def most_candidates(recipe: Recipe, rows: list[Row]) -> int:
    """The most options that a row has, or all labels."""
    sides = (row.row.teacher for row in rows)
    return max([len(recipe.data.labels), *(side.num_options for side in sides if isinstance(side, OptionsExample))])


def reopen_if_damaged(run: Run, recipe: Recipe) -> None:
    """Have the stage go on if its files are no longer what was written, or are gone."""
    folder = cache_folder(run, recipe)
    if folder is None or not run.is_done("cache"):
        return
    notes = run.notes("cache", CacheNotes)
    whole = (folder / FILE).is_file() and is_whole(folder, stored_format(folder).record_bytes)
    if not whole or len(Index(folder, stored_format(folder).record_bytes)) < notes.rows:
        run.reopen("cache")


def training_rows(context: Context, teacher: ExampleTokenizer, pad_id: int) -> list[Row]:
    """Every row on which an arm of the run reads the teacher, as the teacher reads it, once."""
    run_recipe, rows = context.run_recipe, []
    for name in run_recipe.signal_arms:
        recipe = for_arm(run_recipe, name)
        own = dataclasses.replace(context, recipe=recipe, stage=stage_of("train", name))
        student = load_example_tokenizer(recipe.student, recipe.data)
        job = job_of(own, recipe.arm(name))
        rows += [row for item in job.encode(student, teacher, None) for row in item.rows]
    return rows_to_read(_heard(context, rows), pad_id)


def _heard(context: Context, rows: list[EncodedRow]) -> list[EncodedRow]:
    """The rows on which `teacher` counts among several."""
    teachers, run = context.run_recipe.teachers, context.run
    if teachers is None:
        return rows
    shares = shares_of(teachers, [*rows_of(run, "train"), *rows_of(run, "unlabelled")])([row.id for row in rows])
    return [row for row, own in zip(rows, shares[:, 0].tolist(), strict=True) if own > 0]
