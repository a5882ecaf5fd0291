"""Whole runs in which a teacher writes and a student learns of it, on tiny real models."""

from __future__ import annotations

import html
import json
import shutil
from pathlib import Path
from typing import Any, get_args

import pytest

from support.servers import Call, Reply, Server
from support.tiny_explained import SCRIPT, TEXTS, recipe_of, run_recipe, train, write_house, write_lines
from understudy.data.tasks import ANSWER_MARK
from understudy.errors import ConfigError, DataError, RunError
from understudy.files import read_json, read_jsonl
from understudy.knowledge import store
from understudy.pipeline.knowledge_report import texts_of
from understudy.pipeline.stages.explained import explained_rows, without_held_out
from understudy.pipeline.stages.knowledge import teaching_examples
from understudy.recipe import TaskKind, parse_recipe
from understudy.records import DataNotes, GenerationNotes, PredictionNotes, TrainingNotes
from understudy.run import Run

FIELDS = {"raw", "answer_given", "chosen", "explanation", "explanation_finished"}
APART = ("multitask", "multitask_counterfactual")
READING = ("rationale_answer", "counterfactual", "multitask_counterfactual")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    write_house(folder)
    return folder


@pytest.fixture(scope="module")
def whole(house: Path) -> tuple[Run, Any]:
    """A run in which the recipe's own teacher is taught to write; the student learns to answer, too."""
    value = recipe_of(house, distil=train(16, learning_rate=0.02))
    value["evaluate"]["simulatability"] = True
    return run_recipe(value)


def recorded(house: Path, whole: tuple[Run, Any], **sections: Any) -> dict[str, Any]:
    """A recipe that reads what the teacher of the whole run wrote, and knows no teacher."""
    value = {"teacher": None, "generate": {"recorded": str(whole[0].stage("generate"))}, **sections}
    return recipe_of(house, **value)


def predictions(run: Run, arm: str = "explained") -> list[dict[str, Any]]:
    return read_jsonl(run.stage(f"predict-{arm}") / "predictions.jsonl")


def page(run: Run) -> str:
    return (run.folder / "report.html").read_text(encoding="utf-8")


def well_formed(run: Run, kind: str) -> None:
    """What there is after any run whose student learned a kind of task."""
    rows = predictions(run)
    assert [row["id"] for row in rows] == [row["id"] for row in read_jsonl(run.folder / "data" / "test.jsonl")]
    assert all(row.keys() >= {*FIELDS, "prediction", "choice_scores", "references"} for row in rows)
    assert all(len(row["choice_scores"]) == 3 for row in rows)
    assert all((row["explanation"] is None) == (kind == "answer") for row in rows)
    swaps = run.stage("predict-explained") / "swaps.jsonl"
    assert swaps.is_file() == (kind != "answer")
    arms = run.recipe.evaluate.arms
    assert set(read_json(run.folder / "scores.json")["overall"]["table"]) >= {"base_student", *arms}
    assert len({run.notes(f"train-{arm}", TrainingNotes).plan.steps for arm in arms}) == 1
    assert "optimiser steps of 4 rows" in page(run)
    assert "**" not in page(run)
    assert SCRIPT not in page(run).split("</style>")[1]


def curve(run: Run, stage: str = "train-explained") -> dict[str, Any]:
    """The first line of a training curve."""
    return read_jsonl(run.stage(stage) / "training" / "metrics.jsonl")[0]


# -- the recipe's own teacher ----------------------------------------------------------------------------------------


def test_every_stage_is_done_once_and_the_bars_end_at_their_end(whole: tuple[Run, Any]) -> None:
    run, shown = whole
    asked = {"data", "pair", "teacher_sft", "generate", "train-sft", "train-explained", "train-observer", "report"}
    assert {*shown.done} == asked | {f"predict-{arm}" for arm in ("teacher", "base_student", "sft", "explained")}
    assert len(shown.done) == len(set(shown.done))
    assert shown.past_the_end == set()
    well_formed(run, "multitask_counterfactual")


def test_the_teacher_was_taught_by_the_demonstrations_and_writes_as_they_do(whole: tuple[Run, Any]) -> None:
    run, _ = whole
    rows = {role: len(read_jsonl(run.folder / "data" / f"{role}.jsonl")) for role in ("train", "dev", "test")}
    # Four demonstrated questions, a text of each of the four steps.
    assert run.notes("teacher_sft", TrainingNotes).rows == rows["train"] + 16
    folder = run.stage("generate")
    exact = 0
    for step, text in TEXTS.items():
        found = list(store.read_step(folder, step))
        assert len(found) == rows["train"] * (2 if step == "counterfactual" else 1)
        exact += sum(row.text == text for row in found)
        assert {row.provenance.teacher for row in found if row.provenance} == {run.recipe.local_teacher.model}
    assert exact > 0
    notes = run.notes("generate", GenerationNotes)
    assert notes.quality.keys() == TEXTS.keys()
    assert notes.revision is not None
    assert notes.revision.pairs > 0
    assert notes.left == 0


def test_swaps_and_figures_of_the_student_that_learned_to_answer(whole: tuple[Run, Any]) -> None:
    run, _ = whole
    # Every gold answer is the second option.
    assert {row["chosen"] for row in predictions(run)} == {1}
    swaps = read_jsonl(run.stage("predict-explained") / "swaps.jsonl")
    train_ids = {row["id"] for row in read_jsonl(run.folder / "data" / "train.jsonl")}
    assert {row["id"] for row in swaps} <= train_ids
    assert {row["choice"] for row in swaps} == {0, 2}
    lines = {line.label: line for line in run.notes("predict-explained", PredictionNotes).explanations or ()}
    assert lines["The answer follows a swapped rationale, %"].n == len(swaps)
    assert "training rows" in lines["The answer follows a swapped rationale, %"].about
    assert lines["An answer could be read, %"].value == 1.0
    assert lines["The observer foresees the answer from the question, %"].value == 1.0
    las = lines["… adjusted for leaking (LAS), points"]
    assert las.value is not None or las.reason.startswith("not defined")


def test_the_observer_reads_each_row_in_three_views_and_no_answer_of_the_teacher(whole: tuple[Run, Any]) -> None:
    run, _ = whole
    texts = [one for one in explained_rows(run, run.recipe, "train") if one.rationale]
    others = run.notes("data", DataNotes).rows["train"] - len(texts)
    assert run.notes("train-observer", TrainingNotes).rows == 3 * len(texts) + others


def test_the_report_shows_what_was_written(whole: tuple[Run, Any]) -> None:
    run, _ = whole
    text = page(run)
    for part in ("What the teacher wrote", "Before and after revision", "The student's own explanations"):
        assert part in text
    texts = texts_of(run, run.recipe)
    assert texts is not None
    [sample, *_] = texts.samples
    assert {row.step for row in sample.texts} == TEXTS.keys()
    assert all(html.escape(row.text, quote=False) in text for row in sample.texts if row.text)
    # The label of a counterfactual names its option.
    assert "Counterfactual for “&lt;script&gt;2”" in text
    assert f"Teacher: {run.recipe.local_teacher.model}" in text
    assert (run.folder / "student" / "model.safetensors").is_file()
    assert "`multitask_counterfactual`" in (run.folder / "student" / "README.md").read_text(encoding="utf-8")


# -- recorded texts, every kind --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in get_args(TaskKind) if kind != "multitask_counterfactual"])
def test_every_kind_learns_recorded_texts_without_a_teacher(house: Path, whole: tuple[Run, Any], kind: str) -> None:
    evaluate = {**recipe_of(house)["evaluate"], "arms": ["explained"]}
    run, shown = run_recipe(recorded(house, whole, tasks={"kind": kind, "rationales": "revise"}, evaluate=evaluate))
    well_formed(run, kind)
    assert not [stage for stage in shown.done if "teacher" in stage]
    assert shown.past_the_end == set()
    for step in TEXTS:
        ours, theirs = (list(store.read_step(place.stage("generate"), step)) for place in (run, whole[0]))
        assert [(row.id, row.choice, row.text) for row in ours] == [(row.id, row.choice, row.text) for row in theirs]
    swaps = [] if kind == "answer" else read_jsonl(run.stage("predict-explained") / "swaps.jsonl")
    assert bool(swaps) == (kind in READING)
    learned = {name.removeprefix("task_") for name in curve(run) if name.startswith("task_")}
    expected: dict[str, set[str]] = {
        "answer": {"answer"},
        "rationale_answer": {"rationale"},
        "multitask": {"predict", "explain"},
        "counterfactual": {"factual", "counterfactual"},
    }
    assert learned == expected[kind]
    assert "What the teacher wrote" in page(run)
    card = (run.folder / "student" / "README.md").read_text(encoding="utf-8")
    assert "by its texts" in card


def test_an_encoder_decoder_learns_and_is_measured(house: Path, whole: tuple[Run, Any]) -> None:
    value = recorded(house, whole, student={"model": str(house / "bart")})
    value["evaluate"]["simulatability"] = True
    run, _ = run_recipe(value)
    well_formed(run, "multitask_counterfactual")
    assert read_jsonl(run.stage("predict-explained") / "swaps.jsonl")
    assert run.notes("train-observer", TrainingNotes).rows > run.notes("train-explained", TrainingNotes).rows


def test_the_logits_of_a_teacher_are_learned_beside_its_texts(house: Path, whole: tuple[Run, Any]) -> None:
    tasks = {"kind": "multitask_counterfactual", "rationales": "revise", "logits": True}
    teacher = {"model": str(house / "teacher")}
    run, shown = run_recipe(recorded(house, whole, teacher=teacher, tasks=tasks, distil=train(method="kd")))
    well_formed(run, "multitask_counterfactual")
    assert "predict-teacher" in shown.done
    assert "divergence" in curve(run)
    assert "divergence" not in curve(run, "train-sft")
    assert "the teacher's logits" in (run.folder / "student" / "README.md").read_text(encoding="utf-8")


def test_all_arms_take_equal_steps_though_texts_are_missing(house: Path, whole: tuple[Run, Any]) -> None:
    some = house / "some"
    shutil.copytree(whole[0].stage("generate"), some, ignore=shutil.ignore_patterns("answers", "*.json"))
    lines = (some / "revise.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (some / "revise.jsonl").write_text("".join(lines[:5]), encoding="utf-8")
    distil = {"epochs": 0.6, "batch_size": 2, "learning_rate": 0.01, "eval_rows": 2}
    tasks = {"kind": "rationale_answer", "rationales": "revise"}
    run, _ = run_recipe(
        recorded(house, whole, generate={"recorded": str(some)}, distil=distil, tasks=tasks), until="predict-explained"
    )
    assert 0 < run.notes("train-explained", TrainingNotes).rows <= 5 < run.notes("data", DataNotes).rows["train"]
    run, _ = run_recipe(
        recorded(house, whole, generate={"recorded": str(some)}, distil=distil, tasks=tasks), until="train-sft"
    )
    assert run.notes("train-explained", TrainingNotes).plan.steps == run.notes("train-sft", TrainingNotes).plan.steps


# -- an endpoint -----------------------------------------------------------------------------------------------------


def by_endpoint(house: Path, server: Server, **sections: Any) -> dict[str, Any]:
    writer = {"model": "large", "base_url": server.base_url, "input_price": 1.0, "output_price": 2.0}
    generate = {"teacher": writer, "prompts": str(house / "prompts"), **sections.pop("generate", {})}
    return recipe_of(house, teacher=None, generate=generate, **sections)


def reply(call: Call) -> Reply:
    return Reply(f"{SCRIPT}alert(1)</script> hat, whoever weighs it", tokens=(100, 20))


def test_a_teacher_behind_an_endpoint_is_neither_loaded_nor_measured(house: Path) -> None:
    with Server(reply) as server:
        value = by_endpoint(house, server, tasks={"kind": "multitask"})
        run, shown = run_recipe(value)
        asked = len(server.calls)
        assert run_recipe(value)[1].done == []
        assert len(server.calls) == asked
    assert not [stage for stage in shown.done if "teacher" in stage]
    well_formed(run, "multitask")
    text = page(run)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; hat" in text
    assert "Teacher: large. It read" in text
    rows = [row for step in TEXTS for row in store.read_step(run.stage("generate"), step)]
    paid = sum(row.provenance.cost or 0 for row in rows if row.provenance)
    assert f"at the recipe's prices {paid:,.4f}" in text.replace("&#39;", "'")
    assert "`large`, by its texts" in (run.folder / "student" / "README.md").read_text(encoding="utf-8")


def test_unlabelled_questions_teach_by_the_answer_that_the_teacher_reached(house: Path) -> None:
    with Server(lambda call: Reply(f"A hat is no number. {ANSWER_MARK} hat")) as server:
        value = by_endpoint(
            house,
            server,
            generate={"steps": ["explain_blind"], "roles": ["train", "unlabelled"]},
            tasks={"kind": "rationale_answer", "rationales": "explain_blind"},
        )
        value["data"]["gold_share"] = 0.5
        value["evaluate"]["arms"] = ["explained"]
        value["evaluate"]["simulatability"] = True
        run, _ = run_recipe(value)
    well_formed(run, "rationale_answer")
    rows = run.notes("data", DataNotes).rows
    assert rows["unlabelled"] > 0
    assert run.notes("train-explained", TrainingNotes).rows == rows["train"] + rows["unlabelled"]
    # The observer is no student of the teacher's answers: it learns the gold ones.
    assert run.notes("train-observer", TrainingNotes).rows == 3 * rows["train"]
    texts = explained_rows(run, run.recipe, "train")
    assert sum(not one.example.labelled for one in texts) == rows["unlabelled"]


# -- what cannot be done ---------------------------------------------------------------------------------------------


def test_nothing_to_teach_with_is_one_line(house: Path) -> None:
    recipe = parse_recipe(recipe_of(house, generate={"teach": True}))
    with pytest.raises(ConfigError, match=r"generate\.teach: there are no demonstrations") as raised:
        teaching_examples(Run(house), recipe)
    assert "generate.demonstrations" in (raised.value.hint or "")
    assert teaching_examples(Run(house), parse_recipe(recipe_of(house, generate={"teach": False}))) == []


def test_demonstrations_of_other_steps_are_none(house: Path) -> None:
    value = recipe_of(house)
    value["generate"]["steps"] = ["explain_blind"]
    value["generate"]["max_tokens"] = {}
    value["tasks"] = {"rationales": "explain_blind"}
    with pytest.raises(ConfigError, match="no demonstrations of its steps"):
        teaching_examples(Run(house), parse_recipe(value))


@pytest.mark.parametrize(
    ("kept", "tasks", "message"),
    [
        (["counterfactual"], {"kind": "multitask"}, "no example has a text for the task explain"),
        (["counterfactual"], {"kind": "counterfactual"}, "no example has"),
        (["explain"], {"kind": "multitask_counterfactual"}, "for the task counterfactual"),
    ],
)
def test_a_student_is_not_trained_without_the_texts_of_its_tasks(
    house: Path, whole: tuple[Run, Any], tmp_path: Path, kept: list[str], tasks: dict[str, Any], message: str
) -> None:
    for step in kept:
        shutil.copy(whole[0].stage("generate") / f"{step}.jsonl", tmp_path)
    value = recorded(house, whole, generate={"recorded": str(tmp_path)}, tasks=tasks)
    value["output"] = str(tmp_path / "runs")
    with pytest.raises(DataError, match=message):
        run_recipe(value, until="train-explained")


def test_a_run_whose_budget_ends_goes_on_when_it_is_raised(house: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path))
    with Server(reply) as server:
        value = by_endpoint(house, server, tasks={"kind": "multitask"}, name="budget")
        value["generate"]["teacher"]["max_calls"] = 7
        with pytest.raises(RunError, match="examples left: budget"):
            run_recipe(value, until="generate")
        assert len(server.calls) == 7
        value["generate"]["teacher"]["max_calls"] = 1000
        run, _ = run_recipe(value, until="generate")
    assert run.is_done("generate")
    assert max(server.answered().values()) == 1


# -- texts that come from elsewhere ----------------------------------------------------------------------------------


def test_a_student_learns_the_rationales_that_the_data_set_brings_along(tmp_path: Path) -> None:
    write_house(tmp_path)
    rows = read_jsonl(tmp_path / "choices.jsonl")
    write_lines(tmp_path / "choices.jsonl", [{**row, "rationale": f"People wrote {row['id']}."} for row in rows])
    value = recipe_of(tmp_path, teacher=None, tasks={"kind": "multitask", "rationales": "data"})
    del value["generate"]
    value["evaluate"]["simulatability"] = True
    run, display = run_recipe(value)
    assert "generate" not in display.done
    learned = explained_rows(run, run.recipe, "train")
    assert [row.rationale for row in learned] == [f"People wrote {row.example.id}." for row in learned]
    assert not any(row.counterfactuals for row in learned)
    assert {"task_predict", "task_explain"} < read_jsonl(run.stage("train-explained") / "training" / "metrics.jsonl")[
        0
    ].keys()
    assert "The student learned the rationales that the data set brings along." in page(run)
    assert "The student's own explanations" in html.unescape(page(run))


def test_paraphrases_and_new_questions_are_learned_and_held_out_ones_are_not(tmp_path: Path) -> None:
    write_house(tmp_path)
    value = recipe_of(tmp_path, teacher=None, tasks={"kind": "answer", "paraphrases": True, "new_questions": True})
    value["generate"] = {"recorded": str(tmp_path / "texts.jsonl"), "steps": ["paraphrase", "new_questions"]}
    write_lines(tmp_path / "texts.jsonl", [])
    questions = {row["id"]: row["question"] for row in read_jsonl(tmp_path / "choices.jsonl")}
    prepared = run_recipe(value, until="data")[0]
    train_rows, test = (read_jsonl(prepared.folder / "data" / f"{role}.jsonl") for role in ("train", "test"))
    shutil.rmtree(prepared.folder)
    first, second, third = (row["id"] for row in train_rows[:3])
    leaking = {"question": test[0]["question"].upper(), "choices": [], "answer": "hat"}
    asked = {"question": "Before 1?", "choices": [], "answer": "cap"}
    texts = [
        {"id": first, "step": "paraphrase", "text": "What comes next?"},
        {"id": second, "step": "paraphrase", "text": questions[second]},
        {"id": third, "step": "paraphrase", "text": test[1]["question"]},
        {"id": first, "step": "new_questions", "text": json.dumps(asked)},
        {"id": second, "step": "new_questions", "text": json.dumps(leaking)},
    ]
    write_lines(tmp_path / "texts.jsonl", texts)
    run = run_recipe(value)[0]
    learned, held_out = without_held_out(run, explained_rows(run, run.recipe, "train"))
    assert held_out == 2
    assert {row.example.id: row.paraphrases for row in learned if row.paraphrases} == {first: ("What comes next?",)}
    assert [q.question for row in learned for q in row.new_questions] == ["Before 1?"]
    notes = run.notes("train-explained", TrainingNotes)
    assert notes.notes["questions that the teacher wrote left out: they are held-out ones"] == 2
    # Two further answers are learned beside those of the questions themselves.
    plain = run_recipe({**value, "tasks": {"kind": "answer"}})[0].notes("train-explained", TrainingNotes)
    assert notes.target_tokens > plain.target_tokens
    assert notes.plan.steps == plain.plan.steps


def test_switches_that_find_no_text_stop_the_run(tmp_path: Path) -> None:
    write_house(tmp_path)
    value = recipe_of(tmp_path, teacher=None, tasks={"kind": "answer", "paraphrases": True})
    value["generate"] = {"recorded": str(tmp_path / "texts.jsonl"), "steps": ["paraphrase"]}
    # Each question in its own words.
    rows = read_jsonl(tmp_path / "choices.jsonl")
    write_lines(
        tmp_path / "texts.jsonl", [{"id": row["id"], "step": "paraphrase", "text": row["question"]} for row in rows]
    )
    with pytest.raises(DataError, match=r"tasks\.paraphrases: no example has any"):
        run_recipe(value)
