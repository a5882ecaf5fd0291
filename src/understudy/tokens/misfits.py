"""Rows whose question no context could make fit: told before anything is trained, so that they can be set aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from understudy.errors import DataError
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.types import Example


def misfit_of(tokenizers: Sequence[ExampleTokenizer]) -> Callable[[Example], str]:
    """A function that says why an example cannot be read by one of these models; empty where all can.

    Contexts are not fitted for it: all that counts is whether the question leaves room for the least of one – or, with
    `data.context_overflow: refuse`, for the whole.
    """

    def misfit(example: Example) -> str:
        for tokenizer in tokenizers:
            whole = tokenizer.data.context_overflow == "refuse" or not example.context
            least = example if whole else replace(example, context=(example.context or "")[:1])
            try:
                tokenizer.check(least, learned=False)
            except DataError as error:
                return error.message.removeprefix(f"{example.id}: ")
        return ""

    return misfit
