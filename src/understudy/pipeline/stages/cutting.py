"""The stage that cuts the student from its teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from understudy.models.cut import Kept, choose, cut_model, start_of
from understudy.models.load import load_example_tokenizer, load_model, num_parameters
from understudy.pipeline.stages.context import Context, rows_of, teacher_weights
from understudy.recipe import CutConfig
from understudy.records import CutNotes
from understudy.tokens.collate import ExampleTokenizer, encode_rows, move
from understudy.training.session import save_model
from understudy.types import Example, Tokens


def cut(context: Context, _: str) -> CutNotes:
    """Measure on training rows what may go, cut, and see on other rows how the student begins."""
    recipe, config = context.recipe, context.recipe.local_teacher
    shape = recipe.student.from_teacher
    assert shape is not None
    context.progress(0, 1, "load")
    weights = teacher_weights(context.run, recipe)
    teacher = load_model(config, context.device, weights=weights, seed=config.seed_or(recipe.seed)).eval()
    tokenizer = load_example_tokenizer(config, recipe.data, weights=weights)
    measured, others = rows_to_measure(shape, rows_of(context.run, "train"), rows_of(context.run, "dev"))
    context.progress(0, 1, "measure")
    kept = choose(teacher, shape, single_rows(tokenizer, measured, context.device))
    student = cut_model(teacher, kept)
    start = start_of(student, teacher, single_rows(tokenizer, others, context.device))
    save_model(student, tokenizer.template, context.folder / "model")
    return CutNotes(
        kept.blocks,
        sizes_of(kept),
        num_parameters(student),
        num_parameters(teacher),
        start.perplexity,
        start.teacher_perplexity,
        start.agreement,
        start.tokens,
    )


def rows_to_measure(
    shape: CutConfig, train: Sequence[Example], dev: Sequence[Example]
) -> tuple[Sequence[Example], Sequence[Example]]:
    """Rows on which importance is measured, and others to judge the student by, as far as there are others."""
    measured = train[: shape.rows]
    return measured, (dev or train[shape.rows :] or measured)[: shape.rows]


def single_rows(tokenizer: ExampleTokenizer, examples: Sequence[Example], device: torch.device) -> list[Tokens]:
    """What the teacher eats of each row by itself."""
    pad: Any = tokenizer.template.tokenizer.pad_token_id
    rows = [row.student for row in encode_rows(examples, tokenizer)]
    return [move(type(row).batched([row], pad), device) for row in rows]


def sizes_of(kept: Kept) -> dict[str, int]:
    """How wide what stays is, where it was cut."""
    sizes = {"width": kept.channels, "heads": kept.heads and kept.heads[0][0], "mlp": kept.neurons and kept.neurons[0]}
    return {name: len(indices) for name, indices in sizes.items() if indices is not None and len(indices)}
