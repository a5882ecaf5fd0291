"""What of the written texts a student learns: those that were kept, put to their examples."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from understudy.completers.faults import Fault
from understudy.completers.response_parsing import read_value
from understudy.data.tasks import WithRationales
from understudy.errors import DataError
from understudy.knowledge.step import Skip
from understudy.knowledge.steps import NEW_QUESTION, wrong_choices
from understudy.knowledge.store import read_step
from understudy.recipe.knowledge import OF_DATA
from understudy.types import Example


def with_rationales(
    examples: Iterable[Example],
    folder: str | os.PathLike[str],
    step: str,
    *,
    paraphrases: bool = False,
    new_questions: bool = False,
) -> list[WithRationales]:
    """Put the kept rows of a folder to their examples, in the order of the examples.

    Of several kept texts of one example the first is taken. A text for an option that is, or reads like, the gold one
    is left out, whoever wrote it. Nothing stands in for what is missing: where `step` is `revise`, an example without a
    kept revision has no rationale, though its explanation may be there. `coverage` counts them.

    Args:
        examples: all to be trained on.
        folder: of the rows.
        step: whose texts are the rationales; `data`: those that the examples bring along.
        paraphrases: also the questions in other words.
        new_questions: also the further questions, as the teacher answered them.
    """
    rationales: dict[str, str | None] = {}
    for row in read_step(folder, step):
        if row.kept and row.choice is None:
            rationales.setdefault(row.id, row.text)
    counterfactuals: dict[str, dict[int, str]] = {}
    for row in read_step(folder, "counterfactual"):
        if row.kept and row.choice is not None and row.text is not None:
            counterfactuals.setdefault(row.id, {}).setdefault(row.choice, row.text)
    reworded = _kept_texts(folder, "paraphrase") if paraphrases else {}
    further = _kept_texts(folder, "new_questions") if new_questions else {}
    return [
        WithRationales(
            example,
            next(iter(example.rationales), None) if step == OF_DATA else rationales.get(example.id),
            _without_gold(example, counterfactuals.get(example.id, {})),
            tuple(reworded.get(example.id, ())),
            tuple(new_question(example, text) for text in further.get(example.id, ())),
        )
        for example in examples
    ]


def new_question(example: Example, text: str) -> Example:
    """The question that the step `new_questions` wrote by an example: over the same context, the teacher's answer.

    Raises:
        DataError: it is no such question.
    """
    try:
        value = read_value(text, NEW_QUESTION)
    except Fault as fault:
        raise DataError(f"{example.id}: no question of the step new_questions: {fault}") from fault
    return replace(
        example,
        id=f"{example.id}/new_questions",
        question=value["question"].strip(),
        choices=tuple(value["choices"]),
        answers=(value["answer"].strip(),),
        rationales=(),
        origin="teacher",
        meta={},
    )


def _kept_texts(folder: str | os.PathLike[str], step: str) -> dict[str, list[str]]:
    """Example → its kept texts of a step, in the order of the file, each once."""
    texts: dict[str, list[str]] = {}
    for row in read_step(folder, step):
        if row.kept and row.text and row.text not in texts.setdefault(row.id, []):
            texts[row.id].append(row.text)
    return texts


def _without_gold(example: Example, texts: Mapping[int, str]) -> dict[int, str]:
    # Rows that were recorded elsewhere may argue for the gold option.
    return {place: texts[place] for place in sorted(_wrong_choices(example) & texts.keys())} if texts else {}


def coverage(rows: Sequence[WithRationales]) -> dict[str, int]:
    """How many examples have what: a rationale, counterfactuals for all wrong options, for some, for none."""
    complete = [len(row.counterfactuals) == len(_wrong_choices(row.example)) for row in rows]
    return {
        "examples": len(rows),
        "with_rationale": sum(row.rationale is not None for row in rows),
        "without_rationale": sum(row.rationale is None for row in rows),
        "counterfactuals": sum(len(row.counterfactuals) for row in rows),
        "with_all_counterfactuals": sum(
            done and bool(row.counterfactuals) for done, row in zip(complete, rows, strict=True)
        ),
    }


def _wrong_choices(example: Example) -> set[int]:
    try:
        return set(wrong_choices(example))
    except Skip:
        return set()
