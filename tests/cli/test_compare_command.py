"""`evaluate`, `compare` and `report` as a person calls them: on a whole run, on its arms, and on plain files."""

from __future__ import annotations

import csv
import html
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_help_and_init import modules_after

from support.embedded_answers import NAMES, write
from support.house import House, Outcome, environment
from understudy.files import read_json

QUICK = ("--metrics", "exact_match,rougeL,chrf", "--resamples", "200")


def understudy(folder: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "understudy", *arguments],
        cwd=folder,
        env={**environment(), **settings},
        capture_output=True,
        text=True,
        timeout=120,
    )


Good = Callable[..., str]


@pytest.fixture
def good(command: Callable[..., Outcome], monkeypatch: pytest.MonkeyPatch) -> Good:
    """Call the command line in a folder, in this process, expect a good end and give what it printed."""

    def call(folder: Path, *arguments: str) -> str:
        monkeypatch.chdir(folder)
        done = command(*arguments)
        assert done.code == 0, done.err
        assert done.err == ""
        return done.out

    return call


@pytest.fixture
def run(finished: House, tmp_path: Path) -> Path:
    """A copy of the finished run, free to be written to."""
    return Path(shutil.copytree(finished.run_folder(), tmp_path / finished.run_folder().name))


def other_run(run: Path, folder_name: str, **fields: Any) -> Path:
    """The same run as another recipe would have left it."""
    folder = Path(shutil.copytree(run, run.parent / folder_name))
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**recipe, **fields}), encoding="utf-8")
    return folder


# -- evaluate --------------------------------------------------------------------------------------------------------


def test_evaluate_scores_every_arm_of_a_run(run: Path, good: Good) -> None:
    out = good(run.parent, "evaluate", run.name, *QUICK)
    result = read_json(run / "evaluation" / "scores.json")
    before = read_json(run / "scores.json")["overall"]["table"]
    assert set(result["systems"]) == set(before)
    for arm, system in result["systems"].items():
        for metric, figures in system["metrics"].items():
            assert figures["value"] == pytest.approx(before[arm][metric]["value"]), (arm, metric)
            assert len(figures["per_example"]) == len(system["ids"]) == system["items"]
    for word in ("SFT-only", "Majority answer", "ROUGE-L", "rouge-score"):
        assert word in out


def test_evaluate_reads_the_files_of_other_tools(tmp_path: Path, good: Good) -> None:
    (tmp_path / "a.csv").write_text("Question,Response,Ground Truth\nq,AMF,AMF\nr,SMF,UPF\n", encoding="utf-8")
    out = good(tmp_path, "evaluate", "a.csv", "--metrics", "exact_match,faithfulness,answer_correctness", "--why")
    assert "50.0" in out
    assert re.search(r"not measured: Faithfulness: .*judge", out)
    figures = read_json(tmp_path / "a.scores.json")
    assert figures["systems"]["a"]["metrics"]["exact_match"]["per_example"] == [1.0, 0.0]
    assert set(figures["not_measured"]) == {"faithfulness", "answer_correctness"}


def test_numbers_keep_sign_and_point_unless_squads_form_is_asked_for(tmp_path: Path, good: Good) -> None:
    (tmp_path / "hyp.txt").write_text("-200\n1.4\n1,000\n", encoding="utf-8")
    (tmp_path / "ref.txt").write_text("200\n14\n1000\n", encoding="utf-8")
    arguments = ("evaluate", "hyp.txt", "--references", "ref.txt", *QUICK, "--out", "x.json")
    for options, form, values in (((), "numbers", [0, 0, 1]), (("--normalise", "squad"), "squad", [1, 1, 1])):
        good(tmp_path, *arguments, *options)
        figures = read_json(tmp_path / "x.json")["systems"]["hyp"]["metrics"]["exact_match"]
        assert figures["per_example"] == values
        assert figures["signature"] == f"exact_match|normalise:{form}|references:best"


def test_evaluate_reads_two_text_files_line_by_line(tmp_path: Path, good: Good) -> None:
    (tmp_path / "hyp.txt").write_text("the AMF\nSMF\n", encoding="utf-8")
    (tmp_path / "ref.txt").write_text("the AMF\nUPF\n", encoding="utf-8")
    good(tmp_path, "evaluate", "hyp.txt", "--references", "ref.txt", *QUICK, "--out", "x.json")
    assert read_json(tmp_path / "x.json")["systems"]["hyp"]["metrics"]["exact_match"]["value"] == 0.5


# -- compare ---------------------------------------------------------------------------------------------------------


def test_one_run_alone_compares_its_arms(run: Path, good: Good) -> None:
    out = good(run.parent, "compare", run.name, *QUICK)
    figures = read_json(run.parent / "comparison" / "comparison.json")
    pairs = {(test["a"], test["b"]) for test in figures["comparison"]["tests"]}
    assert ("distilled", "sft") in pairs
    assert ("distilled", "majority") in pairs
    assert ("majority", "teacher") not in pairs
    assert "Distilled − SFT-only" in out


def test_a_run_and_the_comparison_of_its_folder_say_the_same(run: Path, good: Good) -> None:
    """One run folder: every difference, interval and p of its report is what `understudy compare RUN` computes."""
    report = read_json(run / "scores.json")
    out = good(run.parent, "compare", run.name)
    figures = read_json(run.parent / "comparison" / "comparison.json")
    assert len(figures["comparison"]["tests"]) > 50
    for part in ("comparison", "overall", "kinds", "gold_facts", "gaps", "chance", "metrics"):
        assert figures[part] == report[part], part
    page = (run / "report.html").read_text(encoding="utf-8")
    for sentence in read_json(run / "summary.json")["headline"]:
        assert sentence in out
        assert html.escape(sentence, quote=False) in html.unescape(page)
    good(run.parent, "report", "comparison", "--out", "again.html")
    again = (run.parent / "again.html").read_text(encoding="utf-8")
    cells = re.compile(r'<td><span class="value \w+">.*?</td><td>.*?</td>')
    assert cells.findall(again) == cells.findall(page)[: len(cells.findall(again))] != []


def test_runs_that_differ_only_in_seed_are_one_system_each(run: Path, good: Good) -> None:
    again = other_run(run, "again", seed=1)
    out = good(run.parent, "compare", run.name, again.name, *QUICK)
    result = read_json(run.parent / "comparison" / "comparison.json")
    assert {tuple(system["seeds"]) for system in result["systems"]} == {(0, 1)}
    assert "mean ± standard deviation over seeds" in out
    figures = result["seeds"]["distilled"]["chrf"]
    assert (len(figures["values"]), figures["sd"]) == (2, 0.0)


def test_runs_of_two_recipes_are_compared_on_the_distilled_arm(run: Path, good: Good) -> None:
    other = other_run(run, "other", name="hotter", distil={**yaml_of(run)["distil"], "loss_temperature": 4.0})
    good(run.parent, "compare", run.name, other.name, *QUICK)
    figures = read_json(run.parent / "comparison" / "comparison.json")
    assert [system["name"] for system in figures["systems"]] == ["tiny:distilled", "hotter:distilled"]
    good(run.parent, "compare", run.name, other.name, "--arm", "sft", *QUICK, "--out", "sft")
    figures = read_json(run.parent / "sft" / "comparison.json")
    assert [system["name"] for system in figures["systems"]] == ["tiny:sft", "hotter:sft"]


def test_an_arm_of_a_run_against_another(run: Path, good: Good) -> None:
    good(run.parent, "compare", f"{run.name}:teacher", f"{run.name}:sft", *QUICK)
    figures = read_json(run.parent / "comparison" / "comparison.json")
    assert [system["name"] for system in figures["systems"]] == ["teacher", "sft"]


def yaml_of(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "recipe.yaml").read_text(encoding="utf-8"))


def test_plain_files_give_a_table_json_csv_latex_and_a_page(tmp_path: Path, good: Good) -> None:
    paths = write(tmp_path)
    done = understudy(tmp_path, "compare", *paths, *QUICK)
    assert (done.returncode, done.stderr) == (0, "")
    out = done.stdout
    figures = read_json(tmp_path / "comparison" / "comparison.json")
    assert len(figures["comparison"]["tests"]) == 9
    with open(tmp_path / "comparison" / "comparison.csv", encoding="utf-8", newline="") as handle:
        assert len(list(csv.DictReader(handle))) == 9
    assert r"\toprule" in (tmp_path / "comparison" / "comparison.tex").read_text(encoding="utf-8")
    value = figures["overall"]["table"][NAMES[0]]["exact_match"]["value"]
    assert f"{NAMES[0]} reaches {100 * value:.1f}" in out
    good(tmp_path, "report", "comparison")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    figures_drawn = page.split("<figure>")[1:]
    assert len(figures_drawn) == 4
    assert all("<svg" in part for part in figures_drawn)
    good(tmp_path, "report", *paths, *QUICK, "--out", "again.html")
    assert (tmp_path / "again.html").read_text(encoding="utf-8") == page


def test_what_was_not_measured_takes_one_line_unless_asked_for(tmp_path: Path, good: Good) -> None:
    write(tmp_path, *NAMES[:2])
    files = [f"{name}.jsonl" for name in NAMES[:2]]
    options = ("--metrics", "exact_match,faithfulness,answer_relevance", "--resamples", "200")
    for arguments in (("evaluate", files[0]), ("compare", *files)):
        lines = [line for line in good(tmp_path, *arguments, *options).splitlines() if line.startswith("not measured")]
        assert lines == ["not measured: Faithfulness, Answer relevance (reasons: --why)"]
        lines = [line for line in good(tmp_path, *arguments, *options, "--why").splitlines() if "not measured" in line]
        assert [line.split(": ")[1] for line in lines] == ["Faithfulness", "Answer relevance"]
        assert all("judge" in line for line in lines)


def test_a_baseline_leaves_the_other_pairs_out(tmp_path: Path, good: Good) -> None:
    good(tmp_path, "compare", *write(tmp_path), *QUICK, "--baseline", NAMES[2])
    tests = read_json(tmp_path / "comparison" / "comparison.json")["comparison"]["tests"]
    assert {test["b"] for test in tests} == {NAMES[2]}


def test_too_few_resamples_for_so_many_tests_are_said(tmp_path: Path, good: Good) -> None:
    out = good(tmp_path, "compare", *write(tmp_path), "--metrics", "text", "--resamples", "100")
    assert "With 100 resamples no corrected p-value of 24 tests can fall below 0.24" in out


# -- judges ----------------------------------------------------------------------------------------------------------


def judged(call: Any) -> Any:
    """A scripted judge: the smallest answer that its schema allows, every verdict true."""
    from support.servers import Reply

    text = json.dumps(call.body)
    schema = call.body["response_format"]["json_schema"]["schema"]
    assert "AMF" in text
    return Reply(json.dumps(_smallest(schema)))


def _smallest(schema: dict[str, Any]) -> Any:
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        return {name: _smallest(part) for name, part in schema["properties"].items()}
    if kind == "array":
        return [_smallest(schema["items"])] * max(1, schema.get("minItems", 1))
    return {"boolean": True, "string": "The AMF terminates N2.", "integer": 1, "number": 1.0}[str(kind)]


def test_a_judge_is_asked_once_and_then_remembered(tmp_path: Path) -> None:
    from support.servers import Server

    row = {"id": "1", "question": "What ends N2?", "prediction": "AMF", "reference": "AMF", "context": "AMF ends N2."}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    with Server(judged) as server:
        asked = ("--judge-url", server.base_url, "--judge-model", "scripted", "--metrics", "faithfulness")
        asked = (*asked, "--judge", "repeats=2", "--judge", "temperature=0.7", "--judge", "api_key_env=KEY")
        first = understudy(tmp_path, "evaluate", "a.jsonl", *asked, UNDERSTUDY_CACHE="cache", KEY="k")
        assert first.returncode == 0, first.stderr
        calls = len(server.calls)
        assert calls > 0
        again = understudy(tmp_path, "evaluate", "a.jsonl", *asked, UNDERSTUDY_CACHE="cache", KEY="k")
        assert len(server.calls) == calls
    figures = read_json(tmp_path / "a.scores.json")["systems"]["a"]["metrics"]["faithfulness"]
    assert figures["value"] == 1.0
    assert "scripted" in figures["signature"]
    assert "judge scripted" in first.stdout
    assert "each item judged 2 times" in first.stdout
    assert {call.headers["authorization"] for call in server.calls} == {"Bearer k"}
    assert {call.body["temperature"] for call in server.calls} == {0.7}
    assert "answered from the cache" in again.stdout


# -- what is loaded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["evaluate", "compare", "report"])
def test_help_loads_nothing_heavy(command: str) -> None:
    assert not modules_after(command, "--help") & {"torch", "transformers", "numpy", "matplotlib", "statsmodels"}


def test_scores_of_plain_files_need_no_torch(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("prediction,reference\nAMF,AMF\nSMF,UPF\n", encoding="utf-8")
    loaded = modules_after("evaluate", str(tmp_path / "a.csv"), "--metrics", "text", "--resamples", "100")
    assert not loaded & {"torch", "transformers"}


def test_right_answers_of_any_layout_with_columns_marks_and_options(tmp_path: Path, good: Good) -> None:
    """Three files of one exam, each in another form, against a table in columns of one's own."""
    rows = ["Nr,Frage,Option A,Option B,Antwort", *(f"q{n},Which {n}?,Rome,Paris,B" for n in range(4))]
    (tmp_path / "exam.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (tmp_path / "byid.json").write_text(
        json.dumps({f"q{n}": text for n, text in enumerate(["B", "(b)", "Paris", "A"])})
    )
    lines = [json.dumps({"question": f"Which {n}?", "prediction": f"Hm. #### {'AB'[n % 2]}"}) for n in (3, 2, 1, 0)]
    (tmp_path / "solved.jsonl").write_text("\n".join(lines) + "\n")
    shared = ("--references", "exam.csv", "--columns", "id=Nr,question=Frage", "--columns", "{answer: Antwort}")
    out = good(tmp_path, "evaluate", "byid.json", *shared, *QUICK)
    assert "note: byid.json: right answers of exam.csv (table) found by id" in out
    assert "note: byid: 4 of 4 answers to multiple-choice items name an option (1 by its text, 3 by number" in out
    scores = read_json(tmp_path / "byid.scores.json")["systems"]
    assert scores["byid"]["metrics"]["exact_match"]["value"] == 0.75
    good(tmp_path, "evaluate", "solved.jsonl", *shared, "--final-answer", "####", *QUICK)
    scores = read_json(tmp_path / "solved.scores.json")["systems"]
    assert scores["solved"]["metrics"]["exact_match"]["value"] == 0.5
    out = good(tmp_path, "compare", "byid.json", "solved.jsonl", *shared, "--final-answer", "####,Answer:", *QUICK)
    assert "byid: final answers behind `####`, `Answer:` taken out of 0 of 4 predictions" in out
    assert "found by question" in out
    good(tmp_path, "report", "byid.json", "solved.jsonl", *shared, *QUICK)
    page = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "right answers of exam.csv (table) found by id" in page


def test_a_split_of_a_saved_data_set(tmp_path: Path, good: Good) -> None:
    datasets = pytest.importorskip("datasets")
    parts = {name: {"question": ["Who?"], "answer": [name]} for name in ("train", "test")}
    folder = datasets.DatasetDict({name: datasets.Dataset.from_dict(part) for name, part in parts.items()})
    folder.save_to_disk(str(tmp_path / "saved"))
    (tmp_path / "p.jsonl").write_text('{"question": "Who?", "prediction": "test"}\n')
    for split, value in (("train", 0.0), ("test", 1.0)):
        chosen = ("--references", "saved", "--data", f"hub_split={split}")
        good(tmp_path, "evaluate", "p.jsonl", *chosen, *QUICK)
        metrics = read_json(tmp_path / "p.scores.json")["systems"]["p"]["metrics"]
        assert metrics["exact_match"]["value"] == value


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["evaluate", "nothing.jsonl"], "no such run or file: nothing.jsonl", "check the path"),
        (["evaluate", "empty"], "empty is no run folder", "understudy run"),
        (["evaluate", "a.jsonl", "--metrics", "rougel"], "there is no metric 'rougel'", "did you mean `rougeL`?"),
        (["evaluate", "a.jsonl", "--judge-url", "http://x"], "the judge has no model", "--judge-model"),
        (["evaluate", "a.jsonl", "--judge-model", "m", "--judge", "repeat=2"], "judge.repeat: Extra", "repeats"),
        (
            ["evaluate", "a.jsonl", "--judge-model", "m", "--judge", "repeats"],
            "cannot read --judge 'repeats'",
            "KEY=VALUE",
        ),
        (["evaluate", "empty", "--lm-eval", "arc"], "empty holds no model", "student"),
        (["compare", "a.jsonl"], "one system only", "understudy evaluate"),
        (["compare", "a.jsonl", "b.jsonl"], "answered different items", "the same items"),
        (["compare", "a.jsonl", "c.jsonl"], "cannot pair", "column `id`"),
        (["compare", "a.jsonl", "a.jsonl"], "a.jsonl is given twice", ""),
        (["compare", "a.jsonl", "a2.jsonl", "--baseline", "z"], "no system named 'z'", "there are: a, a2"),
        (["report", "bare.jsonl"], "no column with right answers", "--references"),
        (["evaluate", "a.jsonl", "--columns", "answer"], "cannot read --columns 'answer'", "FIELD=COLUMN"),
        (["evaluate", "a.jsonl", "--columns", "{answer: [x]}"], "cannot read --columns", "FIELD=COLUMN"),
        (["evaluate", "a.jsonl", "--columns", "{answer: x"], "is not valid YAML", ""),
        (["compare", "a.jsonl", "a2.jsonl", "--columns", "answer=x"], "no file has this column", "as it is spelled"),
        (["evaluate", "a.jsonl", "--data", "split=test"], "--data: there is no field 'split'", "hub_split"),
        (["evaluate", "a.jsonl", "--data", "split"], "cannot read --data 'split'", "hub_split=test"),
        (["evaluate", "a.jsonl", "--final-answer", ","], "a mark of final answers is empty", "####"),
        (["evaluate", "a.jsonl", "--references", "c.jsonl", "--format", "x"], "--format: there is no", "known: auto"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path, command, monkeypatch, arguments: list[str], error: str, hint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    rows = {
        "a": {"id": "1", "prediction": "x", "reference": "AMF"},
        "a2": {"id": "1", "prediction": "y", "reference": "AMF"},
        "b": {"id": "2", "prediction": "x", "reference": "AMF"},
        "c": {"prediction": "x", "reference": "SMF"},
        "bare": {"prediction": "x"},
    }
    for name, row in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    before = set(os.listdir(tmp_path))
    done = command(*arguments)
    assert done.code == 1, done.err
    lines = done.err.splitlines()
    assert lines[0].startswith("error: ")
    assert error in lines[0]
    assert hint in (lines[1] if len(lines) > 1 else "")
    assert len(lines) <= 2
    assert set(os.listdir(tmp_path)) == before


def test_no_error_is_as_long_as_the_file_that_causes_it(tmp_path: Path, command, monkeypatch) -> None:
    """Ids, systems and fields by the hundred, keys of 100,000 characters: an error names a few and how many more."""
    monkeypatch.chdir(tmp_path)
    many, long = [f"{'k' * 30}{n}" for n in range(300)], "n" * 100_000
    files = {
        "systems.jsonl": "\n".join(
            json.dumps({"id": "1", "prediction": "x", "reference": "y", "system": n}) for n in many[:40]
        ),
        "columns.csv": ",".join(many) + "\n" + ",".join("x" * 300),
        "long.jsonl": "\n".join([json.dumps({"id": long, "prediction": "x", "reference": "y"})] * 2),
        "one.jsonl": json.dumps({"id": long, "prediction": "x", "reference": "y"}),
        "two.jsonl": json.dumps({"id": f"{long}2", "prediction": "x", "reference": "y"}),
        "key.jsonl": json.dumps({long: 1}),
        "texts.json": json.dumps(dict.fromkeys(many, long[:1000])),
        "recipe.yaml": "\n".join(f"{name}: 1" for name in many),
        "value.yaml": f"? {long}\n: 1",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text + "\n", encoding="utf-8")
    for arguments, words in [
        (["compare", "systems.jsonl", "--baseline", "z", *QUICK], "and 28 more"),
        (["evaluate", "columns.csv"], "and 288 more"),
        (["evaluate", "long.jsonl"], "two predictions for item"),
        (["compare", "one.jsonl", "two.jsonl"], "answered different items"),
        (["evaluate", "one.jsonl", "--references", "two.jsonl"], "no right answer for item"),
        (["evaluate", "key.jsonl"], "no column with predictions"),
        (["evaluate", "texts.json"], "and 288 more"),
        (["evaluate", "one.jsonl", "--references", "columns.csv"], "cannot tell the format"),
        (["evaluate", "columns.csv", "--columns", f"answer={long}"], "no column with predictions"),
        (["run", "recipe.yaml"], "and 288 more"),
        (["run", "value.yaml"], "unknown key `nnn"),
        (["run", "telecom_qa", f"{long}=1"], "n"),
    ]:
        done = command(*arguments)
        assert done.code == 1, arguments[:2]
        assert words in done.err, (arguments[:2], done.err[:500])
        assert len(done.err) < 4500, (arguments[:2], len(done.err))


def test_a_run_without_that_arm_or_without_predictions(run: Path, command, monkeypatch) -> None:
    monkeypatch.chdir(run.parent)
    assert "has no arm 'sftt'" in command("compare", f"{run.name}:sftt", f"{run.name}:sft").err
    for option in (("--references", "x.jsonl"), ("--final-answer", "####")):
        assert f"error: {option[0]} is for files of predictions" in command("evaluate", run.name, *option).err
    shutil.rmtree(run / "stages")
    assert "holds no predictions yet" in command("evaluate", run.name).err


def test_lm_eval_that_is_not_there_is_one_line_with_the_command(run: Path, command, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    done = command("evaluate", str(run), "--lm-eval", "arc_easy")
    assert done.code == 1
    assert done.err == "error: lm-eval is not installed\n  hint: pip install 'understudy-distil[lm-eval]'\n"
