"""`understudy init`: a commented recipe to start from."""

from __future__ import annotations

import textwrap
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from understudy.errors import ConfigError
from understudy.files import atomic

SUGGESTED: dict[str, Any] = {
    "name": "my-domain",
    "data.source": "train.jsonl",
    "teacher.model": "meta-llama/Llama-3.2-3B-Instruct",
    "student.model": "meta-llama/Llama-3.2-1B-Instruct",
    "distil.epochs": 3.0,
}


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a commented recipe: every field with its default and a sentence on what it does."""
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already", hint="give another name, or --force")
    with atomic(path) as handle:
        handle.write(commented_recipe())
    typer.echo(f"wrote {path}; edit data.source and the two models, then: understudy run {path}")


def commented_recipe() -> str:
    """The text of a recipe with every field explained."""
    from understudy.recipe import Recipe

    lines = ["# A recipe for `understudy run`. Every field is here; what stands at its default may be removed.", ""]
    lines += _section(Recipe, "", 0)
    return "\n".join(lines) + "\n"


def _section(section: type[BaseModel], prefix: str, depth: int) -> list[str]:
    lines: list[str] = []
    indent = "  " * depth
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        for sentence in textwrap.wrap(field.description or "", 100):
            lines.append(f"{indent}# {sentence}")
        inner = _inner(field.annotation)
        value = SUGGESTED.get(path, field.default)
        if inner and value is not None:
            lines += [f"{indent}{name}:", *_section(inner, f"{path}.", depth + 1)]
        elif inner:
            # An optional section that is off: shown, so that its fields are known, but commented out.
            inside = (
                [f"{indent}{name}:", *_section(inner, f"{path}.", depth + 1)]
                if depth < 2
                else [f"{indent}{name}: null"]
            )
            lines += [f"# {line}" if not line.lstrip().startswith("#") else line for line in inside]
        else:
            lines.append(f"{indent}{name}: {_inline(field, value)}")
        if depth == 0:
            lines.append("")
    return lines


def _inline(field: Any, value: Any) -> str:
    if value is PydanticUndefined:
        value = field.default_factory() if field.default_factory else None
    if isinstance(value, tuple):
        value = list(value)
    return yaml.safe_dump(value, default_flow_style=True, width=1000).splitlines()[0]


def _inner(annotation: Any) -> type[BaseModel] | None:
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None
