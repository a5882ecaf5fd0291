"""Example answers worth reading: items on which two systems differ most."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from understudy.evaluation.score_rows import chosen_option
from understudy.metrics import score
from understudy.records import Contest, Prediction, RatedAnswer, RatedItem


def disagreements(
    arms: Mapping[str, Sequence[Prediction]],
    *,
    contests: Sequence[tuple[str, str]],
    limit: int = 3,
    seed: int = 0,
) -> list[Contest]:
    """Pick examples for each contest (better system, worse system): the items where the one's answer is better by most.

    Quality is token F1 of the written answer, or right/wrong of the chosen option. Among equals the pick is random, so
    nobody chose the examples.

    Returns:
        The contests that have both arms.
    """
    tables = {arm: {row.id: row for row in rows if row.references} for arm, rows in arms.items()}
    shared = list(dict.fromkeys(key for table in tables.values() for key in table))
    shared = [key for key in shared if all(key in table for table in tables.values())]
    if not shared:
        return []
    answers = {arm: {key: _answer(table[key]) for key in shared} for arm, table in tables.items()}
    quality = {arm: _quality(tables[arm], answers[arm]) for arm in tables}
    entries = []
    for better, worse in contests:
        if better not in tables or worse not in tables:
            continue
        lead = {key: quality[better][key] - quality[worse][key] for key in shared}
        candidates = [key for key in shared if lead[key] > 0]
        count = len(candidates)
        random.Random(seed).shuffle(candidates)
        candidates.sort(key=lambda key: -lead[key])
        examples = tuple(
            _rated(tables[better][key], {arm: RatedAnswer(answers[arm][key], quality[arm][key]) for arm in tables})
            for key in candidates[:limit]
        )
        entries.append(Contest(better, worse, count, len(shared), examples))
    return entries


def _rated(row: Prediction, answers: Mapping[str, RatedAnswer]) -> RatedItem:
    return RatedItem(
        row.id, row.kind, row.gold_fact, row.question, row.context, row.choices, row.references, answers=answers
    )


def _answer(row: Prediction) -> str:
    return row.prediction or chosen_option(row) or ""


def _quality(table: Mapping[str, Prediction], answers: Mapping[str, str]) -> dict[str, float]:
    references = [list(table[key].references) for key in answers]
    values = score(list(answers.values()), references, metrics=["token_f1"])["token_f1"].per_example
    return dict(zip(answers, values, strict=True))
