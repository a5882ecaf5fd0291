"""What is made for text says so where rows have pictures or recordings, before a weight is loaded."""

from __future__ import annotations

from typing import Any

import pytest

from support import tiny_pictures, tiny_speech
from understudy import build
from understudy.errors import ConfigError
from understudy.recipe import parse_recipe
from understudy.tokens.template import Template

SERVED = {"teacher": {"model": "m", "tokenizer": "t", "base_url": "http://127.0.0.1:1/v1"}}
PARTS: dict[str, dict[str, Any]] = {
    "tasks": {"tasks": {}, "generate": {}, "evaluate": {"arms": ["explained"]}},
    "generate": {"generate": {}},
    "distil.on_policy": {"distil": {"method": "kd", "on_policy": {}}},
    "teachers": {"teachers": {"others": {"second": {"model": "t2"}}}},
}
OF_TEXT = PARTS | {
    "data.system": {"data": {"system": "Be brief."}},
    "candidates": {"candidates": {}, "evaluate": {"arms": ["candidates"]}},
}


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Template:
    root = tmp_path_factory.mktemp("seeing")
    return tiny_pictures.reader(tiny_pictures.folder_of("llava", root)).template


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> Template:
    return tiny_speech.reader(tiny_speech.folder_of(tmp_path_factory.mktemp("hearing"))).template


def plain() -> Template:
    return Template(tiny_pictures.tokenizer())


@pytest.mark.parametrize("name", PARTS)
def test_parts_without_pictures_are_named_where_a_model_would_see(seeing: Template, name: str) -> None:
    recipe, rows = parse_recipe(PARTS[name]), tiny_pictures.examples()
    with pytest.raises(ConfigError, match=f"^{name} has no pictures yet, and 7 rows have some that the student would"):
        build.check_images(recipe, rows, seeing, plain())
    # Models that read the text alone, and rows that have no pictures, are as ever.
    assert build.check_images(recipe, rows, plain(), None) == [
        "7 rows have pictures, and the student is not shown them."
    ]
    assert build.check_images(recipe, rows[-1:], seeing, seeing) == []


def test_a_served_teacher_is_sent_no_pictures(seeing: Template) -> None:
    with pytest.raises(ConfigError, match="a teacher on a server is sent text alone, and 7 rows have pictures"):
        build.check_images(parse_recipe(SERVED), tiny_pictures.examples(), seeing, plain())


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_inner_states_of_what_is_seen_or_heard_are_not_compared(seeing: Template, hearing: Template, side: str) -> None:
    recipe = parse_recipe({"features": {}})
    for other, what in ((seeing, "reads pictures"), (hearing, "hears recordings")):
        pair = (other, plain()) if side == "student" else (plain(), other)
        with pytest.raises(ConfigError, match=f"one of these models {what}"):
            build.check_features(recipe, *pair)


@pytest.mark.parametrize("name", OF_TEXT)
def test_parts_of_text_are_named_where_recordings_are_written_down(hearing: Template, name: str) -> None:
    recipe = parse_recipe(OF_TEXT[name])
    with pytest.raises(ConfigError, match=f"^{name} is made for text, and here recordings are written down"):
        build.check_audio(recipe, tiny_speech.examples(), hearing, hearing)
    build.check_audio(recipe, tiny_pictures.examples(), plain(), plain())


def test_a_served_teacher_is_sent_no_recordings(hearing: Template) -> None:
    with pytest.raises(ConfigError, match="a teacher on a server is sent text alone, and here recordings"):
        build.check_audio(parse_recipe(SERVED), tiny_speech.examples(), hearing, hearing)


def test_both_have_to_hear(hearing: Template) -> None:
    recipe, rows = parse_recipe({}), tiny_speech.examples()
    build.check_audio(recipe, rows, hearing, hearing)
    build.check_audio(recipe, rows, hearing, None)
    with pytest.raises(ConfigError, match=r"^8 rows have recordings, and the student reads text"):
        build.check_audio(recipe, rows, plain(), hearing)
    with pytest.raises(ConfigError, match=r"^8 rows have recordings, and the teacher reads text"):
        build.check_audio(recipe, rows, hearing, plain())
    with pytest.raises(ConfigError, match=r"^the student hears recordings, and the teacher reads text"):
        build.check_audio(recipe, tiny_pictures.examples(), hearing, plain())


@pytest.mark.parametrize("command", ["inspect", "doctor"])
def test_commands_that_look_at_text_refuse_a_model_that_hears(hearing: Template, command: str) -> None:
    with pytest.raises(ConfigError, match=f"^{command} looks at text, and one of these models hears recordings"):
        build.check_writes(command, plain(), hearing)
