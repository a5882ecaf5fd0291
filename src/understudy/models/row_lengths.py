"""Whether the rows of the data lie within the positions of both models: told before a weight is loaded.

Behind the end of a table a lookup fails in the middle of a training, so such rows are refused. Behind the positions
that rotary ones were learned for everything runs, and the figures are worse for a reason that nobody sees: a warning.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from understudy.data.tasks import PREFIXES, prompt_example
from understudy.errors import DataError, ModelError
from understudy.models.architecture import kind_at
from understudy.models.kinds import ModelKind
from understudy.models.load import resolve
from understudy.models.positions import Positions, positions_of
from understudy.recipe import DataConfig, Recipe
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.types import Example

Row = tuple[Sequence[Example], bool]
"""The forms in which one row is put to a model, and whether the model answers it itself."""


@dataclass(frozen=True)
class RowsBeyond:
    """Rows that take more positions than there are.

    Attributes:
        rows: how many.
        of: rows looked at.
        read: most positions that one of all rows takes of what is read.
        written: the same of what a decoder writes.
    """

    rows: int
    of: int
    read: int
    written: int


def check_positions(
    recipe: Recipe,
    rows: Mapping[str, Sequence[Example]],
    student: ExampleTokenizer,
    teacher: ExampleTokenizer | None,
) -> list[str]:
    """Refuse rows that reach beyond a table of positions, and tell of those beyond what was learned.

    Args:
        recipe: names the two models.
        rows: role → examples.
        student: what turns them into the student's tokens.
        teacher: into the teacher's, where a model of this machine teaches.

    Returns:
        A sentence for each model that some rows reach beyond though they can be run.

    Raises:
        ModelError: some rows take more positions than a model has; the message counts them.
    """
    sentences = []
    for side, config, tokenizer in (("teacher", recipe.teacher, teacher), ("student", recipe.student, student)):
        if config is None or tokenizer is None:
            continue
        piece = (config.pretrain.max_length or recipe.data.max_length) if config.pretrain else 0
        positions = positions_of(config, max(recipe.data.max_length, piece))
        if positions is None:
            continue
        kind = kind_at(config, resolve(config.described_by))
        found = rows_beyond(positions, kind, tokenizer, _rows_of(recipe, rows, side))
        faults = [_of_rows(side, positions, found, kind, recipe.data)] if found.rows else []
        faults += [_of_pieces(side, positions.read, piece)] if positions.read and piece > positions.read else []
        for sentence, hint in faults:
            if positions.in_table:
                raise ModelError(f"{sentence}, and behind the last there is none", hint=f"{hint} would do")
            sentences.append(f"{sentence}, and it was trained for no more; {hint} stays within them")
    return sentences


def rows_beyond(positions: Positions, kind: ModelKind, tokenizer: ExampleTokenizer, rows: Iterable[Row]) -> RowsBeyond:
    """Count the rows that reach beyond the positions of a model.

    Args:
        positions: where they end.
        kind: of the model.
        tokenizer: its own.
        rows: what is put to it. An answer of its own may take `data.max_answer_tokens`. Rows that do not fit into
            `data.max_length` are left out, for they are told of elsewhere.
    """
    quiet = replace(tokenizer, notes={})
    beyond, taken = 0, []
    for forms, answered in rows:
        with suppress(DataError):
            sizes = [kind.row_size(quiet, form, answered=answered) for form in forms]
            read, written = (max(size) for size in zip(*sizes, strict=True))
            taken.append((read, written))
            beyond += _exceeds(read, positions.read) or _exceeds(written, positions.written)
    return RowsBeyond(
        beyond, len(taken), max((read for read, _ in taken), default=0), max((w for _, w in taken), default=0)
    )


def _rows_of(recipe: Recipe, rows: Mapping[str, Sequence[Example]], side: str) -> Iterator[Row]:
    """What one of the two models reads, and what of it that model answers."""
    tasks = PREFIXES if recipe.tasks and (side == "student" or recipe.tasks.logits) else ()
    for role, examples in rows.items():
        # A teacher that answers the gold rows too, or texts of tasks, may take all the room there is.
        answered = role != "train" or bool(tasks) or (side == "teacher" and not recipe.seqkd.keep_gold)
        for example in examples:
            yield [prompt_example(example, task) for task in tasks] or [example], answered


def _exceeds(taken: int, there: int | None) -> bool:
    return there is not None and taken > there


def _of_rows(side: str, positions: Positions, found: RowsBeyond, kind: ModelKind, data: DataConfig) -> tuple[str, str]:
    """What is wrong with the rows, and the fields that would mend it."""
    longest, there, what, answer = found.read, positions.read, "rows", data.max_answer_tokens
    if positions.written is not None and found.written > positions.written:
        longest, there, what = found.written, positions.written, "answers"
        answer -= longest - there
    sentence = (
        f"{found.rows:,} of {found.of:,} {what} take more than the {side}'s {there:,} positions "
        f"(the longest {longest:,} tokens)"
    )
    mended = data.model_copy(update={"max_answer_tokens": answer})
    if positions.read is not None:
        length = min(data.max_length, kind.longest_row(positions.read, mended))
        mended = mended.model_copy(update={"max_length": length})
        if not kind.has_room(mended):
            mended = mended.model_copy(update={"max_answer_tokens": length // 2})
    names = [name for name in ("max_length", "max_answer_tokens") if getattr(mended, name) != getattr(data, name)]
    return sentence, " ".join(f"data.{name}={getattr(mended, name)}" for name in names)


def _of_pieces(side: str, there: int, piece: int) -> tuple[str, str]:
    """The same of the rows that raw text is cut into."""
    return (
        f"{side}.pretrain cuts text into rows of {piece:,} tokens, more than the {side}'s {there:,} positions",
        f"{side}.pretrain.max_length={there}",
    )
