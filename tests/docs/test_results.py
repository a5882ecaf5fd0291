"""The tables of docs/results.md say what the data beside them say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from understudy.files import read_json

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("summarise_seeds", ROOT / "scripts" / "summarise_seeds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()]


def test_the_tables_of_five_seeds_are_those_of_their_data(script: ModuleType) -> None:
    texts = script.tables(read_json(ROOT / "docs" / "results" / "telecom_qa_seeds.json"), "exact_match")
    on_page = [title for title in texts if title in PAGE]
    assert [title.split("**")[1] for title in on_page] == [
        *("overall", "fact in_gold", "fact not_in_gold", "paired differences, all items")
    ]
    for title in on_page:
        assert f"{title}\n\n{texts[title]}\n" in PAGE, title
    means = {title.split("**")[1]: rows(text)[-1][1:] for title, text in texts.items()}
    for kind, name in (
        ("phrasing", "phrasing"),
        ("context", "context"),
        ("two_step", "two-step"),
        ("choice", "choice, written answer"),
    ):
        mean = [cell.split(" ±")[0] for cell in means[f"kind: {kind}"]]
        assert f"| {name} | {' | '.join(mean)} |" in PAGE
    mean = [cell.split(" ±")[0] for cell in means["overall"]]
    order = [script.ARMS.index(arm) for arm in ("teacher", "base_student", "sft", "kd_gold", "seqkd", "distilled")]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"| {' | '.join(mean[place] for place in order)} |" in readme


def test_the_figures_of_fitting_and_of_large_tokenizers_are_those_of_their_data() -> None:
    page = " ".join(PAGE.split())
    fitting = read_json(ROOT / "docs" / "results" / "context_fitting.json")
    both = {
        name: [" and ".join(f"{run[key]:.1f}" for run in fitting[side]["runs"]) for side in ("before", "after")]
        for name, key in (("fit", "fitting_cpu_seconds"), ("run", "run_cpu_seconds"))
    }
    assert {run["calls"] for side in ("before", "after") for run in fitting[side]["runs"]} == {6315}
    assert f"fitting took {both['fit'][0]} seconds before (commit {fitting['before']['commit']})" in page
    assert f"and takes {both['fit'][1]} now; the whole run took {both['run'][0]}, and takes {both['run'][1]}." in page
    seconds = [run["seconds"] for run in read_json(ROOT / "docs" / "results" / "large_tokenizers.json")["runs"]]
    reading, comparing, doctor = (
        " and ".join(f"{run[what]['cpu']:.1f}" for run in seconds) for what in ("reading", "comparing", "doctor")
    )
    together = " and ".join(f"{run['reading']['cpu'] + run['comparing']['cpu']:.1f}" for run in seconds)
    assert f"Reading both takes {reading} seconds, comparing them {comparing}: {together} together" in page
    assert f"`understudy doctor` takes {doctor} from its start" in page
    assert all(run["reading_again"]["cpu"] == 0 for run in seconds)
