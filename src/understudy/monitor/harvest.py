"""From what the student could not do to rows that the next one learns from.

A row needs a reason (the teacher said otherwise, the student was unsure, a user put a thumb down) and the *teacher's*
answer: what a user wrote as the right one is shown to whoever reviews, and learned by nobody. What one client can do to
the rows is bounded: a share of them by key, one of each group of near-duplicates, and nothing near a held-out question.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select

from understudy.errors import DataError
from understudy.files import fingerprint, read_jsonl, write_json, write_jsonl
from understudy.knowledge.near_duplicates import NearDuplicates
from understudy.monitor.signals import agreement
from understudy.monitor.store import MonitorStore
from understudy.monitor.tables import REQUESTS, SHADOWS, THUMBS

DISAGREES, UNSURE, THUMB = "disagreement", "unsure", "thumb"
ROWS, TRAIN, UNLABELLED, TEST, SUMMARY = (
    "candidates.jsonl",
    "train.jsonl",
    "unlabelled.jsonl",
    "test.jsonl",
    "harvest.json",
)
Ask = Callable[[Mapping[str, Any]], str | None]
"""Asks the teacher a row: its answer, or None where it has none."""


@dataclass(frozen=True, slots=True)
class HarvestRules:
    """What is taken.

    Attributes:
        disagreement: agreement below which the student was wrong.
        unsure: confidence below which it was unsure.
        near: Jaccard index of word 3-grams from which two questions are one.
        key_share: of the rows that come from one key, at most.
        most: rows, at most; those with more reasons and less agreement first.
        terms: what the teacher's terms of use say of training on its answers.
        since: requests before this moment are left out, in seconds since 1970.
    """

    disagreement: float = 0.5
    unsure: float = 0.5
    near: float = 0.7
    key_share: float = 0.1
    most: int = 10_000
    terms: str = ""
    since: float = 0.0


@dataclass
class Harvest:
    """What came of it.

    Attributes:
        rows: with the teacher's answer or without, most telling first.
        test: held-out questions with the teacher's answer: never learned.
        dropped: how many were left out, by reason.
        notes: what whoever reviews should know.
    """

    rows: list[dict[str, Any]]
    test: list[dict[str, Any]]
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)


def harvest(store: MonitorStore, rules: HarvestRules, ask: Ask | None = None) -> Harvest:
    """Collect what there is a reason to learn.

    Args:
        store: of a monitor.
        rules: what is taken.
        ask: the teacher, for rows that it has not seen; None: these stay without an answer.
    """
    requests = list(_requests(store, rules))
    result = Harvest([], [])
    held = [row for row in requests if row["held_out"]]
    result.test = [_row(row, [], rules) for row in _distinct(held, rules.near, Counter()) if row["taught"]]
    told = [(row, reasons) for row in requests if not row["held_out"] and (reasons := _reasons(row, rules))]
    told.sort(key=lambda entry: (-len(entry[1]), _or_one(entry[0]["agreement"]), entry[0]["at"]))
    kept = _apart(told, held, rules, result.dropped)
    kept = _by_key(kept, rules, result)[: rules.most]
    for row, _ in kept:
        if ask is not None and not row["taught"]:
            row["taught"] = ask(row) or ""
    result.rows = [_row(row, reasons, rules) for row, reasons in kept]
    return result


def _requests(store: MonitorStore, rules: HarvestRules) -> Iterable[dict[str, Any]]:
    """Requests that were answered, each with the teacher's answer if there is one and the thumbs down."""
    shadow = (SHADOWS.c.answer.label("taught"), SHADOWS.c.agreement, SHADOWS.c.teacher)
    joined = REQUESTS.outerjoin(SHADOWS, SHADOWS.c.request == REQUESTS.c.id)
    query = select(REQUESTS, *shadow).select_from(joined).where(REQUESTS.c.status < 400, REQUESTS.c.question != "")
    query = query.where(REQUESTS.c.at >= rules.since).order_by(REQUESTS.c.at, REQUESTS.c.id)
    with store.reading() as connection:
        thumbs = list(connection.execute(select(THUMBS).where(THUMBS.c.verdict == "down")))
        rows = [dict(row._mapping) for row in connection.execute(query)]
    down: dict[str, list[Any]] = {}
    for thumb in thumbs:
        down.setdefault(thumb.request, []).append(thumb)
    for row in rows:
        # In a cascade the teacher has answered before the user.
        if not row["taught"] and row["decision"] == "asked":
            row |= {"taught": row["answer"], "teacher": "teacher"}
            row["agreement"] = agreement(row["student_answer"], row["answer"]) if row["student_answer"] else None
        yield row | {"thumbs": down.get(row["id"], [])}


def _or_one(value: float | None) -> float:
    return 1.0 if value is None else value


def _reasons(row: Mapping[str, Any], rules: HarvestRules) -> list[str]:
    parted = row["agreement"] is not None and row["agreement"] < rules.disagreement
    unsure = row["confidence"] is not None and row["confidence"] < rules.unsure
    return [name for name, holds in ((DISAGREES, parted), (UNSURE, unsure), (THUMB, bool(row["thumbs"]))) if holds]


Told = list[tuple[dict[str, Any], list[str]]]


def _apart(told: Told, held: Sequence[Mapping[str, Any]], rules: HarvestRules, dropped: Counter[str]) -> Told:
    """One of each group of near-duplicates, and none that is nearly a held-out question."""
    seen, test, kept = NearDuplicates(rules.near), NearDuplicates(rules.near), []
    groups: dict[str, list[str | None]] = {}
    for row in held:
        test.add(row["id"], row["question"])
    for row, reasons in told:
        if _known(test, row):
            dropped["near a held-out question"] += 1
        elif (first := seen.add(row["id"], row["question"])) is not None:
            groups[first].append(row["key"])
            dropped["near-duplicate"] += 1
        else:
            groups[row["id"]] = [row["key"]]
            kept.append((row, reasons))
    for row, _ in kept:
        row["asked"], row["askers"] = len(groups[row["id"]]), len(set(groups[row["id"]]))
    return kept


def _known(texts: NearDuplicates, row: Mapping[str, Any]) -> bool:
    """Whether a text is near one of these; it is not remembered itself."""
    return texts.near(row["id"], row["question"]) is not None


def _distinct(rows: Sequence[dict[str, Any]], near: float, dropped: Counter[str]) -> list[dict[str, Any]]:
    seen = NearDuplicates(near)
    return [row for row in rows if seen.add(row["id"], row["question"]) is None]


def _by_key(told: Told, rules: HarvestRules, result: Harvest) -> Told:
    """No key has more than its share of what is kept; the shares are of the rows that are left at the end."""
    keys = Counter(row["key"] for row, _ in told)
    if set(keys) <= {None}:
        if told:
            result.notes.append("no request came with a key: no client's share could be bounded")
        return told
    most = _most_of_a_key(keys, rules.key_share)
    taken: Counter[str | None] = Counter()
    kept = []
    for row, reasons in told:
        if taken[row["key"]] < most:
            taken[row["key"]] += 1
            kept.append((row, reasons))
        else:
            result.dropped["more than one key's share"] += 1
    for key, number in keys.items():
        if number > most:
            words = f"key {key or 'none'} asked {number} of {len(told)} telling questions; {most} were kept"
            result.notes.append(words)
    return kept


def _most_of_a_key(keys: Mapping[Any, int], share: float) -> int:
    """The largest m with m ≤ share · Σ min(n_k, m), at least 1: with few keys there is no smaller share."""
    for most in range(max(keys.values()), 1, -1):
        if most <= share * sum(min(number, most) for number in keys.values()):
            return most
    return 1


def _row(row: Mapping[str, Any], reasons: Sequence[str], rules: HarvestRules) -> dict[str, Any]:
    """A row of the layout that `data.source` reads, its provenance beside it."""
    value: dict[str, Any] = {
        "id": f"live-{fingerprint([row['question'], row['context']])}",
        "question": row["question"],
    }
    value |= {"answers": [row["taught"]]} if row["taught"] else {}
    value |= {"context": row["context"]} if row["context"] else {}
    value |= {"choices": row["choices"]} if row["choices"] else {}
    suggested = [thumb.correction for thumb in row["thumbs"] if thumb.correction]
    value["provenance"] = {
        "reasons": list(reasons),
        "request": row["id"],
        "asked_at": row["at"],
        "key": row["key"],
        "student_answer": row["student_answer"] or row["answer"],
        "confidence": row["confidence"],
        "agreement": row["agreement"],
        "teacher": (row["teacher"] or "teacher") if row["taught"] else None,
        "terms": rules.terms,
        "asked": row.get("asked", 1),
        "askers": row.get("askers", 1),
        "suggested": suggested,
    }
    return value


def write_harvest(harvested: Harvest, folder: Path, rules: HarvestRules, source: str) -> None:
    """Candidates, test set, summary and review page; nothing is accepted yet."""
    from understudy.monitor.review import review_page

    write_jsonl(folder / ROWS, harvested.rows)
    write_jsonl(folder / TEST, harvested.test)
    summary = {
        "source": source,
        "harvested_at": round(time.time(), 3),
        "candidates": len(harvested.rows),
        "without_answer": sum("answers" not in row for row in harvested.rows),
        "reasons": Counter(reason for row in harvested.rows for reason in row["provenance"]["reasons"]),
        "test": len(harvested.test),
        "dropped": dict(harvested.dropped),
        "notes": harvested.notes,
        "terms": rules.terms,
    }
    write_json(folder / SUMMARY, summary)
    (folder / "review.html").write_text(review_page(harvested.rows, summary), encoding="utf-8")


def accept(folder: Path, decisions: Mapping[str, str] | None) -> tuple[int, int]:
    """Write what was accepted as files that a recipe reads: `train.jsonl`, and `unlabelled.jsonl` without answers.

    Args:
        folder: of a harvest.
        decisions: id -> `accept` or `reject`, as the review page writes them; what is not named is not accepted. None:
            everything.

    Returns:
        Rows with an answer, and without.

    Raises:
        DataError: there is no harvest, or a decision is of none of its rows.
    """
    rows = read_jsonl(folder / ROWS)
    known = {row["id"] for row in rows}
    strange = sorted(set(decisions or ()) - known)
    if strange:
        raise DataError(f"{folder} has no row {strange[0]}", hint="take the decisions of this harvest's review page")
    taken = [row for row in rows if decisions is None or decisions.get(row["id"]) == "accept"]
    for row in taken:
        row["provenance"]["reviewed"] = decisions is not None
    labelled = [row for row in taken if "answers" in row]
    unlabelled = [row for row in taken if "answers" not in row]
    write_jsonl(folder / TRAIN, labelled)
    write_jsonl(folder / UNLABELLED, unlabelled)
    return len(labelled), len(unlabelled)
