"""Is a rationale any good: reasons to reject single texts, and figures on all of them for the report.

All of it works on words and needs no model. What it cannot tell is whether a rationale is true.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Iterator, Sequence

from understudy.data.option_mentions import is_right
from understudy.data.tasks import split_answer
from understudy.knowledge import steps as _steps  # noqa: F401  (registers them)
from understudy.knowledge.near_duplicates import NearDuplicates
from understudy.knowledge.step import is_rationale
from understudy.knowledge.store import read_step, step_path, write_step
from understudy.knowledge.text_checks import check_text
from understudy.knowledge.votes import ANSWER, stated_answer, votes
from understudy.recipe.knowledge import FilterConfig
from understudy.types import Example, Knowledge

COUNTERFACTUAL, EXPLAIN_BLIND = "counterfactual", "explain_blind"


class Filter:
    """Decides which texts are kept, example by example, in the order in which examples come.

    Judged are rationales and counterfactuals. Critiques, answers and whatever else are means to an end and stay.
    """

    def __init__(self, config: FilterConfig) -> None:
        """Start with no text seen.

        Args:
            config: what is rejected.
        """
        self._config = config
        self._seen: dict[str, NearDuplicates] = {}

    def apply(self, example: Example, rows: Sequence[Knowledge]) -> list[Knowledge]:
        """All rows of one example, judged again: reasons that this filter gave before are replaced.

        The steps `answer` and `explain_blind` among the rows are the evidence on what the teacher makes of a
        rationale, so an example's rows must come together.
        """
        return [self.judged(row, example, rows) for row in rows]

    def remember(self, row: Knowledge) -> None:
        """Compare later texts with this one, which was judged in an earlier run."""
        if row.kept and row.text is not None and is_judged(row) and self._config.near_duplicate is not None:
            kept_texts = self._seen.setdefault(row.step, NearDuplicates(self._config.near_duplicate))
            kept_texts.add(row.id, split_answer(row.text)[0])

    def judged(self, row: Knowledge, example: Example, rows: Sequence[Knowledge]) -> Knowledge:
        """One row with its reasons; `rows` are the example's, as evidence."""
        if row.text is None or not is_judged(row):
            return row
        row_reasons = [reason for reason in row.reasons if reason.split(":")[0] not in REASONS]
        row_reasons += reasons(row, example, self._config, rows)
        if not row_reasons and self._config.near_duplicate is not None:
            kept_texts = self._seen.setdefault(row.step, NearDuplicates(self._config.near_duplicate))
            earlier = kept_texts.add(row.id, split_answer(row.text)[0])
            row_reasons += [] if earlier is None else [f"near-duplicate: of {earlier}"]
        return dataclasses.replace(row, reasons=tuple(row_reasons))


def is_judged(row: Knowledge) -> bool:
    """Whether a row is a rationale or a counterfactual."""
    return _is_judged_step(row.step)


def _is_judged_step(step: str) -> bool:
    return is_rationale(step) or step == COUNTERFACTUAL


REASONS = ("empty", "short", "long", "restates", "answer", "votes", "near-duplicate")
"""What stands before the colon of a reason that is given here."""


def reasons(row: Knowledge, example: Example, config: FilterConfig, rows: Iterable[Knowledge] = ()) -> tuple[str, ...]:
    """Why a text is not to be learned from, all but near-duplicates, which only `Filter` can tell; empty: it may be.

    Each reason is a word of `REASONS`, a colon and a clause with the figure.

    Args:
        row: a rationale or a counterfactual with its text.
        example: the row's.
        config: the limits.
        rows: the other rows of the example, as evidence; where a limit has no evidence it rejects nothing.
    """
    checks = check_text(row, example)
    if not checks.words:
        return ("empty: there is no word in it",)
    rejections = []
    if checks.words < config.min_words:
        rejections.append(f"short: {checks.words} words, fewer than {config.min_words}")
    if config.max_words is not None and checks.words > config.max_words:
        rejections.append(f"long: {checks.words} words, more than {config.max_words}")
    if config.restates is not None and checks.restates >= config.restates:
        rejections.append(f"restates: {checks.restates:.2f} of its words are the question's and the answer's")
    return (*rejections, *_by_answers(row, example, config, list(rows)))


def _by_answers(row: Knowledge, example: Example, config: FilterConfig, rows: list[Knowledge]) -> Iterator[str]:
    """Reasons that the teacher's own answers give."""
    if not example.labelled:
        return
    counted = votes(rows, example)
    if config.leads_to_answer and row.choice is None:
        leads, source = _leads(row, example, rows)
        if leads is False:
            yield f"answer: {source} is not the gold one"
    if counted.num and counted.right_share < config.min_votes:
        yield f"votes: {counted.right} of {counted.num} for the gold answer"


def _leads(row: Knowledge, example: Example, rows: list[Knowledge]) -> tuple[bool | None, str]:
    """Whether the teacher gets from a rationale to the gold answer, and by which evidence.

    The text's own answer counts first, then the majority of the answers that were asked for with a rationale at hand,
    then the answer of a rationale for which the gold answer was hidden.
    """
    stated = stated_answer(row)
    if stated is not None:
        return is_right(stated, example), "its own answer"
    counted = votes(rows, example)
    if counted.num:
        return counted.majority is not None and is_right(counted.majority, example), "the teacher's answer"
    blind = [answer for other in rows if other.step == EXPLAIN_BLIND and (answer := stated_answer(other)) is not None]
    return (is_right(blind[-1], example) if blind else None), "the teacher's answer without help"


def sift(
    folder: str | os.PathLike[str], steps: Sequence[str], examples: Iterable[Example], config: FilterConfig
) -> None:
    """Judge the rows that lie in a folder and write their reasons beside them; asks nothing, and can be done again.

    Args:
        folder: of the rows (`knowledge/store.py`).
        steps: whose files may be there; rationales and counterfactuals among them are judged, the others stay.
        examples: with choices and gold answers; rows of no example stay as they are.
        config: what is rejected.

    Raises:
        DataError: a line is no row of knowledge.
        RunError: the folder cannot be written.
    """
    examples_by_id = {example.id: example for example in examples}
    evidence: dict[str, list[Knowledge]] = {}
    for step in {ANSWER, EXPLAIN_BLIND} & set(steps):
        for row in read_step(folder, step):
            evidence.setdefault(row.id, []).append(row)
    row_filter = Filter(config)
    for step in steps:
        if _is_judged_step(step) and step_path(folder, step).is_file():
            rows = read_step(folder, step)
            write_step(
                folder,
                step,
                (
                    row_filter.judged(r, examples_by_id[r.id], evidence.get(r.id, ())) if r.id in examples_by_id else r
                    for r in rows
                ),
            )


def filtered(
    rows_of_examples: Iterable[tuple[Example, Sequence[Knowledge]]], config: FilterConfig
) -> Iterator[tuple[Example, list[Knowledge]]]:
    """`Filter.apply` along a stream of examples with their rows."""
    row_filter = Filter(config)
    for example, rows in rows_of_examples:
        yield example, row_filter.apply(example, rows)


def by_example(rows: Iterable[Knowledge], examples: Iterable[Example]) -> Iterator[tuple[Example, list[Knowledge]]]:
    """Rows put to their examples, in the order of the examples; rows of no example are left out."""
    examples = list(examples)
    rows_by_id: dict[str, list[Knowledge]] = {example.id: [] for example in examples}
    for row in rows:
        if row.id in rows_by_id:
            rows_by_id[row.id].append(row)
    for example in examples:
        yield example, rows_by_id[example.id]
