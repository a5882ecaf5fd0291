"""What answers at once: help, the list of recipes, a recipe to start from."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from understudy.arms import CANDIDATES, INFORMED, trained_arms
from understudy.cli.init import SHORT, SUGGESTED, commented_recipe, short_recipe
from understudy.recipe import Recipe, parse_recipe
from understudy.recipe.fields import fields_of
from understudy.recipe.shipped import shipped


def modules_after(*arguments: str) -> set[str]:
    """Top-level modules that a command has loaded by the time it ends."""
    program = (
        "import atexit, json, sys\n"
        "atexit.register(lambda: print('\\n' + json.dumps(sorted({m.split('.')[0] for m in sys.modules}))))\n"
        f"sys.argv = ['understudy', *{list(arguments)!r}]\n"
        "from understudy.cli import main\nmain()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("command", [["--help"], ["run", "--help"], ["recipes"], ["--version"]])
def test_nothing_heavy_is_loaded_for_a_short_answer(command: list[str]) -> None:
    loaded = modules_after(*command)
    assert "understudy" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "numpy", "matplotlib", "tokenizers", "peft"}


def test_without_a_command_the_help_is_shown(house) -> None:
    done = house.call()
    assert done.returncode == 0
    assert all(name in done.stdout for name in ("run", "init", "recipes", "inspect"))


def test_a_mistyped_command_or_option_is_one_line(house) -> None:
    for arguments in (["rum"], ["run", "--fast", "x"], ["run"]):
        done = house.call(*arguments)
        assert done.returncode == 2
        lines = done.stderr.splitlines()
        assert [line.split(":")[0] for line in lines] == ["error", "  hint"], done.stderr


def test_recipes_lists_every_shipped_one(house) -> None:
    listed = house.call("recipes").stdout
    names = {path.stem for path in Path(str(shipped()["telecom_qa"])).parent.glob("*.yaml")}
    assert {line.split()[0] for line in listed.splitlines()} == names
    assert all(len(line.split()) > 3 for line in listed.splitlines())


# -- init ------------------------------------------------------------------------------------------------------------


def expected() -> Recipe:
    """The defaults with the suggestions on top."""
    value = Recipe().model_dump(mode="json")
    for path, suggestion in SUGGESTED.items():
        node = value
        *sections, last = path.split(".")
        for section in sections:
            node = node[section]
        node[last] = suggestion
    return parse_recipe(value)


def test_it_parses_to_the_defaults_and_the_suggestions() -> None:
    assert parse_recipe(yaml.safe_load(commented_recipe())) == expected()


def switched_on() -> str:
    """The recipe with every field that is off turned on."""
    return re.sub(r"^( *)#(?=[a-z_0-9]+:)", r"\1", commented_recipe(), flags=re.MULTILINE)


def test_the_short_one_means_the_same_and_has_few_fields() -> None:
    short = short_recipe()
    assert parse_recipe(yaml.safe_load(short)) == expected()
    assert len(short.splitlines()) <= 45
    for section in ("data", "teacher", "student", "distil"):
        assert f"\n{section}:\n" in short


def test_every_field_of_the_short_one_is_explained_and_can_be_turned_on() -> None:
    lines = short_recipe().splitlines()
    fields = [number for number, line in enumerate(lines) if re.match(r" *#?[a-z_]+:( |$)", line)]
    assert len(fields) == len(SHORT) + 4
    assert all(lines[number - 1].lstrip().startswith("# ") for number in fields)
    turned_on = re.sub(r"^( *)#(?=[a-z_]+:)", r"\1", "\n".join(lines), flags=re.MULTILINE)
    recipe = parse_recipe(yaml.safe_load(turned_on))
    assert recipe.data.columns == {"question": "Query", "answer": "Reply"}
    assert recipe.distil.lora is not None
    assert recipe.distil.learning_rate == 2e-5
    assert recipe.data.unlabelled_source == "questions.jsonl"


def test_it_names_the_recipe_of_the_readme() -> None:
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    [block] = re.findall(r"<!-- file: recipe.yaml -->\n```yaml\n(.*?)```", readme, re.DOTALL)
    assert parse_recipe(yaml.safe_load(short_recipe())) == parse_recipe(yaml.safe_load(block))


def test_every_part_that_is_off_can_be_turned_on_by_taking_the_mark_away() -> None:
    recipe = parse_recipe(yaml.safe_load(switched_on()))
    assert recipe.student.sft is not None
    assert recipe.teacher.sft is not None
    assert recipe.teacher.sft.lora is not None
    assert recipe.distil.lora is not None
    assert recipe.student.sft.steps is None
    assert recipe.evaluate.arms == trained_arms()


def test_with_the_two_sections_on_texts_turned_on_the_arm_that_learns_them_is_trained() -> None:
    lines, on = [], False
    for line in commented_recipe().splitlines():
        on = line.startswith(("#generate:", "#tasks:")) or (on and bool(line))
        lines.append(re.sub(r"^( *)#(?=[a-z_0-9]+:)", r"\1", line) if on else line)
    recipe = parse_recipe(yaml.safe_load("\n".join(lines)))
    assert recipe.generate is not None
    assert recipe.evaluate.arms == tuple(
        name for name in trained_arms() if name not in (INFORMED.name, CANDIDATES.name)
    )


def test_every_field_stands_there_behind_its_sentence() -> None:
    text = switched_on()
    value = yaml.safe_load(text)
    flat = " ".join(line.strip().lstrip("# ") for line in text.splitlines())

    def walk(section: type[BaseModel], written: dict) -> None:
        assert list(written) == list(fields_of(section))
        for name, field in fields_of(section).items():
            sentence = " ".join((field.description or "").split())
            assert f"{sentence} {name}:" in flat
            if isinstance(written[name], dict) and written[name]:
                walk(next(kind for kind in kinds_of(field.annotation)), written[name])

    walk(Recipe, value)


def kinds_of(annotation: object) -> list[type[BaseModel]]:
    options = [annotation, *getattr(annotation, "__args__", ())]
    return [option for option in options if isinstance(option, type) and issubclass(option, BaseModel)]


@pytest.mark.parametrize("write", [commented_recipe, short_recipe])
def test_it_reads_within_a_terminal(write: Callable[[], str]) -> None:
    lines = write().splitlines()
    assert max(map(len, lines)) <= 115
    assert not any(line != line.rstrip() for line in lines)


def test_it_refuses_to_overwrite_unless_forced(house) -> None:
    first = house.call("init", "mine.yaml")
    assert first.returncode == 0
    (house.folder / "mine.yaml").write_text("name: kept\n")
    second = house.call("init", "mine.yaml")
    assert second.returncode == 1
    assert second.stderr == "error: mine.yaml exists already\n  hint: give another name, or --force\n"
    assert (house.folder / "mine.yaml").read_text() == "name: kept\n"
    assert house.call("init", "mine.yaml", "--force").returncode == 0
    assert (house.folder / "mine.yaml").read_text() == short_recipe()
    assert house.call("init", "mine.yaml", "--force", "--full").returncode == 0
    assert (house.folder / "mine.yaml").read_text() == commented_recipe()


@pytest.mark.parametrize("options", [("--resamples", str(10**23)), ("--resamples", "-1"), ("--limit", str(10**23))])
def test_numbers_of_the_command_line_have_bounds(options: tuple[str, str], command) -> None:
    done = command("evaluate", "nowhere.jsonl", *options)
    assert done.code == 2
    assert f"Invalid value for '{options[0]}'" in done.err
    assert "Traceback" not in done.err
