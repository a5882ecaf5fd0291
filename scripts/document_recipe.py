"""Write the list of recipe fields into docs/recipes.md, from the docstrings in `understudy.recipe`.

    python scripts/document_recipe.py            # between the two markers of the page; the rest stays as it is

A test checks that the page is up to date.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from understudy.files import atomic
from understudy.recipe import METHODS, MethodConfig, Recipe
from understudy.recipe.fields import fields_of

PAGE = Path(__file__).resolve().parents[1] / "docs" / "recipes.md"
BEGIN, END = "<!-- fields: begin (python scripts/document_recipe.py) -->", "<!-- fields: end -->"
BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def updated(page: str) -> str:
    """The page with the fields of today between its markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{fields()}\n{END}{after}"


def fields() -> str:
    """Every section as a table, the whole recipe first."""
    tables, waiting, done = [], [Recipe], set()
    while waiting:
        section = waiting.pop(0)
        if section not in done:
            done.add(section)
            tables.append(table(section))
            waiting += extends(section)
            waiting += [inner for field in section.model_fields.values() if (inner := section_of(field.annotation))]
            waiting += METHODS.values() if section is MethodConfig else ()
    return "\n".join(tables)


def table(section: type[BaseModel]) -> str:
    """One section: its heading, where it stands, its sentence, its fields."""
    places = ", ".join(f"`{path}`" for path in sorted(set(paths(Recipe, section))))
    where = f" Stands at {places}." if places else ""
    where += stands_for(section) if issubclass(section, MethodConfig) else ""
    lines = [f"### {section.__name__}", "", f"{(section.__doc__ or '').strip()}{where}", ""]
    own = own_fields(section)
    lines += ["| field | type | default | what it does |", "|---|---|---|---|"] if own else []
    for name, field in own.items():
        description = " ".join((field.description or "").split()).replace("|", "\\|")
        cells = [f"`{name}`", kind(field), default(field), description]
        lines.append("| " + " | ".join(cells) + " |")
    if parents := extends(section):
        lines += [""] if own else []
        names = " and ".join(f"[{parent.__name__}](#{parent.__name__.lower()})" for parent in parents)
        lines += [f"{'And all' if own else 'All'} fields of {names}."]
    return "\n".join(lines) + "\n"


def stands_for(section: type[MethodConfig]) -> str:
    """Which method has a section, and what it is published with."""
    name = next((name for name, kind in METHODS.items() if kind is section), "")
    if not name:
        return ""
    vocabularies = "one vocabulary" if section.one_vocabulary else "one vocabulary or two"
    return f" With `method: {name}`; {vocabularies}; temperature {section.published_temperature:g} unless stated."


def paths(root: type[BaseModel], wanted: type[BaseModel], prefix: str = "") -> list[str]:
    """Every dotted path at which a section stands."""
    found = []
    for name, field in root.model_fields.items():
        if inner := section_of(field.annotation):
            place = f"{prefix}{name}.NAME" if get_origin(field.annotation) is dict else f"{prefix}{name}"
            found += [place] if inner is wanted else []
            found += paths(inner, wanted, f"{place}.")
    return found


def extends(section: type[BaseModel]) -> list[type[BaseModel]]:
    """The sections whose fields this one takes over; a method lists all that not every method has."""
    parents = (MethodConfig,) if section in METHODS.values() else reversed(section.__bases__)
    return [parent for parent in parents if getattr(parent, "model_fields", None)]


def own_fields(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields that a section adds to the one it extends."""
    inherited = {name for parent in extends(section) for name in parent.model_fields}
    return {
        name: field for name, field in fields_of(section).items() if name in section.model_fields.keys() - inherited
    }


def kind(field: FieldInfo) -> str:
    """The type in words, with its bounds."""
    limits, text = bounds(field.metadata), words(field.annotation)
    if not limits:
        return text
    return f"{text.removesuffix(' or nothing')} {limits}{', or nothing' if text.endswith(' or nothing') else ''}"


def bounds(metadata: Iterable[Any]) -> str:
    """What a number must keep to, such as `≥ 0, < 1`."""
    signs = [(sign, getattr(item, key)) for item in metadata for key, sign in BOUNDS.items() if hasattr(item, key)]
    # Counts as people write them; a share or a rate has few digits of its own.
    return ", ".join(f"{sign} {value:,}" if isinstance(value, int) else f"{sign} {value:g}" for sign, value in signs)


def words(annotation: Any) -> str:
    """A type as a person writes it in YAML."""
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (Union, UnionType):
        return " or ".join("nothing" if option is NoneType else words(option) for option in inside)
    if origin in (list, tuple):
        return f"list of {words(inside[0])}"
    if origin is dict:
        return f"names, each with {words(inside[1])}" if section_of(annotation) else "mapping"
    if origin is Annotated:
        limits = bounds(getattr(inside[1], "metadata", inside[1:]))
        return f"{words(inside[0])} {limits}".rstrip()
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    return {str: "text", int: "integer", float: "number", bool: "yes or no"}[annotation]


def default(field: FieldInfo) -> str:
    """The default in YAML; a section's own defaults stand in its table."""
    value = field.default
    if value is PydanticUndefined:
        if field.default_factory is None:
            return "required"
        value = field.default_factory()  # pyright: ignore
    if isinstance(value, BaseModel):
        changed = value.model_dump(mode="json", exclude_unset=True)
        return f"`{json.dumps(changed)}`" if changed else "its defaults"
    if value is None:
        return "–"
    return f"`{json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)}`"


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section inside an annotation such as `TrainConfig | None` or `dict[str, OtherTeacherConfig]`."""
    if get_origin(annotation) is dict:
        return section_of(get_args(annotation)[1])
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def main() -> None:
    text = updated(PAGE.read_text(encoding="utf-8"))
    with atomic(PAGE) as handle:
        handle.write(text)


if __name__ == "__main__":
    main()
