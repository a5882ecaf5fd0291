"""A language model rates what people rate, and is set beside them.

It reads what a rater reads – question, options, answer, explanation, the statements of the study – without a method's
name, one explanation at a time. Whether it can stand in for people is the question, construct by construct, and
whether it favours a method that they do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from understudy.errors import DataError
from understudy.files import read_json, write_json
from understudy.metrics.judge_reliability import rating_agreement
from understudy.metrics.judge_session import Case, JudgeSession, Missing, object_schema
from understudy.metrics.significance.agreement import krippendorff_alpha
from understudy.metrics.significance.resampling import Resampling
from understudy.records.base import Record
from understudy.study.config import HIGHEST, LOWEST
from understudy.study.findings import JudgeConstruct, JudgeFindings
from understudy.study.folder import Study
from understudy.study.ratings import QUALITY, Ratings
from understudy.types import Completer

JUDGE = "judge.json"
"""What a judge said of a study's texts, in the study's folder."""
_RESAMPLING = Resampling(draws=1000)

Text = tuple[str, str]
"""Item and method: one explanation."""


@dataclass(frozen=True)
class JudgeRatings(Record):
    """What a judge said of every explanation of a study.

    Attributes:
        judge: its name.
        signature: judge, prompt, version.
        asked: questions put to it.
        missing: explanations without a verdict.
        ratings: rows of item, method, and construct -> rating.
    """

    judge: str
    signature: str
    asked: int
    missing: int
    ratings: tuple[Mapping[str, object], ...]

    def table(self) -> dict[Text, dict[str, float]]:
        """Explanation -> construct -> rating."""
        rows = (dict(row) for row in self.ratings)
        return {
            (str(row.pop("item")), str(row.pop("method"))): {k: float(str(v)) for k, v in row.items()} for row in rows
        }


def judge_study(study: Study, judge: Completer, *, repeats: int = 1) -> JudgeRatings:
    """Have every explanation of a study rated; a rating is the mean over the repeats that have one.

    Args:
        study: whose explanations.
        judge: the language model.
        repeats: how often each is rated.

    Raises:
        DataError: the study is about pairs, or no explanation got a verdict.
    """
    if study.config.pairwise:
        raise DataError("this study asks for preferences, not for ratings", hint="a judge is set beside ratings only")
    texts = [(item.id, method) for item in study.items.values() for method in item.methods]
    session = JudgeSession("rating", judge, len(texts), repeats, "rating")
    names = [construct.name for construct in study.config.constructs]
    scale = {"type": "integer", "minimum": LOWEST, "maximum": HIGHEST}
    schema = object_schema(reason={"type": "string"}, ratings=object_schema(**dict.fromkeys(names, scale)))
    cases: dict[Case, tuple[Mapping[str, object], Mapping[str, object]]] = {
        (number, repeat): (_variables(study, *text), schema)
        for number, text in enumerate(texts)
        for repeat in range(repeats)
    }
    verdicts = session.ask("rating", cases)
    rows = []
    for number, (item, method) in enumerate(texts):
        given = [verdicts[number, repeat] for repeat in range(repeats)]
        said = [verdict["ratings"] for verdict in given if not isinstance(verdict, Missing)]
        if said:
            means = {name: float(np.mean([ratings[name] for ratings in said])) for name in names}
            rows.append({"item": item, "method": method, **means})
    if not rows:
        first = next(verdict for verdict in verdicts.values() if isinstance(verdict, Missing))
        raise DataError(f"no explanation got a verdict: {first.reason}", hint="ask another judge, or raise its limits")
    return JudgeRatings(judge.name, session.signature, len(verdicts), len(texts) - len(rows), tuple(rows))


def _variables(study: Study, item: str, method: str) -> dict[str, object]:
    language, shown = study.config.languages[0], study.items[item]
    text = shown.methods[method]
    return {
        "question": shown.question,
        "context": shown.context,
        "choices": list(shown.choices),
        "answer": text.answer,
        "text": text.text,
        "statements": {construct.name: construct.statement[language] for construct in study.config.constructs},
        "lowest": LOWEST,
        "highest": HIGHEST,
    }


def save_judge(study: Study, said: JudgeRatings) -> Path:
    """Write what a judge said into the study's folder."""
    path = study.folder / JUDGE
    write_json(path, said.to_json())
    return path


def saved_judge(study: Study | None) -> JudgeRatings | None:
    """What a judge said of a study; None where none was asked."""
    if study is None or not (study.folder / JUDGE).is_file():
        return None
    return JudgeRatings.from_json(read_json(study.folder / JUDGE))


def beside_people(said: JudgeRatings, ratings: Ratings) -> JudgeFindings:
    """Set a judge beside people, construct by construct, quality last.

    Args:
        said: what the judge said.
        ratings: what people said.
    """
    table = said.table()
    return JudgeFindings(
        judge=said.judge,
        signature=said.signature,
        asked=said.asked,
        constructs=tuple(_construct(name, table, said, ratings) for name in ratings.outcomes),
    )


def _construct(
    name: str, table: Mapping[Text, Mapping[str, float]], said: JudgeRatings, ratings: Ratings
) -> JudgeConstruct:
    values = ratings.of(name)
    texts = list(zip(ratings.item.tolist(), ratings.method.tolist(), strict=True))
    judged = np.array([_of_judge(table.get(text), name) for text in texts])
    there = ~np.isnan(values) & ~np.isnan(judged)
    rated = list(dict.fromkeys(text for text, ok in zip(texts, there, strict=True) if ok))
    if not rated:
        raise DataError(f"judge and people have no explanation in common ({name})", hint="ask the judge again")
    number = {text: place for place, text in enumerate(rated)}
    place = np.array([number.get(text, -1) for text in texts])[there]
    counts = np.bincount(place)
    people, judge = (np.bincount(place, weights=column[there]) / counts for column in (values, judged))
    agreement = rating_agreement(judge.tolist(), people.tolist())
    rows = np.arange(int(there.sum()))
    return JudgeConstruct(
        construct=name,
        texts=len(rated),
        missing=said.missing,
        spearman=agreement.value,
        low=agreement.low,
        high=agreement.high,
        alpha=krippendorff_alpha(
            np.concatenate([values[there], judged[there]]), np.concatenate([rows, rows]), resampling=_RESAMPLING
        ),
        people_alpha=krippendorff_alpha(values[there], place, resampling=_RESAMPLING),
        bias=float((judge - people).mean()),
        method_bias={
            method: float(np.mean([judge[number[text]] - people[number[text]] for text in rated if text[1] == method]))
            for method in ratings.methods
            if any(text[1] == method for text in rated)
        },
    )


def _of_judge(said: Mapping[str, float] | None, name: str) -> float:
    if said is None:
        return float("nan")
    return float(np.mean(list(said.values()))) if name == QUALITY else said.get(name, float("nan"))
