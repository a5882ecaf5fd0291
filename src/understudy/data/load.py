"""From a recipe's `data` section to `Splits`: read, adapt, set bad rows aside, cut.

Nothing is lost on the way: rows read = examples + bad rows, and the notes say both.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from understudy.data import recordings
from understudy.data.columns import (
    OF_CATALOGUE,
    cannot_tell,
    check_columns,
    column_names,
    column_notes,
    guess,
    guessed,
    no_column,
    own_name,
    rename,
    renamed,
)
from understudy.data.corpus import corpus_of
from understudy.data.embedded import PREFIX, load_embedded
from understudy.data.formats import FORMATS, Format, detect
from understudy.data.groups import (
    GroupedCut,
    Grouping,
    cut_by_groups,
    cut_keys,
    group_notes,
    grouping_of,
    sharing_remarks,
)
from understudy.data.pictures import located
from understudy.data.read import Source, read_source
from understudy.data.rows import BadRow, Row, dump_raw
from understudy.data.session_split import all_sessions, cut_sessions
from understudy.data.sessions import Item, catalogue_items
from understudy.data.split import count_duplicates, normalised, refuse_leaks, take_share, unlabel, withhold
from understudy.errors import DataError, shortened, unknown
from understudy.files import atomic, fingerprint_tree
from understudy.recipe import DataConfig
from understudy.types import Example, Splits

SOURCE = "source"
"""The field of a row that says which of `data.sources` it comes from."""
MAX_CHARACTERS = 1_000_000
"""Longest question, answer, option or turn: no model reads it, and to count its tokens takes seconds."""
MAX_CONTEXT_CHARACTERS = 5_000_000
"""Longest context, more than a long novel; a window is taken out of it."""
_MAX_RAW = 100_000


class Fault(NamedTuple):
    """A bad row: where it stands, which field is wrong, why, and the row as it was read."""

    where: str
    field: str
    reason: str
    row: Any

    def __str__(self) -> str:
        return f"{self.where}: {self.field + ': ' if self.field else ''}{self.reason}"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one source gave.

    Attributes:
        examples: its sound rows.
        faults: its bad rows.
        format: the layout that they were read by.
        fingerprint: of its bytes.
        blemishes: what was looked past in sound rows because its meaning is plain -> in how many.
        columns: what became of its columns, as `column_notes` says it.
        rows: the raw row of each example, columns under our names.
        places: where each example stands among all rows, counted from 0.
    """

    examples: tuple[Example, ...]
    faults: tuple[Fault, ...]
    format: str
    fingerprint: str
    blemishes: Mapping[str, int] = field(default_factory=dict)
    columns: Mapping[str, str] = field(default_factory=dict)
    rows: tuple[Row, ...] = ()
    places: tuple[int, ...] = ()


def load_splits(
    config: DataConfig, *, quarantine_path: Path | None = None, misfit: Callable[[Example], str] | None = None
) -> Splits:
    """Everything a run needs of its data.

    Args:
        config: the `data` section of a recipe.
        quarantine_path: where bad rows go with `on_bad_row: quarantine`; without it they are only counted.
        misfit: why the models cannot read an example, empty where they can; such a row is a bad row.

    Returns:
        The four roles. `notes` holds `rows_read`, `quarantined`, `bad_rows` (the first ten in words), `duplicates`
        (groups, and rows beyond the first of each), `sizes`, `sources` (name, role, format, rows, fingerprint), and
        whatever else was done (`ids_prefixed`, `answers_withheld`, `rows_left_out`, `group_by`), looked past
        (`blemishes`) or has to be known to judge figures (`remarks`, sentences).

    Raises:
        DataError: a source is absent or empty, a row is bad (with `on_bad_row: error`), an id stands twice, or a
            split made by hand shares questions with training.
        ConfigError: an unknown format, embedded set, column name or `group_by`.
    """
    corpus_of(config.corpus)  # What is wrong with it is told now, not when it is searched.
    if not config.sources and config.source.startswith(PREFIX):
        return _with_sizes(_shared_out(config, load_embedded(config)))
    readings = {
        role: read_examples(config, name, labelled=role != "unlabelled", role=role, misfit=misfit)
        for role, name in config.files.items()
    }
    _handle_faults(config, readings, quarantine_path)
    readings, prefixed = _distinct_ids(_with_names(config, readings))
    rows = {"source": tuple(example for name in config.training_files for example in readings[name].examples)}
    rows |= {role: reading.examples for role, reading in readings.items() if role not in config.training_files}
    shares = {"dev": 0.0 if "dev" in rows else config.dev, "test": 0.0 if "test" in rows else config.test}
    everything = [example for examples in rows.values() for example in examples]
    grouping = grouping_of(config.group_by, everything)
    (train, dev, test), remarks = _cut(config, rows, grouping, shares)
    held_out = {"dev": rows.get("dev", dev), "test": rows.get("test", test)}
    questions = rows.get("unlabelled", ())
    if len(rows) > 1:
        refuse_leaks(held_out, (*train, *questions))
    remarks += sharing_remarks(held_out, (*train, *questions), grouping)
    train, withheld = withhold(train, gold_share=config.gold_share or 1.0, seed=config.seed)
    notes = _notes(config, readings) | ({"ids_prefixed": prefixed} if prefixed else {})
    notes |= {"answers_withheld": len(withheld)} if withheld else {}
    notes |= group_notes(everything, grouping) | ({"remarks": list(remarks)} if remarks else {})
    splits = Splits(train, (*withheld, *questions), held_out["dev"], held_out["test"], notes)
    splits = _shared_out(config, splits, grouping)
    parts = (splits.train, splits.unlabelled, splits.dev, splits.test)
    train, unlabelled, dev, test = (tuple(map(grouping.with_name, part)) for part in parts)
    normalised.cache_clear()
    return _with_sizes(Splits(train, unlabelled, dev, test, splits.notes))


def _with_names(config: DataConfig, readings: Mapping[str, Reading]) -> dict[str, Reading]:
    """The readings, the rows of each of `data.sources` with its name as their field `source`.

    Raises:
        DataError: one of these files has such a field already.
    """
    named = {}
    for name in config.sources:
        if any(SOURCE in example.meta for example in readings[name].examples):
            raise DataError(
                f"{config.sources[name]} has a field {SOURCE!r} of its own, and data.sources names its rows so",
                hint="rename that column in the file",
            )
        rows = (replace(example, meta={**example.meta, SOURCE: name}) for example in readings[name].examples)
        named[name] = replace(readings[name], examples=tuple(rows))
    return {**readings, **named}


def _cut(
    config: DataConfig, rows: Mapping[str, Sequence[Example]], grouping: Grouping, shares: Mapping[str, float]
) -> GroupedCut:
    """The rows of `source` in their roles: sessions as published or by length, all others by their groups."""
    if grouping.kind == "question" and all_sessions(rows["source"]):
        published = config.published_split and rows.keys().isdisjoint({"dev", "test"})
        return cut_sessions(rows["source"], seed=config.seed, published=published, **shares)
    return cut_by_groups(rows["source"], grouping, seed=config.seed, **shares)


def _shared_out(config: DataConfig, splits: Splits, grouping: Grouping | None = None) -> Splits:
    """The splits with the share of training rows and unlabelled questions that the recipe uses."""
    if config.train_share == 1:
        return splits
    learned = (*splits.train, *splits.unlabelled)
    keys = cut_keys(learned, grouping or grouping_of(config.group_by, learned))
    train, unlabelled = take_share(
        splits.train, splits.unlabelled, share=config.train_share, seed=config.seed, keys=keys
    )
    notes = {**splits.notes, "rows_left_out": len(learned) - len(train) - len(unlabelled)}
    return replace(splits, train=train, unlabelled=unlabelled, notes=notes)


def _with_sizes(splits: Splits) -> Splits:
    sizes = {name: len(getattr(splits, name)) for name in ("train", "unlabelled", "dev", "test")}
    return replace(splits, notes={**splits.notes, "sizes": sizes})


def read_examples(
    config: DataConfig,
    name: str,
    *,
    labelled: bool = True,
    role: str = "source",
    misfit: Callable[[Example], str] | None = None,
) -> Reading:
    """Read one source by the recipe's format and columns; columns that are plainly meant are guessed with `auto`.

    Args:
        config: the `data` section of a recipe.
        name: the file, folder or hub id.
        labelled: whether every row must have an answer; otherwise answers are left out.
        role: which of the recipe's sources it is, for formats and columns that are given for one.
        misfit: see `load_splits`.

    Raises:
        DataError: the source is absent, empty, of no known format, lacks a column, or an id stands twice in it.
        ConfigError: an unknown format or column name.
    """
    source = read_source(
        name, password_env=config.password_env, hub_split=config.hub_split, hub_config=config.hub_config
    )
    columns = config.columns_of(role)
    rows = rename(source, columns)
    format_name, guesses = _format_name(config.format_of(role), source, rows, labelled)
    rows, columns = renamed(rows, guesses), columns | guesses
    form = FORMATS[format_name]
    check_columns(source, rows, form, columns, labelled)
    if form.gather:
        rows = form.gather(rows, read_catalogue(config))
    expanded = [part for row in rows for part in (form.expand(row) if not row.fault else (row,))]
    examples: list[Example] = []
    sound: list[Row] = []
    faults: list[Fault] = []
    blemishes: Counter[str] = Counter()
    seen: dict[str, str] = {}
    places: list[int] = []
    folder = Path(name).parent if Path(name).is_file() else Path(name) if Path(name).is_dir() else Path()
    for place, row in enumerate(islice(expanded, config.limit)):
        try:
            example = recordings.located(located(_adapt(form, row, labelled), folder), folder)
            if example.id in seen:
                raise BadRow("id", f"{shortened(example.id)!r} already stands at {seen[example.id]}")
            if misfit and (reason := misfit(example)):
                raise BadRow("", reason)
            seen[example.id] = row.where
            examples.append(example)
            sound.append(row)
            places.append(place)
            blemishes.update(set(row.notes))
        except BadRow as bad:
            faults.append(Fault(row.where, own_name(bad.field, row, columns), bad.reason, row.value))
    notes = column_notes(expanded, examples, guesses, columns)
    if not expanded:
        raise DataError(f"{name} is empty: it holds no questions", hint="check that this is the file you mean")
    return Reading(
        tuple(examples),
        tuple(faults),
        format_name,
        source.fingerprint,
        dict(blemishes),
        notes,
        tuple(sound),
        tuple(places),
    )


def read_catalogue(config: DataConfig) -> dict[str, Item]:
    """Item id -> title and category, out of the file that `data.catalogue` names; nothing without one.

    Raises:
        DataError: the file is absent or empty, lacks a column, has a bad row, or describes one item in two ways.
    """
    if config.catalogue is None:
        return {}
    source = read_source(config.catalogue)
    own = config.columns.get("catalogue", {})
    there = column_names(source.rows)
    columns = {
        field: column
        for field, column in config.columns_of("catalogue").items()
        if field in own or (field in _OF_CATALOGUE and column in there)  # Others are of the log.
    }
    rows = rename(source, columns)
    present = {name.strip().lower() for name in column_names(rows)}
    absent = [name for name in ("item", "title") if present and name not in present]
    guesses = {name: column for name in absent if name not in columns and (column := guess(name, there))}
    if unknown_columns := [name for name in absent if name not in guesses]:
        column = columns.get(unknown_columns[0], unknown_columns[0])
        raise no_column(source, column, there, " (the catalogue)", OF_CATALOGUE)
    items: dict[str, Item] = {}
    try:
        for row, item in catalogue_items(renamed(rows, guesses)):
            if items.setdefault(item.id, item) != item:
                raise DataError(
                    f"catalogue: {row.where}: item {shortened(item.id)!r} is described in two ways",
                    hint="keep one of its rows",
                )
    except BadRow as bad:
        raise DataError(f"catalogue: {bad}", hint="a row of a catalogue needs item and title") from bad
    return items


_OF_CATALOGUE = ("item", "title", "category")


def _adapt(form: Format, row: Row, labelled: bool) -> Example:
    if row.fault:
        raise BadRow("", row.fault)
    example = form.adapt(row, labelled)
    _check_lengths(example)
    return example if labelled else unlabel(example)


def _check_lengths(example: Example) -> None:
    turns = tuple(turn.content for turn in example.history)
    texts = {"question": (example.question,), "answer": example.answers, "choices": example.choices}
    texts |= {"history": turns, "rationale": example.rationales, "context": (example.context or "",)}
    for name, parts in texts.items():
        limit = MAX_CONTEXT_CHARACTERS if name == "context" else MAX_CHARACTERS
        length = max(map(len, parts), default=0)
        if length > limit:
            raise BadRow(name, f"{length:,} characters; {limit:,} are the most")


def _format_name(wanted: str, source: Source, rows: Sequence[Row], labelled: bool) -> tuple[str, dict[str, str]]:
    """The layout of a source, and the columns that were guessed for it (field -> column)."""
    if wanted in FORMATS:
        return wanted, {}
    if wanted != "auto":
        raise unknown("format", wanted, ("auto", *FORMATS), where="data.format")
    sound = [row for row in rows if not row.fault]
    layout = detect([row.value for row in sound[:100]])
    if layout:
        return layout, guessed(rows, FORMATS[layout], labelled)
    if guesses := guessed(rows, FORMATS["qa"], labelled):
        return "qa", guesses
    if guesses := guessed(rows, FORMATS["session_log"], labelled):
        return "session_log", guesses
    if guesses := guessed(rows, FORMATS["speech"], labelled):
        return "speech", guesses
    if not sound:
        raise DataError(f"no row of {source.name} can be read; {rows[0].where}: {rows[0].fault}")
    raise cannot_tell(source, column_names(sound))


def _handle_faults(config: DataConfig, readings: Mapping[str, Reading], path: Path | None) -> None:
    faults = [fault for reading in readings.values() for fault in reading.faults]
    if faults and config.on_bad_row == "error":
        more = f" (and {len(faults) - 1} more bad rows)" if len(faults) > 1 else ""
        raise DataError(
            f"{faults[0]}{more}",
            hint="mend the row, or set data.on_bad_row=quarantine to put bad rows into quarantine.jsonl and go on",
        )
    if path is not None and faults:
        with atomic(path) as handle:
            handle.writelines(dump_raw(_shortened(fault)._asdict()) + "\n" for fault in faults)
    elif path is not None:
        path.unlink(missing_ok=True)
    for reading in readings.values():
        if not reading.examples:
            raise DataError(f"every row is bad ({len(reading.faults)}); the first: {reading.faults[0]}")


def _shortened(fault: Fault) -> Fault:
    """The fault with a row that a person can still look at."""
    raw = dump_raw(fault.row)
    return fault if len(raw) <= _MAX_RAW else fault._replace(row=f"{raw[:_MAX_RAW]}… ({len(raw):,} characters)")


def _distinct_ids(readings: dict[str, Reading]) -> tuple[dict[str, Reading], list[str]]:
    """Files that number their rows alike get their ids prefixed with the role: `test:17`."""
    taken: set[str] = set()
    prefixed: list[str] = []
    result: dict[str, Reading] = {}
    for role, reading in readings.items():
        examples = reading.examples
        if not taken.isdisjoint(example.id for example in examples):
            prefixed.append(role)
            examples = tuple(replace(example, id=f"{role}:{example.id}") for example in examples)
        taken.update(example.id for example in examples)
        result[role] = replace(reading, examples=examples)
    return result, prefixed


def _column_notes(readings: Mapping[str, Reading]) -> dict[str, str]:
    """What became of the columns of each source; one source needs no name."""
    notes: dict[str, list[str]] = {}
    for role, reading in readings.items():
        for kind, text in reading.columns.items():
            notes.setdefault(kind, []).append(text if len(readings) == 1 else f"{role}: {text}")
    return {kind: "; ".join(texts) for kind, texts in notes.items()}


def _notes(config: DataConfig, readings: Mapping[str, Reading]) -> dict[str, Any]:
    names = config.files
    faults = [fault for reading in readings.values() for fault in reading.faults]
    examples = [example for reading in readings.values() for example in reading.examples]
    blemishes: Counter[str] = Counter()
    for reading in readings.values():
        blemishes.update(reading.blemishes)
    beside = {"catalogue": config.catalogue, "corpus": config.corpus}
    return {
        **({"blemishes": dict(blemishes)} if blemishes else {}),
        **_column_notes(readings),
        "rows_read": len(examples) + len(faults),
        "quarantined": len(faults),
        "bad_rows": [str(fault) for fault in faults[:10]],
        "duplicates": count_duplicates(examples),
        "sources": [
            {
                "role": role,
                "name": PurePosixPath(str(names[role])).name,
                "format": reading.format,
                "rows": len(reading.examples) + len(reading.faults),
                "quarantined": len(reading.faults),
                "fingerprint": reading.fingerprint,
            }
            for role, reading in readings.items()
        ]
        + [_beside_note(role, name) for role, name in beside.items() if name and not name.startswith(PREFIX)],
    }


def _beside_note(role: str, name: str) -> dict[str, Any]:
    return {"role": role, "name": PurePosixPath(name).name, "fingerprint": fingerprint_tree(name)}
