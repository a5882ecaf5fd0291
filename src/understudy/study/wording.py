"""What pages say in each language, and what a new study asks unless it is told otherwise."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, cast, get_args

import yaml

from understudy.study.config import CheckConfig, ConsentConfig, ConstructConfig, Language, QuestionConfig, Text

LANGUAGES: tuple[Language, ...] = get_args(Language)

_RIGHT = {"judged": 1, "scale": 2}
"""Question about the task -> place of the right option."""


@cache
def _file(language: str) -> dict[str, Any]:
    path = resources.files("understudy.study") / "languages" / f"{language}.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def pages(language: Language) -> Mapping[str, str]:
    """Key -> what pages say, in one language."""
    return _file(language)["pages"]


def practice(language: Language) -> Mapping[str, Any]:
    """The item to practise on: question, choices, answer, text."""
    return _file(language)["defaults"]["practice"]


def _in_each(languages: Sequence[Language], part: Callable[[dict[str, Any]], str]) -> Text:
    return {language: part(_file(language)["defaults"]) for language in languages}


def default_title(languages: Sequence[Language]) -> Text:
    """The title of a study that was given none."""
    return _in_each(languages, lambda file: file["title"])


def default_constructs(languages: Sequence[Language]) -> tuple[ConstructConfig, ...]:
    """The five constructs: plausibility, understandability, completeness, satisfaction, contrastiveness."""
    names = _file("en")["defaults"]["constructs"]
    return tuple(
        ConstructConfig(name=name, statement=_in_each(languages, lambda file, name=name: file["constructs"][name]))
        for name in names
    )


def default_consent(languages: Sequence[Language], *, pairwise: bool = False) -> ConsentConfig:
    """The consent text of a study that was given none."""
    invitation = "invitation_pairs" if pairwise else "invitation"
    return ConsentConfig(text=_in_each(languages, lambda file: f"{file[invitation]}\n\n{file['consent']}"))


def default_demographics(languages: Sequence[Language]) -> tuple[QuestionConfig, ...]:
    """Questions about the rater."""
    return tuple(QuestionConfig(**parts) for parts in _questions("demographics", languages))


def default_comprehension(languages: Sequence[Language], *, pairwise: bool = False) -> tuple[CheckConfig, ...]:
    """Questions about the task; of pairs none about a scale."""
    asked = [parts for parts in _questions("comprehension", languages) if not (pairwise and parts["name"] == "scale")]
    return tuple(CheckConfig(**parts, right=_RIGHT[parts["name"]]) for parts in asked)


def _questions(section: str, languages: Sequence[Language]) -> list[dict[str, Any]]:
    files = {language: _file(language)["defaults"][section] for language in languages}
    return [
        {
            "name": name,
            "question": {language: file[name]["question"] for language, file in files.items()},
            "options": tuple(
                {language: file[name]["options"][place] for language, file in files.items()}
                for place in range(len(question["options"]))
            ),
        }
        for name, question in _file("en")["defaults"][section].items()
    ]


def in_language(text: Text, language: Language) -> str:
    """A text of `study.yaml` in one of its languages."""
    return cast(Mapping[str, str], text)[language]
