"""Sessions of items, the bundles in them, and how one becomes an `Example`.

The items are numbered from 1 in the order of the session; question and answer speak of these numbers. What a session
is made of stays in `meta`: `session` (ids, titles, categories), `true_bundles` (which goes where the answer goes),
`length`, and `domain` where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.bundle_answers import Bundle, write_answer
from understudy.data.rows import BadRow, Row, as_text, leftovers, lowered, missing, optional, present, required, row_id
from understudy.errors import shortened
from understudy.types import Example

FORM = 'Answer in JSON: {"bundles": [{"items": [numbers], "intent": "a few words"}]}'
"""How bundles are to be written down."""
TASK = f"Which of these items are bought together, and for what? A bundle has two items or more. {FORM}"
"""What is asked of every session, behind its items."""
SPLITS = {"train": "train", "training": "train", "dev": "dev", "validation": "dev", "valid": "dev", "test": "test"}
"""What a split may be called in a data set -> which it is."""
BUNDLE_F1 = "bundle_f1"
FIELDS = ("session", "items", "bundles", "domain", "split")


@dataclass(frozen=True, slots=True)
class Item:
    """Something of the catalogue; `category` is empty where the catalogue has none."""

    id: str
    title: str
    category: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """Items that a shopper looked at, and the bundles in them.

    Attributes:
        id: of the session.
        items: each once, in their order.
        bundles: by numbers of items; empty where they are not known.
        domain: which of several catalogues it is of; empty where there is one.
    """

    id: str
    items: tuple[Item, ...]
    bundles: tuple[Bundle, ...] = ()
    domain: str = ""

    def items_of(self, bundle: Bundle) -> tuple[Item, ...]:
        """The items that a bundle of this session names, unknown numbers left out."""
        return tuple(self.items[number - 1] for number in bundle.items if 0 < number <= len(self.items))


def is_session(example: Example) -> bool:
    """Whether a row is a session of items."""
    session = example.meta.get("session")
    return isinstance(session, Mapping) and isinstance(session.get("items"), Sequence)


def session_of(example: Example) -> Session:
    """The session that an example was made of."""
    parts = example.meta["session"]
    items = tuple(map(Item, parts["items"], parts["titles"], parts["categories"]))
    bundles = tuple(Bundle.of(row["items"], row["intent"]) for row in example.meta.get("true_bundles", ()))
    return Session(example.id, items, bundles, str(example.meta.get("domain", "")))


def example_of(session: Session, more: Mapping[str, Any] | None = None) -> Example:
    """A session as question and answer; `more` goes into its `meta`."""
    parts = {
        "items": [item.id for item in session.items],
        "titles": [item.title for item in session.items],
        "categories": [item.category for item in session.items],
    }
    meta: dict[str, Any] = {"session": parts, "length": len(session.items)}
    meta |= {"domain": session.domain} if session.domain else {}
    rows = [{"items": list(bundle.items), "intent": bundle.intent} for bundle in session.bundles]
    meta |= {"true_bundles": rows} if rows else {}
    answers = (write_answer(session.bundles),) if session.bundles else ()
    return Example(session.id, question_of(session), answers, meta=meta | dict(more or {}))


def row_of(session: Session) -> dict[str, Any]:
    """A session as a row of layout `session`, JSON-able; read again it is the same session."""
    items = [
        {"item": item.id, "title": item.title} | ({"category": item.category} if item.category else {})
        for item in session.items
    ]
    bundles = [
        {"items": [item.id for item in session.items_of(bundle)]} | ({"intent": bundle.intent} if bundle.intent else {})
        for bundle in session.bundles
    ]
    row = {"session": session.id, "items": items, "bundles": bundles}
    return row | ({"domain": session.domain} if session.domain else {})


def question_of(session: Session) -> str:
    """The items, a line each, and what is asked of them."""
    return f"{listing_of(session)}\n{TASK}"


def listing_of(session: Session) -> str:
    """The items, numbered, a line each."""
    lines = (f"{number}. {described(item)}" for number, item in enumerate(session.items, start=1))
    return "\n".join(("Items of a session:", *lines))


def described(item: Item) -> str:
    """Title and category, if it has one."""
    return f"{item.title} ({item.category})" if item.category else item.title


def session_key(example: Example) -> str | None:
    """What makes two sessions the same: their items, in whatever order; None where the row is no session."""
    if not is_session(example):
        return None
    return "\x1f".join(("session", str(example.meta.get("domain", "")), *sorted(example.meta["session"]["items"])))


# The adapter ----------------------------------------------------------------------------------------------------------


def session(row: Row, labelled: bool) -> Example:
    """`session`: one session a row, `items` of objects `{item, title, category}`, `bundles` of `{items, intent}`.

    Bundles name items by their ids.

    Raises:
        BadRow: fewer than two items, an item without a title, a bundle of one item or with one from elsewhere, or, of
            a labelled row, no bundle at all.
    """
    fields = lowered(row)
    items = _items(row, present(fields, "items"))
    bundles = _bundles(row, fields.get("bundles"), items) if labelled else ()
    if labelled and not bundles:
        raise BadRow("bundles", "the session has no bundle")
    name = row_id(fields, row) if missing(fields.get("session")) else _id(fields, "session")
    made = Session(name, tuple(items.values()), bundles, optional(fields, "domain") or "")
    more = leftovers(fields, {*FIELDS, "id"})
    return example_of(made, more | ({"split": _split(fields)} if not missing(fields.get("split")) else {}))


def _items(row: Row, value: Any) -> dict[str, Item]:
    """Item id -> item; one that stands twice counts once."""
    if not isinstance(value, list):
        raise BadRow("items", "expected a list of items")
    items: dict[str, Item] = {}
    for place, part in enumerate(value):
        item = _item(part, f"items[{place}]")
        if item.id in items:
            row.note("items that stood twice in their session")
        items.setdefault(item.id, item)
    if len(items) < 2:
        raise BadRow("items", "a session needs two different items or more")
    return items


def _item(part: Any, name: str) -> Item:
    if not isinstance(part, Mapping):
        part = {"item": part}
    known = as_text(_whole(present(part, "item", f"{name}.item")), f"{name}.item")
    if missing(part.get("title")):
        raise BadRow(name, f"item {shortened(known)!r} has no title in the data or in data.catalogue")
    return Item(known, _in_a_line(as_text(part["title"], f"{name}.title")), _in_a_line(optional(part, "category")))


def _in_a_line(text: str | None) -> str:
    return " ".join((text or "").split())


def _whole(known: Any) -> Any:
    """An id without the `.0` that a table puts behind numbers where one of the column is missing."""
    return int(known) if isinstance(known, float) and known.is_integer() else known


def _bundles(row: Row, value: Any, items: Mapping[str, Item]) -> tuple[Bundle, ...]:
    """Each set of items once, in the order of the row."""
    if missing(value):
        return ()
    if not isinstance(value, list):
        raise BadRow("bundles", "expected a list of bundles")
    numbers = {known: number for number, known in enumerate(items, start=1)}
    bundles: dict[tuple[int, ...], Bundle] = {}
    for place, part in enumerate(value):
        bundle = _bundle(part, f"bundles[{place}]", numbers)
        if bundle.items in bundles:
            row.note("bundles that stood twice in their session")
        bundles.setdefault(bundle.items, bundle)
    return tuple(bundles.values())


def _bundle(part: Any, name: str, numbers: Mapping[str, int]) -> Bundle:
    if not isinstance(part, Mapping) or not isinstance(part.get("items"), list):
        raise BadRow(name, "expected an object with `items`, a list of item ids, and `intent`")
    known = [as_text(_whole(item), f"{name}.items[{place}]") for place, item in enumerate(part["items"])]
    strange = next((item for item in known if item not in numbers), None)
    if strange is not None:
        raise BadRow(name, f"item {shortened(strange)!r} is not among the items of the session")
    bundle = Bundle.of((numbers[item] for item in known), optional(part, "intent") or "")
    if len(bundle.items) < 2:
        raise BadRow(name, "a bundle needs two different items or more")
    return bundle


def _split(fields: Mapping[str, Any]) -> str:
    word = required(fields, "split").lower()
    if word not in SPLITS:
        raise BadRow("split", f"{shortened(word)!r} is none of {', '.join(SPLITS)}")
    return SPLITS[word]


# A log: one row for each item of a bundle of a session ----------------------------------------------------------------


def with_catalogue(rows: Sequence[Row], catalogue: Mapping[str, Item]) -> list[Row]:
    """The rows of layout `session` with titles and categories of the catalogue where they have none of their own."""
    if not catalogue:
        return list(rows)
    return [_filled(row, catalogue) for row in rows]


def _filled(row: Row, catalogue: Mapping[str, Item]) -> Row:
    if row.fault or not isinstance(row.value, Mapping) or not isinstance(row.value.get("items"), list):
        return row
    items = [_described(part, catalogue) for part in row.value["items"]]
    return Row({**row.value, "items": items}, row.where, row.id, row.key, notes=row.notes)


def _described(part: Any, catalogue: Mapping[str, Item]) -> Any:
    """An item with what the catalogue says of it, its own words first."""
    own = dict(part) if isinstance(part, Mapping) else {"item": part}
    known = catalogue.get(str(_whole(own.get("item", ""))).strip())
    if known is None:
        return own
    described = {"title": known.title, "category": known.category}
    return own | {name: text for name, text in described.items() if missing(own.get(name))}


def gather_log(rows: Sequence[Row], catalogue: Mapping[str, Item]) -> list[Row]:
    """Rows of a log, one for each item (of a bundle) of a session, as rows of layout `session`, in order of appearance.

    A row whose session cannot be told is a bad row of its own; any other fault makes its session one.
    """
    logs: dict[str, _Log] = {}
    gathered: list[Row | _Log] = []
    for row in rows:
        try:
            fields = {} if row.fault else lowered(row)
            name = None if row.fault else _id(fields, "session")
        except BadRow as bad:
            gathered.append(_faulty(row, str(bad)))
            continue
        if name is None:
            gathered.append(row)
            continue
        if name not in logs:
            logs[name] = _Log(name, row)
            gathered.append(logs[name])
        logs[name].read(fields, row.where)
    return with_catalogue([part.row() if isinstance(part, _Log) else part for part in gathered], catalogue)


def _id(fields: Mapping[str, Any], field: str) -> str:
    return as_text(_whole(present(fields, field)), field)


def _faulty(row: Row, reason: str) -> Row:
    return Row(row.value, row.where, row.id, row.key, reason)


class _Log:
    """What the rows of one session say, read one after the other."""

    def __init__(self, name: str, first: Row) -> None:
        self.name, self.first, self.fault = name, first, ""
        self.items: dict[str, dict[str, Any]] = {}
        self.bundles: dict[str, list[str]] = {}
        self.intents: dict[str, str] = {}
        self.whole: dict[str, str] = {}  # what holds for the session: its domain and split

    def read(self, fields: Mapping[str, Any], where: str) -> None:
        """Take a row in; the first thing that is wrong is kept."""
        try:
            item = _id(fields, "item")
            described = {name: text for name in ("title", "category") if (text := optional(fields, name))}
            self.items.setdefault(item, {"item": item}).update(described)
            for name in ("domain", "split"):
                self._one_value(self.whole, name, optional(fields, name), "the session has two of these")
            if bundle := optional(fields, "bundle"):
                self.bundles.setdefault(bundle, []).append(item)
                self._one_value(self.intents, bundle, optional(fields, "intent"), "has two intents", "bundle ")
        except BadRow as bad:
            self.fault = self.fault or f"{where}: {bad}"

    def _one_value(self, known: dict[str, str], name: str, value: str | None, reason: str, kind: str = "") -> None:
        if value is None:
            return
        if known.setdefault(name, value) != value:
            raise BadRow(f"{kind}{name}", f"{reason}, {shortened(known[name])!r} and {shortened(value)!r}")

    def row(self) -> Row:
        """The session as a row of layout `session`."""
        bundles = [
            {"items": items} | ({"intent": self.intents[name]} if name in self.intents else {})
            for name, items in self.bundles.items()
        ]
        value = {"session": self.name, "items": list(self.items.values()), "bundles": bundles, **self.whole}
        where = f"{self.first.where}, session {shortened(self.name, 40)}"
        return Row(value, where, self.first.id, fault=self.fault)


def catalogue_items(rows: Sequence[Row]) -> Iterator[tuple[Row, Item]]:
    """The items of a catalogue, each with the row that it stands in.

    Raises:
        BadRow: a row without `item` or `title`.
    """
    for row in rows:
        if row.fault:
            raise BadRow("", f"{row.where}: {row.fault}")
        fields = lowered(row)
        try:
            title = _in_a_line(required(fields, "title"))
            yield row, Item(_id(fields, "item"), title, _in_a_line(optional(fields, "category")))
        except BadRow as bad:
            raise BadRow("", f"{row.where}: {bad}") from bad
