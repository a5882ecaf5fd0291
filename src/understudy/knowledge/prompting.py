"""Prompts from editable files: the words of a question, the same for an example and for the demonstrations before it.

Texts of examples are values that fill a prompt, never part of it: whatever braces stand in a question come out as they
went in. Prompts themselves run in a sandbox.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jinja2 import FileSystemLoader, StrictUndefined, TemplateError, TemplateSyntaxError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from understudy.data.choices import choice_label
from understudy.errors import ConfigError, unknown
from understudy.files import atomic, fingerprint, read_text
from understudy.knowledge.step import CritiqueRevision, Question
from understudy.recipe.reading import parse_yaml
from understudy.types import Example, Message

SHIPPED_PROMPTS = Path(__file__).parent / "prompts"
"""The folder of the prompts that come with the package."""

PAIRS, SYSTEM, QUESTION = "pairs.yaml", "system.jinja", "question.jinja"


class Prompts:
    """The shipped prompts; a file of the same name in the user's folder takes the place of one."""

    def __init__(self, folder: str | os.PathLike[str] | None = None, steps: Iterable[str] = ()) -> None:
        """Look at the files.

        Args:
            folder: the user's folder of prompts.
            steps: names of the user's steps, which may have a prompt there too.

        Raises:
            ConfigError: no such folder, or a file in it that no step reads.
        """
        self.folders = [SHIPPED_PROMPTS]
        if folder is not None:
            user_folder = Path(folder).expanduser()
            _check_folder(
                user_folder, {path.name for path in SHIPPED_PROMPTS.iterdir()} | {f"{name}.jinja" for name in steps}
            )
            self.folders.insert(0, user_folder)
        self._environment = ImmutableSandboxedEnvironment(
            loader=FileSystemLoader(self.folders),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._fingerprints: dict[str, str] = {}

    def path(self, name: str) -> Path | None:
        """The file of a name; None where there is none."""
        return next((folder / name for folder in self.folders if (folder / name).is_file()), None)

    def fingerprint(self, name: str) -> str:
        """Eight hexadecimal digits of a step's prompt, what it shares with others included."""
        if name not in self._fingerprints:
            files = [self.path(file_name) for file_name in (f"{name}.jinja", SYSTEM, QUESTION)]
            self._fingerprints[name] = fingerprint([file and read_text(file) for file in files], length=8)
        return self._fingerprints[name]

    @cached_property
    def pairs(self) -> tuple[CritiqueRevision, ...]:
        """The requests for critique and revision.

        Raises:
            ConfigError: the file is no list of such pairs.
        """
        path = self.path(PAIRS)
        assert path is not None
        try:
            rows = parse_yaml(read_text(path))
            pairs = tuple(CritiqueRevision(str(row["critique"]).strip(), str(row["revision"]).strip()) for row in rows)
        except (yaml.YAMLError, TypeError, KeyError) as error:
            reason = " ".join(str(error).split())
            raise ConfigError(
                f"{path} is no list of pairs: {reason}", hint="each needs `critique: …` and `revision: …`"
            ) from error
        if not pairs:
            raise ConfigError(f"{path} is empty", hint="it needs one pair at least; remove the file to use ours")
        return pairs

    def turn(self, step: str, example: Example, question: Question) -> tuple[Message, ...]:
        """What is asked about an example, without system turn and demonstrations.

        Raises:
            ConfigError: the step has no prompt, or its prompt uses what it is not given.
        """
        if question.messages:
            return question.messages
        if self.path(f"{step}.jinja") is None:
            raise ConfigError(
                f"step {step} has no prompt {step}.jinja",
                hint="put it into `generate.prompts`, or use Question.of(text)",
            )
        return (Message("user", self.render(f"{step}.jinja", {**variables(example), **question.variables})),)

    @cached_property
    def system(self) -> tuple[Message, ...]:
        """The system turn; none where the file is empty."""
        text = self.render(SYSTEM, {}).strip()
        return (Message("system", text),) if text else ()

    def check(self) -> None:
        """Read every prompt.

        Raises:
            ConfigError: one is no template.
        """
        for name in sorted({path.name for folder in self.folders for path in folder.glob("*.jinja")}):
            try:
                self._environment.get_template(name)
            except TemplateSyntaxError as error:
                raise self._fault(name, error) from error
            except UnicodeDecodeError as error:
                raise ConfigError(
                    f"prompt {name} is not UTF-8 (byte {error.start})", hint="convert it first"
                ) from error

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """A prompt filled with values.

        Raises:
            ConfigError: it is no template, or uses what it is not given.
        """
        try:
            return self._environment.get_template(name).render(values)
        except TemplateError as error:
            raise self._fault(name, error) from error
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:
            raise ConfigError(f"prompt {name}: {error}", hint=f"{self.path(name)}") from error

    def _fault(self, name: str, error: TemplateError) -> ConfigError:
        where = f"{error.name}:{error.lineno}" if isinstance(error, TemplateSyntaxError) else name
        return ConfigError(
            f"prompt {where}: {error.message}", hint=f"its folder: {(self.path(name) or SHIPPED_PROMPTS).parent}"
        )


def variables(example: Example) -> dict[str, Any]:
    """What every prompt may use of an example: question, context, history, choices (each with label and text)."""
    return {
        "question": example.question,
        "context": example.context or "",
        "history": [{"role": turn.role, "content": turn.content} for turn in example.history],
        "choices": [{"label": choice_label(place), "text": text} for place, text in enumerate(example.choices)],
    }


def _check_folder(folder: Path, known: set[str]) -> None:
    if not folder.is_dir():
        raise ConfigError(
            f"generate.prompts: no such folder: {folder}", hint="`understudy generate --prompts-to FOLDER` makes one"
        )
    for path in sorted(folder.iterdir()):
        if path.name not in known and not path.name.startswith(".") and path.is_file():
            raise unknown("prompt", path.name, sorted(known), where=str(folder))


def write_prompts(folder: str | os.PathLike[str]) -> list[Path]:
    """Copy the shipped prompts into a folder, to be edited; the files written.

    Raises:
        ConfigError: a file of such a name is there already.
    """
    target = Path(folder).expanduser()
    copies = [(path, target / path.name) for path in sorted(SHIPPED_PROMPTS.iterdir()) if path.is_file()]
    existing = [copy.name for _, copy in copies if copy.exists()]
    if existing:
        raise ConfigError(f"{target} holds {existing[0]} already", hint="name a folder that holds no prompts yet")
    for path, copy in copies:
        with atomic(copy) as handle:
            handle.write(read_text(path))
    return [copy for _, copy in copies]
