"""Rows whose question no context could make fit: told before anything is trained, so that they can be set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from understudy.errors import DataError, TooLong
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.types import Example


def misfit_of(tokenizers: Sequence[ExampleTokenizer]) -> Callable[[Example], str]:
    """A function that says why an example cannot be read by one of these models; empty where all can.

    Contexts are not fitted for it: all that counts is whether the question leaves room for the least of one – or, with
    `data.context_overflow: refuse`, for the whole.
    """

    def misfit(example: Example) -> str:
        error = _too_long(example, tokenizers)
        return "" if error is None else error.message.removeprefix(f"{example.id}: ")

    return misfit


def refuse_misfits(errors: Sequence[TooLong], num_rows: int) -> None:
    """Stop at rows that do not fit – at all of them at once, with what would help, not at one a try.

    Raises:
        TooLong: some rows do not fit; one speaks for itself, several are counted.
    """
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise TooLong(misfits_text(errors, num_rows), needed=max(error.needed for error in errors), hint=_ADVICE)


def split_misfits(
    examples: Sequence[Example], tokenizers: Sequence[ExampleTokenizer]
) -> tuple[list[Example], list[str]]:
    """The rows that fit, and a note about the others where there are any."""
    errors = [_too_long(example, tokenizers) for example in examples]
    fitting = [example for example, error in zip(examples, errors, strict=True) if error is None]
    misfits = [error for error in errors if error is not None]
    return fitting, [f"{misfits_text(misfits, len(examples))}: {_ADVICE}"] if misfits else []


def misfits_text(errors: Sequence[DataError], num_rows: int) -> str:
    """How many rows do not fit, and which `data.max_length` would do."""
    needed = max((error.needed for error in errors if isinstance(error, TooLong)), default=0)
    enough = f"; data.max_length={needed} would do for all" if needed else ""
    return f"{len(errors):,} of {num_rows:,} rows do not fit{enough} (the first: {errors[0].message})"


_ADVICE = "raise data.max_length, or set data.on_bad_row to quarantine, which sets them aside"


def _too_long(example: Example, tokenizers: Sequence[ExampleTokenizer]) -> DataError | None:
    worst: DataError | None = None
    for tokenizer in tokenizers:
        whole = tokenizer.data.context_overflow == "refuse" or not example.context
        least = example if whole else replace(example, context=(example.context or "")[:1])
        try:
            tokenizer.check(least, learned=False)
        except DataError as error:
            if worst is None or getattr(error, "needed", 0) > getattr(worst, "needed", 0):
                worst = error
    return worst
