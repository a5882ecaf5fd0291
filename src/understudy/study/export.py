"""A study's answers as tables: CSV, Parquet, Label Studio.

| table      | a row is                                            |
|------------|-----------------------------------------------------|
| ratings    | one rating of one construct                         |
| raters     | one person, whatever became of the visit            |
| pairs      | one preference                                      |
| simulation | one guess at a method's answer                      |
| comments   | one free text                                       |
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from sqlalchemy import Connection, func, select

from understudy.files import atomic, write_json
from understudy.study.administration import named
from understudy.study.config import HIGHEST
from understudy.study.store import Store
from understudy.study.tables import ATTENTION, PAIRS, RATERS, RATINGS, SIMULATIONS, VISITS

Rows = list[dict[str, Any]]

_RATINGS = ("rater", "item", "method", "construct", "rating", "position", "seconds", "length")
_PAIRS = ("rater", "item", "first", "second", "preferred", "position", "seconds")
_SIMULATION = ("rater", "item", "method", "predicted", "model_answer", "correct", "position")
_COMMENTS = ("rater", "item", "method", "position", "comment")
_RATERS = (
    *("rater", "slot", "status", "excluded", "reason", "attention_passed", "attention_failed"),
    *("comprehension_tries", "started", "finished", "language", "consent"),
)


def table(store: Store, name: str) -> tuple[tuple[str, ...], Rows]:
    """Columns and rows of a table, raters in the order in which they came, then by position.

    Args:
        store: of the study.
        name: ratings, raters, pairs, simulation or comments.
    """
    with store.database.read() as connection:
        return TABLES[name](connection, store)


def _ratings(connection: Connection, store: Store) -> tuple[tuple[str, ...], Rows]:
    joined = RATINGS.join(VISITS, (RATINGS.c.rater == VISITS.c.rater) & (RATINGS.c.item == VISITS.c.item))
    wanted = select(RATINGS, VISITS.c.method, VISITS.c.position, VISITS.c.seconds).select_from(joined)
    order = {construct.name: place for place, construct in enumerate(store.study.config.constructs)}
    rows = [_with_length(row, store) for row in connection.execute(wanted).mappings()]
    rows.sort(key=lambda row: (row["rater"], row["position"], order.get(row["construct"], len(order))))
    return _RATINGS, [{name: row[name] for name in _RATINGS} for row in rows]


def _with_length(row: Mapping[Any, Any], store: Store) -> dict[str, Any]:
    length = store.study.items[row["item"]].methods[row["method"]].length
    return {**row, "rater": named(row["rater"]), "length": length}


def _pairs(connection: Connection, store: Store) -> tuple[tuple[str, ...], Rows]:
    rows = connection.execute(select(PAIRS).order_by(PAIRS.c.rater, PAIRS.c.position)).mappings()
    return _PAIRS, [{**{name: row[name] for name in _PAIRS}, "rater": named(row["rater"])} for row in rows]


def _simulation(connection: Connection, store: Store) -> tuple[tuple[str, ...], Rows]:
    rows = connection.execute(select(SIMULATIONS).order_by(SIMULATIONS.c.rater, SIMULATIONS.c.position)).mappings()
    answers = [{**row, "model_answer": store.study.items[row["item"]].methods[row["method"]].answer} for row in rows]
    return _SIMULATION, [{**{name: row[name] for name in _SIMULATION}, "rater": named(row["rater"])} for row in answers]


def _comments(connection: Connection, store: Store) -> tuple[tuple[str, ...], Rows]:
    source = PAIRS if store.study.config.pairwise else VISITS
    method = (source.c.first if source is PAIRS else source.c.method).label("method")
    wanted = select(source.c.rater, source.c.item, method, source.c.position, source.c.comment)
    rows = [dict(row) for row in connection.execute(wanted.where(source.c.comment != "")).mappings()]
    final = select(RATERS.c.id.label("rater"), RATERS.c.comment).where(RATERS.c.comment != "")
    rows += [{"item": "", "method": "", "position": None, **row} for row in connection.execute(final).mappings()]
    rows.sort(key=lambda row: (row["rater"], row["position"] is None, row["position"] or 0))
    return _COMMENTS, [{**{name: row[name] for name in _COMMENTS}, "rater": named(row["rater"])} for row in rows]


def _raters(connection: Connection, store: Store) -> tuple[tuple[str, ...], Rows]:
    config = store.study.config
    panel = (config.panel.id, *config.panel.parameters) if config.panel else ()
    about = {question.name: question for question in config.demographics}
    checks: dict[tuple[int, bool], int] = {
        (rater, passed): number
        for rater, passed, number in connection.execute(
            select(ATTENTION.c.rater, ATTENTION.c.passed, func.count()).group_by(ATTENTION.c.rater, ATTENTION.c.passed)
        )
    }
    rows = []
    for rater in connection.execute(select(RATERS).order_by(RATERS.c.id)).mappings():
        row = {name: rater[name] for name in ("slot", "status", "excluded", "reason", "consent")}
        row |= {name: _moment(rater[name]) for name in ("started", "finished")}
        row |= {"rater": named(rater["id"]), "comprehension_tries": rater["tries"], "language": rater["language"]}
        row |= {"attention_passed": checks.get((rater["id"], True), 0)}
        row |= {"attention_failed": checks.get((rater["id"], False), 0)}
        row |= dict.fromkeys(panel, "") | rater["panel"] | ({panel[0]: rater["panel_id"] or ""} if panel else {})
        for name, question in about.items():
            place = rater["about"].get(name)
            row[f"about_{name}"] = "" if place is None else question.options[place][config.languages[0]]
        rows.append(row)
    columns = (*_RATERS, *panel, *(f"about_{name}" for name in about))
    return columns, [{name: row[name] for name in columns} for row in rows]


def _moment(seconds: float | None) -> str:
    """A moment in UTC; empty where there was none."""
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


TABLES: Mapping[str, Callable[[Connection, Store], tuple[tuple[str, ...], Rows]]] = {
    "ratings": _ratings,
    "raters": _raters,
    "pairs": _pairs,
    "simulation": _simulation,
    "comments": _comments,
}
"""Name -> the columns and rows of a table."""


def tables_of(store: Store) -> tuple[str, ...]:
    """Tables that the study fills."""
    config = store.study.config
    answers = ("pairs",) if config.pairwise else ("ratings",)
    return (*answers, "raters", *(("simulation",) if config.simulation else ()), "comments")


def as_csv(columns: Sequence[str], rows: Rows) -> str:
    """Rows as CSV. A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def as_parquet(columns: Sequence[str], rows: Rows) -> bytes:
    """Rows as Parquet, texts as they are."""
    import pyarrow as pa
    from pyarrow import parquet

    out = io.BytesIO()
    data = {name: [row[name] for row in rows] for name in columns}
    parquet.write_table(
        pa.table(data) if rows else pa.table({name: pa.array([], pa.string()) for name in columns}), out
    )
    return out.getvalue()


def as_label_studio(store: Store) -> list[dict[str, Any]]:
    """One task an explanation that somebody rated (of pairs: one a pair), one annotation a rater.

    Ratings are `rating`, preferences `choices`; `label_studio_config` has the interface that shows them.
    """
    return _pair_tasks(store) if store.study.config.pairwise else _rating_tasks(store)


def _rating_tasks(store: Store) -> list[dict[str, Any]]:
    tasks: dict[tuple[str, str], dict[str, Any]] = {}
    results: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in table(store, "ratings")[1]:
        item = store.study.items[row["item"]]
        text = item.methods[row["method"]]
        data = {
            "item": item.id,
            "method": row["method"],
            "question": item.question,
            "choices": " | ".join(item.choices),
        }
        task = tasks.setdefault((item.id, row["method"]), {"data": {**data, "answer": text.answer, "text": text.text}})
        result = results.setdefault((item.id, row["method"], row["rater"]), [])
        if not result:
            task.setdefault("annotations", []).append({"result": result, **_annotator(row)})
        value = {"from_name": row["construct"], "to_name": "text", "type": "rating", "value": {"rating": row["rating"]}}
        result.append(value)
    return list(tasks.values())


def _pair_tasks(store: Store) -> list[dict[str, Any]]:
    tasks: dict[tuple[str, str, str], dict[str, Any]] = {}
    for row in table(store, "pairs")[1]:
        item = store.study.items[row["item"]]
        sides = {side: item.methods[row[side]].text for side in ("first", "second")}
        data = {"item": item.id, "method_first": row["first"], "method_second": row["second"], **sides}
        key = (item.id, row["first"], row["second"])
        task = tasks.setdefault(key, {"data": {**data, "question": item.question}, "annotations": []})
        choice = "first" if row["preferred"] == row["first"] else "second"
        result = {"from_name": "preferred", "to_name": "first", "type": "choices", "value": {"choices": [choice]}}
        task["annotations"].append({"result": [result], **_annotator(row)})
    return list(tasks.values())


def _annotator(row: Mapping[str, Any]) -> dict[str, Any]:
    """Whose annotation it is. Label Studio knows its own users alone, so the rater stands in `meta`."""
    meta = {"rater": row["rater"], "position": row["position"]}
    return {"meta": meta, **({"lead_time": row["seconds"]} if row["seconds"] is not None else {})}


def label_studio_config(store: Store) -> str:
    """The labelling interface that goes with the tasks, as XML."""
    config = store.study.config
    if config.pairwise:
        fields = '  <Text name="first" value="$first"/>\n  <Text name="second" value="$second"/>\n'
        fields += '  <Choices name="preferred" toName="first" choice="single">\n'
        fields += '    <Choice value="first"/>\n    <Choice value="second"/>\n  </Choices>\n'
        return f'<View>\n  <Header value="$question"/>\n{fields}</View>\n'
    language = config.languages[0]
    head = (
        '  <Header value="$question"/>\n  <Text name="answer" value="$answer"/>\n  <Text name="text" value="$text"/>\n'
    )
    ratings = "".join(
        f"  <Header value={quoteattr(construct.statement[language])}/>\n"
        f'  <Rating name="{construct.name}" toName="text" maxRating="{HIGHEST}"/>\n'
        for construct in config.constructs
    )
    return f"<View>\n{head}{ratings}</View>\n"


def export(store: Store, folder: Path, form: str) -> list[Path]:
    """Write a study's answers.

    Args:
        store: of the study.
        folder: where the files go.
        form: csv, parquet or labelstudio.

    Returns:
        The files.

    Raises:
        RunError: the folder cannot be written.
    """
    if form == "labelstudio":
        tasks, interface = folder / "labelstudio.json", folder / "labelstudio.xml"
        write_json(tasks, as_label_studio(store))
        with atomic(interface) as handle:
            handle.write(label_studio_config(store))
        return [tasks, interface]
    return [_write(folder / f"{name}.{form}", *table(store, name)) for name in tables_of(store)]


def _write(path: Path, columns: Sequence[str], rows: Rows) -> Path:
    parquet = path.suffix == ".parquet"
    with atomic(path, "wb") as handle:
        handle.write(as_parquet(columns, rows) if parquet else as_csv(columns, rows).encode())
    return path
