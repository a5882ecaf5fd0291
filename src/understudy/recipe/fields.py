"""Fields of a recipe by dotted path: which there are, what stands at one, and how one is set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from understudy import errors
from understudy.recipe.methods import MethodConfig, options
from understudy.recipe.recipe import Recipe


def section_of(annotation: Any) -> type[BaseModel] | None:
    """The section inside an annotation such as `TrainConfig | None`; a mapping of names to sections is none."""
    if get_origin(annotation) is dict:
        return None
    options = (annotation, *get_args(annotation))
    return next((o for o in options if isinstance(o, type) and issubclass(o, BaseModel)), None)


def fields_of(section: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a section; of `distil`, whose method decides which it has, those of all methods."""
    return options() if section is MethodConfig else section.model_fields


def known_paths(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """Every dotted path of a recipe, sections and fields."""
    for name, field in fields_of(section).items():
        yield f"{prefix}{name}"
        inner = section_of(field.annotation)
        if inner:
            yield from known_paths(inner, f"{prefix}{name}.")


def leaves(section: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[str]:
    """Every dotted path at which no section stands."""
    for name, field in fields_of(section).items():
        inner = section_of(field.annotation)
        if inner:
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def section_at(path: str) -> type[BaseModel] | None:
    """The section that stands at a path; None where a plain field does."""
    section: type[BaseModel] | None = Recipe
    for part in path.split("."):
        if section is None or part not in fields_of(section):
            return None
        section = section_of(fields_of(section)[part].annotation)
    return section


def is_known(path: str) -> bool:
    """Whether a recipe has such a field; a mapping (`student.config`) takes any key below it."""
    section: type[BaseModel] | None = Recipe
    for part in path.split("."):
        if section is None or part not in fields_of(section):
            return False
        annotation = fields_of(section)[part].annotation
        if any(get_origin(option) is dict for option in (annotation, *get_args(annotation))):
            return True
        section = section_of(annotation)
    return True


def nearest(path: str) -> str:
    """The known path that a mistyped one most resembles; empty where none does."""
    known = list(known_paths())
    last = path.rpartition(".")[2]
    same_end = [name for name in known if name.rpartition(".")[2] == last]
    return errors.nearest(path, same_end or known, cutoff=0.0 if same_end else 0.6)


def put(value: dict[str, Any], path: str, new: Any) -> dict[str, Any]:
    """A copy of a recipe's mapping in which a field is set.

    `true` on a section keeps the settings it has, or switches it on with its defaults; `false` switches it off; a
    mapping on a section sets the fields it names.
    """
    if section_at(path) is not None and isinstance(new, dict):
        value = put(value, path, True)
        for name, inner in new.items():
            value = put(value, f"{path}.{name}", inner)
        return value
    if section_at(path) is not None and isinstance(new, bool):
        before = get(value, path)
        new = (before if isinstance(before, dict) else {}) if new else None
    return set_at(_written_out(value, path), path.split("."), new)


def set_at(value: Mapping[str, Any], keys: Sequence[str], new: Any) -> dict[str, Any]:
    """A copy of a mapping in which something stands at the end of some keys; mappings on the way are made."""
    first, *rest = keys
    inner = value.get(first)
    return {**value, first: set_at(inner if isinstance(inner, dict) else {}, rest, new) if rest else new}


def get(value: dict[str, Any], path: str) -> Any:
    """What stands at a path of a recipe's mapping; None for what is off or left out."""
    node: Any = _written_out(value, path)
    for part in path.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return node


def _written_out(value: dict[str, Any], path: str) -> dict[str, Any]:
    """A copy in which the first section of a path is there: what a recipe leaves out is what the default recipe has.

    A section that is off by default (`generate`, `teachers`) stays left out.
    """
    first = path.partition(".")[0]
    default = getattr(Recipe(), first) if first not in value and section_at(first) is not None else None
    return {**value, first: default.model_dump(mode="json")} if default is not None else dict(value)
