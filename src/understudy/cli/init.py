"""`understudy init`: a commented recipe to start from."""

from __future__ import annotations

import textwrap
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from understudy.arms import trained_arms
from understudy.errors import ConfigError
from understudy.files import atomic

SUGGESTED: dict[str, Any] = {
    "name": "my-domain",
    "data.source": "train.jsonl",
    "teacher.model": "meta-llama/Llama-3.2-3B-Instruct",
    "student.model": "meta-llama/Llama-3.2-1B-Instruct",
    "distil.epochs": 3.0,
}

# The few fields that are a user's own to decide, with what stands there at first.
SHORT: dict[str, Any] = {
    "name": SUGGESTED["name"],
    "data.source": SUGGESTED["data.source"],
    "data.columns": {"question": "Query", "answer": "Reply"},
    "data.unlabelled_source": "questions.jsonl",
    "teacher.model": SUGGESTED["teacher.model"],
    "teacher.sft": {"epochs": 2},
    "student.model": SUGGESTED["student.model"],
    "distil.method": "kd",
    "distil.divergence": "forward_kl",
    "distil.epochs": SUGGESTED["distil.epochs"],
    "distil.learning_rate": 2e-5,
    "distil.lora": {"r": 16},
}
# Those of them that are written and turned off: they go by data and machine.
SHORT_OFF = ("data.columns", "data.unlabelled_source", "distil.learning_rate", "distil.lora")

# What stands at a field that is better left to its default, for it goes by what else is on.
LEFT_OUT: dict[str, Any] = {"evaluate.arms": list(trained_arms())}

# What stands at a field that has no default, in sections that are off.
EXAMPLES = {"source": "documents", "model": "judge"}
# The same of a section whose fields all have one, and that says nothing with these alone.
OFF_EXAMPLES = {
    "student.from_teacher.layers": 10,
    "knowledge.folder": "knowledge",
    "teacher.hint.system": "Use the glossary.",
}


def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("recipe.yaml"),
    full: Annotated[bool, typer.Option("--full", help="Write every field, those at their default too.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a file that is there.")] = False,
) -> None:
    """Write a recipe to start from: the few fields that are yours to decide, each with a sentence on what it does."""
    if path.exists() and not force:
        raise ConfigError(f"{path} exists already", hint="give another name, or --force")
    with atomic(path) as handle:
        handle.write(commented_recipe() if full else short_recipe())
    typer.echo(f"wrote {path}; edit data.source and the two models, then: understudy run {path}")


SHORT_HEAD = """\
# A recipe for `understudy run`. What is not here has a default: `understudy init --full` writes every field,
# `understudy docs recipes` explains them. A `#` right before a name turns that field off: take it away to turn
# it on.
"""


def short_recipe() -> str:
    """The text of a recipe with the fields that a user decides."""
    from understudy.recipe import Recipe
    from understudy.recipe.fields import fields_of

    lines = [SHORT_HEAD]
    above = ""
    for path, value in SHORT.items():
        top, _, name = path.rpartition(".")
        if top != above:
            lines += ["", *_sentences(Recipe, top, "# "), f"{top}:"]
        section = _inner(fields_of(Recipe)[top].annotation) if top else Recipe
        assert section is not None
        indent = "  " if top else ""
        lines += _sentences(section, name, f"{indent}# ")
        lines.append(f"{indent}{'#' if path in SHORT_OFF else ''}{name}: {_inline(value)}")
        above = top
    return "\n".join(lines) + "\n"


def _sentences(section: type[BaseModel], name: str, mark: str) -> list[str]:
    """The comment before a field."""
    from understudy.recipe.fields import fields_of

    return [f"{mark}{line}" for line in _sentence(_described(section, name, fields_of(section)[name]))]


HEAD = """\
# A recipe for `understudy run`. Every field is here; what stands at its default may be removed.
# A `#` right before a name turns that field off: take it away to turn the field on.
"""


def commented_recipe() -> str:
    """The text of a recipe with every field explained."""
    from understudy.recipe import Recipe

    return "\n".join([HEAD, *_section(Recipe, Recipe(), "")])


def _section(section: type[BaseModel], defaults: BaseModel | None, prefix: str, off: bool = False) -> list[str]:
    """The lines of a section and of those within it, each indented by its depth.

    Args:
        section: the section's class.
        defaults: what its fields stand at; None for a section that is off.
        prefix: path of the section, with the dot behind it.
        off: whether the section is written but commented out.
    """
    from understudy.recipe.fields import fields_of

    lines: list[str] = []
    indent = "  " * prefix.count(".")
    for name, field in fields_of(section).items():
        path = f"{prefix}{name}"
        # An option of another method than the one that stands there.
        foreign = defaults is not None and name not in type(defaults).model_fields
        mark = f"{indent}#" if off or foreign else indent
        lines += [f"{indent}# {line}" for line in _sentence(_described(section, name, field))]
        inner = _inner(field.annotation)
        value = getattr(defaults, name) if defaults and not foreign else _default(field)
        if inner and value is None and off:
            lines.append(f"{mark}{name}: null")
        elif inner:
            inner_off = value is None
            lines += [f"{indent}#{name}:" if inner_off else f"{mark}{name}:"]
            lines += _section(inner, value, f"{path}.", off or inner_off)
        else:
            missing = field.is_required() and defaults is None
            value = EXAMPLES.get(name) if missing else value
            field_mark = f"{indent}#" if path in LEFT_OUT else mark
            shown = {**SUGGESTED, **LEFT_OUT, **(OFF_EXAMPLES if off else {})}.get(path, value)
            lines.append(f"{field_mark}{name}: {_inline(shown)}")
        if not prefix:
            lines.append("")
    return lines


def _described(section: type[BaseModel], name: str, field: FieldInfo) -> str:
    """A field's sentence, and before it the methods that have the option, where not all of them do."""
    from understudy.recipe.methods import METHODS, MethodConfig, owners

    owning_methods = owners(name) if section is MethodConfig else []
    return (
        f"{', '.join(owning_methods)}: {field.description}"
        if 0 < len(owning_methods) < len(METHODS)
        else field.description or ""
    )


def _sentence(text: str) -> list[str]:
    return textwrap.wrap(text, 108, break_on_hyphens=False, break_long_words=False)


def _default(field: Any) -> Any:
    return None if field.is_required() else field.get_default(call_default_factory=True)


def _inline(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000, allow_unicode=True)
    return text.splitlines()[0]


def _inner(annotation: Any) -> type[BaseModel] | None:
    options = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    for option in options:
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None
