"""What all records have in common: a dataclass that is written as a JSON object and read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Self, TypeVar

from understudy.errors import DataError

READ, OMIT = "read", "omit"
"""Keys of a field's metadata: what makes its value of JSON, and whether None is left out of the file."""


class Record:
    """A frozen dataclass whose fields are the keys of a JSON object, in their order.

    A field that holds more than JSON's own types says by `metadata=read(…)` how it is read; `read(…, omit=True)`
    leaves it out of the file where it is None.
    """

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-able, keys in the order of the fields."""
        values = ((field, getattr(self, field.name)) for field in _fields(type(self)))
        return {f.name: plain(value) for f, value in values if value is not None or not f.metadata.get(OMIT)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; keys that are not known are left out, those with a default may be absent.

        Raises:
            DataError: a field without a default is absent.
        """
        values: dict[str, Any] = {}
        for field in _fields(cls):
            if field.name in row:
                value, from_value = row[field.name], field.metadata.get(READ)
                values[field.name] = from_value(value) if from_value and value is not None else value
            elif field.default is MISSING and field.default_factory is MISSING:
                raise DataError(
                    f"a record has no field {field.name!r} ({cls.__name__})",
                    hint="it was cut short or comes from elsewhere: remove it, and run the same command again",
                )
        return cls(**values)


R = TypeVar("R", bound=Record)


def read(function: Callable[[Any], Any], *, omit: bool = False) -> dict[str, Any]:
    """Metadata of a field: `function` makes its value of JSON; `omit`: None is left out of the file."""
    return {READ: function, OMIT: omit}


def each(kind: type[R]) -> Callable[[Any], tuple[R, ...]]:
    """Reads a list of records."""
    return lambda rows: tuple(map(kind.from_json, rows))


def each_named(kind: type[R]) -> Callable[[Any], dict[str, R]]:
    """Reads a mapping of records."""
    return lambda rows: {name: kind.from_json(row) for name, row in rows.items()}


def plain(value: Any) -> Any:
    """`value` in JSON's own types."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    return value


def _fields(kind: type[Record]) -> tuple[Field[Any], ...]:
    assert is_dataclass(kind)
    return fields(kind)
