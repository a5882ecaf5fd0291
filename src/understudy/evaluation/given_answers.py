"""From what a tool wrote to the answer that is scored: without its thought, its final answer, the option it names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from understudy.data.benchmark_formats import UNANSWERABLE
from understudy.data.option_mentions import folded
from understudy.evaluation.answer_tables import Item, named_options
from understudy.evaluation.final_answers import Extract, final_answers
from understudy.tokens.thoughts import has_thought, without_thought

_SOLUTION = re.compile(r"####|\\boxed\s*\{")


def given_answers(name: str, items: Sequence[Item], marks: Sequence[str] = ()) -> tuple[list[Item], list[str]]:
    """The items of one system as they are scored, and what was done to them, in words.

    An item without a prediction, or with a thought that never ends, is one that the system failed on: an empty answer.
    So is one without a final answer, where `marks` ask for one. A right answer without a mark is one already.

    Args:
        name: of the system, for the notes.
        items: its predictions with their right answers.
        marks: of final answers (`final_answers`); none: texts are compared whole.
    """
    notes = [
        *_counted(
            name,
            items,
            [item.prediction is None for item in items],
            "items have no prediction and count as empty answers",
        ),
        *_counted(
            name,
            items,
            [has_thought(item.prediction or "") for item in items],
            "predictions begin with a thought, which does not count",
        ),
    ]
    answered = list(map(_without_thoughts, items))
    if not marks and 2 * sum(_SOLUTION.search(item.prediction or "") is not None for item in answered) > len(items):
        notes.append(
            f"{name}: most predictions mark a final answer (`####` or `\\boxed{{}}`) but are compared whole; "
            "--final-answer takes it out"
        )
    if marks:
        answered, more = _finals(name, answered, final_answers(marks), marks)
        notes += more
    answered, more = _options(name, answered)
    notes += more
    open_items = [item.impossible and item.prediction == "" for item in answered]
    answered = [
        replace(item, prediction=UNANSWERABLE) if is_open and given.prediction is not None else item
        for item, is_open, given in zip(answered, open_items, items, strict=True)
    ]
    impossible = sum(item.impossible for item in items)
    if impossible:
        notes.append(
            f"{name}: {impossible:,} of {len(items):,} questions are left open by their context; there an empty "
            f"prediction, or `{UNANSWERABLE}`, is right"
        )
    return answered, notes


def _counted(name: str, items: Sequence[Item], marked: Sequence[bool], words: str) -> list[str]:
    count = sum(marked)
    return [f"{name}: {count:,} of {len(items):,} {words}"] * bool(count)


def _without_thoughts(item: Item) -> Item:
    references = tuple(without_thought(text) or text for text in item.references)
    return replace(item, prediction=without_thought(item.prediction or "") or "", references=references)


def _finals(name: str, items: Sequence[Item], final: Extract, marks: Sequence[str]) -> tuple[list[Item], list[str]]:
    named = ", ".join(f"`{mark}`" for mark in marks)
    answers = [final(item.prediction or "") for item in items]
    right = [[final(text) for text in item.references] for item in items]
    taken = sum(answer is not None for answer in answers)
    notes = [f"{name}: final answers behind {named} taken out of {taken:,} of {len(items):,} predictions"]
    if taken < len(items):
        notes[0] += "; the others hold none and count as empty answers"
    total, found = sum(map(len, right)), sum(text is not None for texts in right for text in texts)
    if found:
        rest = "; the others are compared whole" if found < total else ""
        notes.append(f"{name}: final answers taken out of {found:,} of {total:,} right answers{rest}")
    return [
        replace(
            item,
            prediction=answer or "",
            place=None,
            references=tuple(f or text for f, text in zip(finals, item.references, strict=True)),
        )
        for item, answer, finals in zip(items, answers, right, strict=True)
    ], notes


def _options(name: str, items: Sequence[Item]) -> tuple[list[Item], list[str]]:
    """Predictions and right answers of multiple-choice items as the texts of the options that they name."""
    ways: Counter[str] = Counter()
    unnamed = 0
    resolved = []
    for item in items:
        if item.choices:
            # Right answers that are options already are not read again: an option `1` may have the label `0`.
            right = [(text,) if text in item.choices else _named(text, item) or (text,) for text in item.references]
            unnamed += sum(texts[0] not in item.choices for texts in right)
            item = replace(item, references=tuple(dict.fromkeys(text for texts in right for text in texts)))
            if item.prediction:
                named = _named(item.prediction if item.place is None else item.place, item)
                ways[_way(item, named)] += 1
                # Several options of which one is right are no right answer.
                item = replace(item, prediction=named[0]) if len(named) == 1 else item
        resolved.append(item)
    notes = []
    if ways:
        how = ", ".join(f"{count:,} {way}" for way, count in sorted(ways.items()) if way)
        notes.append(
            f"{name}: {ways.total() - ways['']:,} of {ways.total():,} answers to multiple-choice items name an option"
            + (f" ({how})" if how else "")
            + (f"; {ways['']:,} name none, or several, and are compared as text" if ways[""] else "")
        )
    if unnamed:
        notes.append(
            f"{name}: {unnamed:,} right answers of multiple-choice items name no option and are compared as text"
        )
    return resolved, notes


def _named(answer: str | int, item: Item) -> tuple[str, ...]:
    return named_options(answer, item.choices, item.labels)


def _way(item: Item, named: Sequence[str]) -> str:
    """How a prediction names its option; empty where it names none, or several."""
    if len(named) != 1:
        return ""
    if item.place is not None:
        return "by place, counted from 0"
    option, text = folded(named[0]), folded(item.prediction or "")
    if text == option:
        return "by its text"
    return "by label and text" if option in text and len(text) > len(option) + 1 else "by number or letter"
