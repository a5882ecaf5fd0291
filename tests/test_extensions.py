"""Files of a user's own: run once, withdrawn when they change, one line for every fault, part of a run's identity."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.extension import EXTENSION
from understudy.data.formats import FORMATS, detect
from understudy.errors import ConfigError, RunError
from understudy.extensions import load_all
from understudy.grid import GridFolder, cell_runs, stage_keys
from understudy.knowledge.pipeline import check
from understudy.knowledge.step import STEPS
from understudy.losses.divergences import DIVERGENCES
from understudy.metrics import METRICS
from understudy.pipeline.scheduler import stages
from understudy.pipeline.staleness import changed
from understudy.recipe import GenerateConfig, Recipe, parse_grid, parse_recipe
from understudy.run import Run

METRIC = """
from understudy.metrics import mean_score, register
register({name!r}, lambda texts: mean_score({name!r}, [{value} for _ in texts.predictions], "mine"))
"""


@pytest.fixture(autouse=True)
def registries_stay() -> Iterator[None]:
    """What a test registers goes with it."""
    before = [(registry, dict(registry)) for registry in (DIVERGENCES, METRICS, FORMATS)]
    yield
    for registry, entries in before:
        registry.clear()
        registry.update(entries)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """The file of `support.extension`."""
    path = tmp_path / "mine.py"
    path.write_text(EXTENSION, encoding="utf-8")
    return path


def test_a_recipe_runs_the_files_it_names_and_no_others(mine: Path) -> None:
    parse_recipe({"name": "without"})
    assert "squared" not in DIVERGENCES
    parse_recipe({"extensions": [str(mine)]})
    assert "squared" in DIVERGENCES
    assert "brevity" in METRICS
    assert detect([{"ask": "a", "tell": "b"}]) == "ask_tell"


def test_a_step_of_generation_comes_by_extension_or_by_own_steps(tmp_path: Path) -> None:
    path = tmp_path / "my_steps.py"
    path.write_text(
        "from understudy.knowledge.step import Question, step\n\n"
        '@step("shortened", needs=("explain",))\n'
        "def shortened(example, known, draw):\n"
        "    yield Question.of(known.text('explain'))\n"
    )
    steps = {"steps": ["explain", "shortened"]}
    for value in (
        {"extensions": [str(path)], "generate": steps},
        {"generate": {**steps, "own_steps": [str(path)]}},
        {"extensions": [str(path)], "generate": {**steps, "own_steps": [str(path)]}},
    ):
        recipe = parse_recipe(value)
        assert recipe.generate is not None
        check(recipe.generate)
        del STEPS["shortened"]
    with pytest.raises(ConfigError, match="there is no step 'shortened'"):
        check(GenerateConfig.model_validate(steps))


def test_a_file_that_has_not_changed_is_run_once_and_a_changed_one_replaces_what_it_registered(tmp_path: Path) -> None:
    path = tmp_path / "metrics.py"
    path.write_text(METRIC.format(name="first", value=1.0))
    load_all([path])
    before = METRICS["first"]
    load_all([path])
    assert METRICS["first"] is before
    path.write_text(METRIC.format(name="other", value=2.0))
    load_all([path])
    assert "first" not in METRICS
    assert "other" in METRICS


def test_what_a_file_is_the_first_to_import_of_ours_stays_when_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "steps.py"
    path.write_text("import understudy.knowledge.steps\nN = 1\n")
    program = (
        "from pathlib import Path\nfrom understudy.extensions import load_all\n"
        f"path = Path({str(path)!r})\nload_all([path])\npath.write_text('N = 2')\nload_all([path])\n"
        "from understudy.knowledge.step import STEPS\nassert 'explain' in STEPS"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (", r"mine.py:1: SyntaxError"),
        ("\nraise ValueError('no')", r"mine.py:2: ValueError: no"),
        ("import nothing_of_that_name", r"mine.py:1: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)", r"mine.py:2: SystemExit"),
        (METRIC.format(name="bleu", value=1), r"mine.py: there is a metric 'bleu' already"),
        (EXTENSION.replace('"squared"', '"js"'), r"mine.py: there is a divergence 'js' already"),
        (EXTENSION.replace('"ask_tell"', '"qa"'), r"mine.py: there is a format 'qa' already"),
    ],
)
def test_a_bad_file_is_one_line_and_leaves_nothing_behind(mine: Path, text: str, message: str) -> None:
    mine.write_text(text, encoding="utf-8")
    before = dict(DIVERGENCES), dict(METRICS), dict(FORMATS)
    with pytest.raises(ConfigError, match=message) as refused:
        parse_recipe({"extensions": [str(mine)]})
    assert "\n" not in refused.value.message
    assert before == (DIVERGENCES, METRICS, FORMATS)


def test_a_name_of_another_file_is_named_with_the_file(mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.py"
    other.write_text(METRIC.format(name="brevity", value=1))
    with pytest.raises(ConfigError, match=r"other\.py: there is a metric 'brevity' already, of mine\.py"):
        parse_recipe({"extensions": [str(mine), str(other)]})


def test_a_file_that_is_not_there_and_two_of_one_name_are_refused(mine: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"extensions: no such file: nowhere\.py"):
        parse_recipe({"extensions": ["nowhere.py"]})
    twin = tmp_path / "twin" / "mine.py"
    twin.parent.mkdir()
    twin.write_text("")
    with pytest.raises(ConfigError, match="extensions: two files are called mine"):
        parse_recipe({"extensions": [str(mine), str(twin)]})
    with pytest.raises(ConfigError, match="extensions: Input should be a valid tuple"):
        parse_recipe({"extensions": str(mine)})


# -- identity --------------------------------------------------------------------------------------------------------


def recipe_of(path: Path) -> Recipe:
    """A recipe with an extension."""
    return parse_recipe({"extensions": [str(path)], "output": str(path.parent / "runs")})


def test_the_content_is_part_of_the_fingerprint_and_where_it_stands_is_not(mine: Path, tmp_path: Path) -> None:
    plain, before = parse_recipe({}).fingerprint(), recipe_of(mine).fingerprint()
    moved = tmp_path / "elsewhere" / "mine.py"
    moved.parent.mkdir()
    moved.write_text(EXTENSION)
    assert recipe_of(moved).fingerprint() == before
    mine.write_text(EXTENSION.replace("<= 3", "<= 4"))
    assert len({plain, before, recipe_of(mine).fingerprint()}) == 3


def test_a_recipe_without_extensions_is_the_one_it_was() -> None:
    assert "extensions" not in parse_recipe({}).identity()


def test_a_recipe_takes_its_extensions_to_another_process(mine: Path, tmp_path: Path) -> None:
    recipe = recipe_of(mine)
    packed = tmp_path / "recipe.pickle"
    packed.write_bytes(pickle.dumps(recipe))
    program = (
        f"import pickle\nrecipe = pickle.load(open({str(packed)!r}, 'rb'))\n"
        "from understudy.metrics import METRICS\n"
        f"assert 'brevity' in METRICS\nassert recipe.fingerprint() == {recipe.fingerprint()!r}\n"
        f"assert recipe.extensions == ({str(mine)!r},)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd="/")
    mine.write_text(EXTENSION + "\n")
    with pytest.raises(RunError, match=r"mine\.py changed while it was in use"):
        pickle.loads(packed.read_bytes())


def test_a_run_keeps_what_it_was_run_with(mine: Path) -> None:
    recipe = recipe_of(mine)
    run = Run.of(recipe)
    run.prepare(recipe)
    (run.folder / "data").mkdir()
    (run.folder / "data" / "notes.json").write_text("{}")
    assert changed(run, recipe) == []
    mine.write_text(EXTENSION.replace("<= 3", "<= 4"))
    assert changed(run, recipe) == [str(mine)]
    assert run.recipe.fingerprint() == recipe.fingerprint()
    mine.unlink()
    assert run.recipe.fingerprint() == recipe.fingerprint()
    assert run.recipe.extensions == (str(mine),)
    other = run.recipe.revised({**recipe.model_dump(mode="json"), "seed": 3})
    assert other.seed == 3
    assert other.identity()["extensions"] == recipe.identity()["extensions"]


def test_stages_of_a_grid_are_made_from_it_and_a_change_is_refused(mine: Path, tmp_path: Path) -> None:
    def keys() -> dict[str, str]:
        recipe = recipe_of(mine)
        return stage_keys.keys(recipe, stages(recipe, unlabelled=True), {})

    cells = cell_runs(parse_grid({"extensions": [str(mine)], "axes": {"seed": [0, 1]}}))
    folder = GridFolder(tmp_path / "grid")
    folder.path.mkdir()
    folder.contents(cells)
    before = keys()
    mine.write_text(EXTENSION.replace("<= 3", "<= 4"))
    after = keys()
    assert all(before[name] != after[name] for name in before)
    with pytest.raises(RunError, match=r"mine\.py changed since this grid was begun"):
        folder.contents(cells)
