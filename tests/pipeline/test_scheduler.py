"""The stages of a run: who needs whom, what is missing, and what may run beside what."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.arms import trained_arms
from understudy.errors import ConfigError
from understudy.pipeline.kinds import left_out, stages
from understudy.pipeline.scheduler import missing, needed_for, ready
from understudy.pipeline.stage import Stage
from understudy.recipe import Recipe, TaskKind, parse_recipe
from understudy.run import Run

SFT = {"steps": 1}


def plan(unlabelled: bool = True, **sections: dict) -> dict[str, Stage]:
    found = stages(parse_recipe(sections), unlabelled=unlabelled)
    assert len({stage.name for stage in found}) == len(found)
    return {stage.name: stage for stage in found}


def named(name: str, needs: tuple[str, ...] = (), *, exclusive: bool = False) -> Stage:
    return Stage("work", name=name, needs=needs, exclusive=exclusive)


@given(
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(st.sampled_from(trained_arms()), unique=True),
    st.sampled_from(get_args(TaskKind)),
    st.booleans(),
)
def test_each_stage_comes_after_what_it_needs(
    unlabelled: bool, teacher: bool, student: bool, arms: list[str], kind: str, logits: bool
) -> None:
    seen: set[str] = set()
    texts = {"generate": {}, "tasks": {"kind": kind, "logits": logits}} if "explained" in arms else {}
    texts |= {"knowledge": {"folder": "known"}} if "informed" in arms else {}
    texts |= {"candidates": {}} if "candidates" in arms else {}
    found = plan(
        unlabelled,
        teacher={"model": "t", "sft": SFT if teacher else None},
        student={"model": "s", "sft": SFT if student else None},
        evaluate={"arms": arms, "simulatability": True},
        **texts,
    )
    for stage in found.values():
        assert seen >= set(stage.needs)
        seen.add(stage.name)
    assert list(found)[-1] == "report"
    assert set(found["report"].needs) == seen - {"report"}
    # Without unlabelled rows kd_gold is what distilled would be, and is left out only where distilled is there.
    assert ("train-kd_gold" in found) == ("kd_gold" in arms and (unlabelled or "distilled" not in arms))
    # SeqKD keeps the gold by default: without unlabelled rows it is what sft would be.
    assert ("train-seqkd" in found) == ("seqkd" in arms and (unlabelled or "sft" not in arms))
    # With gold for every question, only an arm that learns the teacher's answers in its place has a use for them.
    assert ("answers" in found) == (unlabelled and not {"seqkd", "distilled"}.isdisjoint(arms))


def test_a_student_of_texts_waits_for_the_texts_and_one_of_answers_does_not() -> None:
    base: dict = {"generate": {}, "evaluate": {"arms": ["explained"], "simulatability": True}}
    found = plan(tasks={"kind": "multitask"}, **base)
    assert found["generate"].needs == ("teacher_sft",)
    assert found["train-explained"].needs == ("generate", "data")
    assert found["predict-explained"].needs == ("train-explained", "generate", "train-observer")
    found = plan(tasks={"kind": "multitask", "logits": True}, **base)
    assert found["train-explained"].needs == ("generate", "teacher_sft", "data")
    found = plan(tasks={"kind": "answer"}, **base)
    assert found["predict-explained"].needs == ("train-explained",)
    assert "train-observer" not in found


def test_rationales_of_the_data_need_nobody_who_writes() -> None:
    own = {"teacher": None, "evaluate": {"arms": ["sft", "explained"], "simulatability": True}}
    found = plan(tasks={"kind": "multitask", "rationales": "data"}, **own)
    assert "generate" not in found
    assert found["train-explained"].needs == ("data",)
    assert found["train-observer"].needs == ("data",)
    assert found["predict-explained"].needs == ("train-explained", "train-observer")
    texts = {"generate": {"recorded": "texts.jsonl", "steps": ["paraphrase"]}}
    found = plan(tasks={"kind": "answer", "paraphrases": True}, **own, **texts)
    assert found["train-explained"].needs == ("generate", "data")


def test_switches_that_are_off_change_no_name_of_a_run() -> None:
    """Runs on disk are older than they are."""
    models = {"teacher": {"model": "t", "sft": {"learning_rate": 1e-4}}, "student": {"model": "s"}}
    usual = parse_recipe({**models, "distil": {"learning_rate": 1e-3}, "tasks": {}, "generate": {}})
    assert usual.fingerprint() == "c54b56d5"
    for name, step in (("paraphrases", "paraphrase"), ("new_questions", "new_questions")):
        steps = {"generate": {"steps": ["explain", step]}}
        on, off = (parse_recipe({**steps, "tasks": {name: value}}) for value in (True, False))
        assert name not in off.identity()["tasks"]
        assert on.fingerprint() != off.fingerprint()


def test_a_teacher_behind_an_endpoint_is_neither_loaded_nor_asked_to_answer() -> None:
    found = plan(
        teacher=None,
        generate={"teacher": {"model": "large", "base_url": "http://127.0.0.1:1/v1"}},
        tasks={},
        evaluate={"arms": ["sft", "explained"]},
    )
    assert found["generate"].needs == ("data",)
    assert not [name for name in found if "teacher" in name]
    assert [stage.name for stage in needed_for(list(found.values()), "generate")] == ["data", "generate"]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"tasks": {}, "evaluate": {"arms": ["sft"]}}, "put the arm `explained`"),
        ({"evaluate": {"arms": ["explained"]}}, "a section `tasks` says what it learns"),
        ({"tasks": {}, "evaluate": {"arms": ["explained"]}}, "a section `generate`"),
        ({"tasks": {"rationales": "revised"}, "generate": {}}, "step revised, which is not in generate.steps"),
        ({"tasks": {"kind": "counterfactual"}, "generate": {"steps": ["explain"]}}, "learns the step counterfactual"),
        ({"tasks": {"predict_weight": 0}, "generate": {}}, "no task answers"),
        (
            {"tasks": {"paraphrases": True}, "generate": {}},
            "tasks.paraphrases learns the step paraphrase, which is not",
        ),
        ({"tasks": {"new_questions": True}, "generate": {}}, "tasks.new_questions learns the step new_questions"),
        ({"tasks": {"kind": "answer", "paraphrases": True}}, "a section `generate`"),
        (
            {"tasks": {"kind": "rationale_answer", "new_questions": True}, "generate": {}},
            "tasks.kind rationale_answer learns no answer by itself",
        ),
        ({"tasks": {"kind": "counterfactual", "rationales": "data"}}, "a section `generate`"),
        (
            {"tasks": {"kind": "multitask_counterfactual", "multitask_weight": 1, "predict_weight": 0}, "generate": {}},
            "no task answers",
        ),
        ({"teacher": None}, "seqkd needs one"),
        ({"teacher": None, "generate": {}, "evaluate": {"arms": ["sft"]}}, "without generate.teacher"),
        ({"generate": {"teacher": {"model": "a"}, "recorded": "b"}}, "exclude each other"),
        ({"generate": {"teach": True, "recorded": "b"}}, "needs teacher.sft"),
    ],
)
def test_what_does_not_belong_together_is_refused_when_the_recipe_is_read(sections: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_recipe(sections)


def test_a_recipe_with_tasks_that_names_no_arms_has_the_one_that_learns_them() -> None:
    usual = parse_recipe({}).evaluate.arms
    assert "explained" not in usual
    found = parse_recipe({"tasks": {}, "generate": {}, "evaluate": {"rows": 3}})
    assert (found.evaluate.arms, found.evaluate.rows) == ((*usual, "explained"), 3)
    assert parse_recipe(found.model_dump(mode="json")) == found


@pytest.mark.parametrize(
    ("tasks", "steps"),
    [
        ({"kind": "answer", "rationales": "nowhere"}, ["paraphrase"]),
        ({"kind": "counterfactual", "factual_weight": 1}, ["explain"]),
        ({"kind": "multitask_counterfactual", "multitask_weight": 1}, ["explain"]),
        ({"kind": "multitask_counterfactual", "predict_weight": 0}, ["explain", "counterfactual"]),
        ({"kind": "rationale_answer", "rationales": "mine"}, ["mine"]),
    ],
)
def test_steps_that_no_task_learns_need_not_be_written(tasks: dict, steps: list[str]) -> None:
    assert parse_recipe({"tasks": tasks, "generate": {"steps": steps}}).tasks


def test_nobody_answers_where_every_question_has_gold_and_no_arm_uses_the_answers() -> None:
    found = plan(unlabelled=False, evaluate={"arms": ["sft", "distilled"]})
    assert "answers" not in found
    assert found["train-distilled"].needs == ("teacher_sft", "data")
    found = plan(unlabelled=False, evaluate={"arms": ["seqkd"]})
    assert "answers" not in found
    assert found["train-seqkd"].needs == ("data",)


def test_answers_in_the_place_of_gold_are_asked_for_where_the_recipe_says_so() -> None:
    replaced = {"evaluate": {"arms": ["sft", "seqkd"]}, "seqkd": {"keep_gold": False}}
    found = plan(unlabelled=False, **replaced)
    assert found["train-seqkd"].needs == ("answers", "data")
    assert left_out(parse_recipe(replaced), unlabelled=False) == []
    own = plan(unlabelled=False, arms={"replaced": {"seqkd.keep_gold": False}})
    assert [name for name in own if name.startswith(("answers", "train"))] == [
        *("answers-replaced", "train-sft", "train-distilled", "train-replaced")
    ]


def test_an_arm_that_would_be_another_is_left_out_with_a_word() -> None:
    recipe = parse_recipe({})
    assert left_out(recipe, unlabelled=True) == []
    assert left_out(recipe, unlabelled=False) == [
        "SeqKD is left out: with a gold answer for every question it would be SFT-only, "
        "unless seqkd.keep_gold is false.",
        "KD on gold only is left out: with a gold answer for every question it would be Distilled.",
    ]


OWN = {
    "reverse": {"distil.divergence": "reverse_kl"},
    "longer": {"like": "sft", "distil.steps": 99},
    "kept": {"seqkd.keep_unfinished": True},
    "tuned": {"student.sft": SFT},
}


def test_arms_of_a_recipe_have_stages_of_their_own_and_share_what_they_can() -> None:
    found = plan(arms=OWN, evaluate={"speed": False})
    for name in OWN:
        assert found[f"predict-{name}"].needs == (f"train-{name}",)
    assert found["train-reverse"].needs == found["train-distilled"].needs == ("answers", "data")
    # Like SFT-only it reads no teacher; other answers are asked for once more; another student is tuned by itself.
    assert found["train-longer"].needs == ("data",)
    assert found["train-kept"].needs == ("answers-kept", "data")
    assert found["tuned_sft"].needs == ("data",)
    assert found["train-tuned"].needs == ("answers", "tuned_sft")
    assert set(found["report"].needs) == found.keys() - {"report"}
    assert len({stage.name for stage in found.values()}) == len(found)


def test_arms_of_a_recipe_are_asked_for_like_others() -> None:
    assert parse_recipe({"arms": OWN}).evaluate.arms == ("sft", "seqkd", "kd_gold", "distilled", *OWN)
    chosen = plan(arms=OWN, evaluate={"arms": ["sft", "reverse"]})
    assert {name for name in chosen if name.startswith("train-")} == {"train-sft", "train-reverse"}


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ({"sft": {"distil.steps": 1}}, "name of its own"),
        ({"my arm": {"distil.steps": 1}}, "letters, digits"),
        (
            {"a": {"data.limit": 1}},
            "may differ in student, distil, features, seqkd, candidates, tasks, knowledge, not in data.limit",
        ),
        ({"a": {"evaluate.rows": 1}}, "not in evaluate.rows"),
        ({"a": {"distil.divergnce": "js"}}, "did you mean `distil.divergence`"),
        ({"a": {"distil.steps": -1}}, "arms.a: distil.*steps"),
        ({"a": {"like": "sqekd"}}, "did you mean `seqkd`"),
        ({"a": {"tasks.kind": "answer"}}, "`a`; a section `tasks`"),
    ],
)
def test_a_bad_arm_is_refused_when_the_recipe_is_read(arms: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_recipe({"arms": arms})


def test_an_unknown_arm_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean `revers`"):
        parse_recipe({"arms": {"revers": {}}, "evaluate": {"arms": ["reverse"]}})


def test_arms_start_from_the_models_that_were_tuned_for_them() -> None:
    found = plan(teacher={"model": "t", "sft": SFT}, student={"model": "s", "sft": SFT})
    assert found["train-sft"].needs == ("student_sft",)
    assert set(found["train-distilled"].needs) == {"answers", "student_sft"}
    assert set(found["train-kd_gold"].needs) == {"teacher_sft", "student_sft"}
    assert found["answers"].needs == found["predict-teacher"].needs == ("teacher_sft",)
    assert found["predict-base_student"].needs == ("data",)


def test_what_measures_time_runs_alone() -> None:
    found = list(plan().values())
    clock = [stage for stage in found if stage.exclusive]
    assert [stage.name for stage in clock] == ["speed-teacher", "speed-student"]
    other = named("other")
    assert ready([clock[0]], [other], 4) == []
    assert ready([other], [clock[0]], 4) == []
    assert ready([named("a"), named("b"), named("c")], [], 2) == [named("a"), named("b")]
    free = [named("x", exclusive=True), named("y", exclusive=True)]
    assert ready(free, [], 4) == free[:1]


@given(st.integers(1, 4))
def test_every_stage_gets_its_turn_once(workers: int) -> None:
    waiting, running, done = stages(Recipe(), unlabelled=True), [], []
    while waiting or running:
        for stage in ready(waiting, running, workers):
            assert set(stage.needs) <= {finished.name for finished in done}
            waiting.remove(stage)
            running.append(stage)
        assert 0 < len(running) <= workers
        done.append(running.pop(0))
    assert len(done) == len(stages(Recipe(), unlabelled=True))


# -- what is missing -------------------------------------------------------------------------------------------------

CHAIN = [named("a"), named("b", ("a",)), named("c", ("b",)), named("d", ("a",))]


def make(run: Run, *names: str) -> None:
    for stage in CHAIN:
        if stage.name in names:
            run.begin(stage.name, stage.needs)
            run.mark_done(stage.name, {})


def names(run: Run) -> str:
    return "".join(stage.name for stage in missing(run, CHAIN))


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def test_all_is_missing_at_first_and_nothing_at_last(run: Run) -> None:
    assert names(run) == "abcd"
    make(run, "a", "b")
    assert names(run) == "cd"
    make(run, "c", "d")
    assert names(run) == ""


def test_what_was_made_from_something_older_is_missing(run: Run) -> None:
    make(run, "a", "b", "c", "d")
    (run.stage("b") / "done.json").unlink()
    assert names(run) == "bc"
    make(run, "b")
    assert names(run) == "c"
    make(run, "a")
    assert names(run) == "bcd"


def test_leftovers_stay_only_for_the_same_ingredients(run: Run) -> None:
    make(run, "a")
    run.begin("b", ("a",))
    checkpoint = run.stage("b") / "checkpoint"
    checkpoint.write_text("half way")
    run.begin("b", ("a",))
    assert checkpoint.exists()
    make(run, "a")
    run.begin("b", ("a",))
    assert not checkpoint.exists()
