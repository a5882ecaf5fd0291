"""What all records have in common: a dataclass that is written as a JSON object and read again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, Self, TypeVar

from understudy.errors import DataError

PARSE, OMIT = "parse", "omit"
"""Keys of a field's metadata: the function that parses its JSON value, and whether None is left out of the file."""


class Record:
    """A frozen dataclass whose fields are the keys of a JSON object, in their order.

    A field that holds more than JSON's own types names the function that parses it, `metadata=parsed_by(…)`;
    `parsed_by(…, omit=True)` leaves it out of the file where it is None.
    """

    __slots__ = ()

    def to_json(self) -> dict[str, Any]:
        """JSON-able, keys in the order of the fields."""
        values = ((field, getattr(self, field.name)) for field in _fields(type(self)))
        return {f.name: json_value(value) for f, value in values if value is not None or not f.metadata.get(OMIT)}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote; unknown keys are ignored, those with a default may be absent.

        Raises:
            DataError: a field without a default is absent.
        """
        values: dict[str, Any] = {}
        for field in _fields(cls):
            if field.name in row:
                value, parse = row[field.name], field.metadata.get(PARSE)
                values[field.name] = parse(value) if parse and value is not None else value
            elif field.default is MISSING and field.default_factory is MISSING:
                raise DataError(
                    f"a record has no field {field.name!r} ({cls.__name__})",
                    hint="it was cut short or comes from elsewhere: remove it, and run the same command again",
                )
        return cls(**values)


R = TypeVar("R", bound=Record)


def parsed_by(function: Callable[[Any], Any], *, omit: bool = False) -> dict[str, Any]:
    """Metadata of a field: `function` parses its JSON value; `omit`: None is left out of the file."""
    return {PARSE: function, OMIT: omit}


def list_of(record: type[R]) -> Callable[[Any], tuple[R, ...]]:
    """A parser of a JSON list of records of one class."""
    return lambda rows: tuple(map(record.from_json, rows))


def mapping_of(record: type[R]) -> Callable[[Any], dict[str, R]]:
    """A parser of a JSON object whose values are records of one class."""
    return lambda rows: {name: record.from_json(row) for name, row in rows.items()}


def json_value(value: Any) -> Any:
    """`value` in JSON's own types."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if isinstance(value, Mapping):
        return {key: json_value(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [json_value(item) for item in value]
    return value


def _fields(record: type[Record]) -> tuple[Field[Any], ...]:
    assert is_dataclass(record)
    return fields(record)
