"""What identifies a stage: declared fields change its key, and no field that is not declared changes its result."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.tiny import FACTS, llama, tokenizer
from support.tiny_explained import recipe_of, run_recipe, train, write_house
from understudy.errors import RunError
from understudy.files import read_jsonl
from understudy.grid import GridFolder, cell_runs, cell_stages, stage_keys
from understudy.grid.units import missing, units
from understudy.pipeline.kinds import is_shared, reads_of, stage_of, stages
from understudy.pipeline.stages import run_stage
from understudy.recipe import METHODS, DataConfig, Recipe, fields, parse_grid, parse_recipe
from understudy.recipe.endpoint import TRANSPORT_FIELDS
from understudy.recipe.methods import options
from understudy.run import Run

TRAIN = {"steps": 2, "batch_size": 4, "learning_rate": 0.01, "eval_rows": 2, "save_every": 1}
BASE: dict[str, Any] = {
    "teacher": {"model": "t", "pretrain": {"source": "raw", **TRAIN}, "sft": TRAIN},
    "student": {"model": "s", "pretrain": {"source": "raw", **TRAIN}, "sft": TRAIN},
    "data": {"source": "qa.jsonl", "gold_share": 0.5, "max_length": 96, "max_answer_tokens": 12},
    "seqkd": {"keep_unfinished": True},
    "distil": TRAIN,
    "device": "cpu",
}
BASE = parse_recipe(BASE).model_dump(mode="json")
EXPLAINED: dict[str, Any] = parse_recipe(
    {
        **BASE,
        "generate": {"teach": True, "demonstrations": "shown.jsonl"},
        "tasks": {"kind": "multitask_counterfactual"},
        "evaluate": {"arms": ["sft", "explained"], "simulatability": True},
    }
).model_dump(mode="json")
# Where and how fast: no part of any identity.
NEUTRAL = {"output", "workers", "report_to", "device"}
ASKED = ("evaluate.judge.", "generate.teacher.")
# Of a teacher on a server, which has no training of its own; those that say where it is and what may be spent.
SERVED = {f"teacher.{name}" for name in (*TRANSPORT_FIELDS, "k", "tail")}
# Options of other methods than the one that is chosen.
FOREIGN = {f"distil.{name}" for name in options()} - {f"distil.{name}" for name in METHODS["kd"].model_fields}
LEAVES = [path for path in fields.leaves() if ".lora." not in path and not path.startswith(ASKED)]
ELSEWHERE = ("teachers.", "student.from_teacher.", "knowledge.", "features.", "candidates.", "teacher.hint.")
ELSEWHERE += ("teacher.embedding.", "student.embedding.")
LEAVES = [path for path in LEAVES if path not in FOREIGN | SERVED and not path.startswith(ELSEWHERE)]
# A teacher that is the student has no training of its own.
LEAVES.remove("teacher.from_student")
TEXTS = [path for path in [*LEAVES, "generate.teacher"] if path.startswith(("generate.", "tasks."))]
FIELDS = sorted(
    {*LEAVES, "evaluate.judge", "teachers", "features", "teacher.hint", "teacher.embedding", "student.embedding"}
    - NEUTRAL
    - set(TEXTS)
    - {"evaluate.simulatability", "extensions"}
    # Given to both models as theirs, which are looked at one by one.
    - {"data.labels"}
)
SPECIAL: dict[str, Any] = {
    "evaluate.metrics": ["chrf"],
    "evaluate.judge": {"model": "judge"},
    "teacher.cache.targets": "states",
    "teachers": {"weight": 2, "others": {"second": {"model": "t2"}}},
    "features": {"hidden": 0.5},
    "teacher.hint": {"system": "Be brief."},
    "teacher.embedding": {"pooling": "cls"},
    "student.embedding": {"pooling": "cls"},
    "data.labels": ["yes", "no"],
    "teacher.labels": ["yes", "no"],
    "student.labels": ["yes", "no"],
    "evaluate.resamples": 123,
    "evaluate.confidence": 0.9,
    "evaluate.arms": ["distilled", "sft"],
    "arms": {"own": {"distil.steps": 7}},
    # A method with the same options as kd, so that all of them can be changed beside it.
    "distil.method": "min_edit",
    "distil.divergence": "reverse_kl",
    "distil.on_policy": {"share": 0.25},
    "distil.adapt": {"taid": {}},
    "evaluate.simulatability": False,
    "generate.teacher": {"model": "writer"},
    "generate.steps": ["explain", "counterfactual"],
    "tasks.rationales": "revise",
    "tasks.kind": "counterfactual",
    "generate.own_steps": ["own.py"],
    "generate.roles": ["dev"],
    "generate.recorded": "recorded.jsonl",
    "tasks.counterfactuals": 2,
    "data.format": "qa",
    "evaluate.slices": ["category"],
    "data.columns": {"question": "q"},
    "data.sources": {"radio": "radio.jsonl"},
    "data.context_overflow": "refuse",
}


# Fields of `tasks` that need a step.
WRITTEN = {"tasks.paraphrases": "paraphrase", "tasks.new_questions": "new_questions"}


def annotation_of(path: str) -> Any:
    section: Any = Recipe
    *above, last = path.split(".")
    for part in above:
        section = fields.section_of(fields.fields_of(section)[part].annotation)
    return fields.fields_of(section)[last].annotation


def another(path: str, value: Any) -> Any:
    """A valid value of a field that is not the one it has."""
    if path in SPECIAL:
        return SPECIAL[path]
    options = [annotation_of(path), *get_args(annotation_of(path))]
    choices = [choice for option in options if get_origin(option) is Literal for choice in get_args(option)]
    if choices:
        return next(choice for choice in choices if choice != value)
    if dict in map(get_origin, options):
        return {"x": 1}
    if bool in options:
        return not value
    if path.endswith("batch_size"):
        return 8 if value == 4 else 4
    if float in options and path.rpartition(".")[2] not in ("epochs",):
        return 0.25 if value != 0.25 else 0.3
    if int in options or float in options:
        return 3 if value != 3 else 5
    return f"{value or ''}x"


def changed(base: dict[str, Any], path: str) -> dict[str, Any]:
    """A recipe's mapping with one field changed, and whatever the recipe then insists on."""
    if path.endswith(".config"):
        base = fields.put(base, path.replace(".config", ".init"), "fresh")
    if path == "data.sources":
        base = fields.put(base, "data.source", DataConfig().source)
    if path in ("generate.teacher", "generate.recorded"):
        base = fields.put(base, "generate.teach", False)
    if path in WRITTEN:
        base = fields.put(base, "generate.steps", [*fields.get(base, "generate.steps"), WRITTEN[path]])
    return fields.put(base, path, another(path, fields.get(base, path)))


def keys_of(value: dict[str, Any]) -> dict[str, str]:
    recipe = parse_recipe(value)
    return stage_keys.keys(recipe, stages(recipe, unlabelled=True), {})


def ancestors(recipe: Recipe) -> dict[str, set[str]]:
    """Stage → itself and every stage it is made from."""
    stages_before: dict[str, set[str]] = {}
    for stage in stages(recipe, unlabelled=True):
        stages_before[stage.name] = {stage.name}.union(*(stages_before[need] for need in stage.needs))
    return stages_before


def declared(recipe: Recipe, names: set[str]) -> set[str]:
    """All fields that some stages read."""
    planned = [stage for stage in stages(recipe, unlabelled=True) if stage.name in names and is_shared(stage)]
    return {path for stage in planned for path in reads_of(stage, recipe)}


def covers(paths: set[str], path: str) -> bool:
    return any(path == known.removesuffix("?") or path.startswith(f"{known}.") for known in paths)


@pytest.mark.parametrize(
    ("kind", "path"),
    [("plain", path) for path in FIELDS]
    + [("explained", path) for path in [*FIELDS, *TEXTS] if path not in ("evaluate.arms", "evaluate.constrained")],
)
def test_a_field_changes_the_stages_that_read_it_and_no_others(kind: str, path: str) -> None:
    start = BASE if kind == "plain" else EXPLAINED
    value = changed(start, path)
    after, recipe = keys_of(value), parse_recipe(value)
    base = fields.put(start, path.replace(".config", ".init"), "fresh") if path.endswith(".config") else start
    if path in ("generate.teacher", "generate.recorded"):
        base = fields.put(start, "generate.teach", False)
    if path in WRITTEN:
        base = fields.put(start, "generate.steps", [*fields.get(start, "generate.steps"), WRITTEN[path]])
    before = keys_of(base)
    for name, above in ancestors(recipe).items():
        if name in before and name in after:
            assert (before[name] != after[name]) == covers(declared(recipe, above), path), name


@pytest.mark.parametrize("method", METHODS)
def test_each_option_of_a_method_changes_what_it_teaches(method: str) -> None:
    """Its own options, and no other's: a recipe of that method has none of them."""
    start = parse_recipe({**BASE, "distil": {**TRAIN, "method": method}}).model_dump(mode="json")
    before = keys_of(start)
    assert {f"distil.{name}" for name in start["distil"]} == {
        path for path in reads_of(stage_of("train", "distilled"), parse_recipe(start)) if path.startswith("distil.")
    }
    for name in start["distil"].keys() - TRAIN.keys() - {"method", "lora"}:
        after = keys_of(changed(start, f"distil.{name}"))
        assert after["train-distilled"] != before["train-distilled"], name


@pytest.mark.parametrize(
    ("stage", "read", "not_read"),
    [
        ("data", "data.source data.seed data.gold_share", "seed data.max_length data.password_env name student.model"),
        (
            "pair",
            # Whether the teacher writes answers to training rows decides how many positions they take.
            "data.max_length distil.method distil.divergence student.kind teacher.config teacher.tokenizer "
            "seqkd.keep_gold",
            "seed distil.steps distil.batch_size distil.learning_rate distil.gold_weight distil.loss_temperature "
            "teacher.sft.steps student.sft.steps teacher.dtype evaluate.rows",
        ),
        (
            "teacher_sft",
            "seed teacher.model teacher.sft.learning_rate teacher.pretrain.source data.seed data.max_length",
            "student.model student.sft.steps distil.method distil.steps seqkd.keep_gold evaluate.rows evaluate.arms",
        ),
        (
            "answers",
            "teacher.sft.steps data.max_answer_tokens seqkd.keep_unfinished",
            "student.model distil.learning_rate evaluate.resamples",
        ),
        ("train-sft", "seed distil.steps student.sft.steps", "distil.method distil.gold_weight teacher.model"),
        ("train-distilled", "distil.method distil.gold_weight teacher.model student.dtype", "evaluate.rows name"),
        ("predict-base_student", "student.model data.system evaluate.rows", "seed student.sft.steps distil.steps"),
        (
            "generate",
            "generate.steps generate.shots teacher.sft.steps data.seed generate.filter.min_words",
            "tasks.kind student.model distil.steps evaluate.rows",
        ),
        (
            "train-explained",
            "tasks.kind tasks.rationales distil.steps generate.steps student.model",
            "distil.method evaluate.rows",
        ),
        (
            "train-observer",
            "tasks.rationales distil.steps student.model seed",
            "tasks.counterfactuals tasks.factual_weight",
        ),
        ("predict-explained", "evaluate.rows tasks.kind seed", "name evaluate.metrics"),
    ],
)
def test_some_that_can_be_told_by_thinking(stage: str, read: str, not_read: str) -> None:
    start = BASE if stage in keys_of(BASE) else EXPLAINED
    before = keys_of(start)
    assert all(keys_of(changed(start, path))[stage] != before[stage] for path in read.split())
    assert all(keys_of(changed(start, path))[stage] == before[stage] for path in not_read.split())


INFORMED: dict[str, Any] = {
    **BASE,
    "teacher": None,
    "knowledge": {"folder": "known", "formats": ["patterns"]},
    "evaluate": {"arms": ["sft", "informed"]},
}
INFORMED = parse_recipe(INFORMED).model_dump(mode="json")


@pytest.mark.parametrize(
    ("path", "value", "changes"),
    [
        ("knowledge.weight", 0.3, "train-informed predict-informed"),
        ("knowledge.formats", [], "train-informed predict-informed"),
        ("knowledge.tokens", 99, "train-informed predict-informed"),
        ("evaluate.constrained", "both", "predict-informed predict-sft predict-base_student"),
        ("distil.steps", 7, "train-informed predict-informed train-sft predict-sft"),
    ],
)
def test_of_knowledge_counts_what_is_learned_and_what_is_shown(path: str, value: Any, changes: str) -> None:
    before, after = keys_of(INFORMED), keys_of(fields.put(INFORMED, path, value))
    different = {name for name in before if before[name] != after[name]}
    assert different - {"report", "speed-student"} == set(changes.split())


def test_a_budget_of_prompts_that_hold_no_knowledge_trains_nothing_anew() -> None:
    start = fields.put(INFORMED, "knowledge.use", "sft")
    assert keys_of(start)["train-informed"] == keys_of(fields.put(start, "knowledge.tokens", 9))["train-informed"]


def test_a_model_on_a_server_goes_by_its_name_and_not_by_where_it_stands() -> None:
    def key(**more: Any) -> str:
        endpoint = {"model": "m", "base_url": "http://localhost:1/v1", **more}
        informed = fields.put(fields.put(INFORMED, "knowledge.use", "icl"), "knowledge.endpoint", endpoint)
        return keys_of(informed)["predict-informed"]

    assert key() == key(base_url="http://localhost:2/v1", concurrency=2, input_price=1.0)
    assert key() != key(model="n")


def test_whether_data_and_models_fit_is_checked_anew_only_for_what_it_asks() -> None:
    plain, explained = keys_of(BASE)["pair"], keys_of(EXPLAINED)["pair"]
    assert keys_of({**BASE, "teacher": {**BASE["teacher"], "sft": None}})["pair"] != plain
    assert keys_of(fields.put(EXPLAINED, "tasks.logits", True))["pair"] != explained
    assert keys_of(fields.put(EXPLAINED, "tasks.predict_weight", 0.25))["pair"] == explained


def test_a_cut_student_goes_by_its_cut_and_by_its_teacher() -> None:
    start = parse_recipe({**BASE, "student": {"from_teacher": {"layers": 1}, "sft": TRAIN}}).model_dump(mode="json")
    before = keys_of(start)
    shape = {"layers": [1, 2], "width": 8, "heads": 1, "mlp": 8, "by": "loss", "rows": 5}
    changes = {f"student.from_teacher.{name}": value for name, value in shape.items()}
    for path, value in {**changes, "teacher.sft.steps": 7, "teacher.model": "t2"}.items():
        after = keys_of(fields.put(start, path, value))
        for stage in ("student_cut", "student_sft", "train-sft", "predict-base_student"):
            assert after[stage] != before[stage], (path, stage)
        assert after["data"] == before["data"]
        assert (after["teacher_sft"] != before["teacher_sft"]) == path.startswith("teacher"), path
    for path, value in {"distil.steps": 9, "student.sft.steps": 9, "seqkd.keep_gold": False}.items():
        assert keys_of(fields.put(start, path, value))["student_cut"] == before["student_cut"], path


WEIGHED: dict[str, Any] = {
    **BASE,
    "candidates": {},
    "arms": {"texts": {"candidates.learn": "sequences"}, "one": {"candidates.number": 1}},
    "evaluate": {"arms": ["sft", "candidates", "texts", "one"]},
}
WEIGHED = parse_recipe(WEIGHED).model_dump(mode="json")


def test_of_candidates_counts_what_is_asked_for_the_stage_and_all_for_the_student() -> None:
    before = keys_of(WEIGHED)
    asked = {"source": "choices", "number": 2, "sampling_temperature": 0.5, "gold": False}
    learned = {"score": "sum", "temperature": 2.0, "divergence": "js", "distribution_weight": 0.1, "gold_weight": 0.1}
    for name, value in (asked | learned).items():
        after = keys_of(fields.put(WEIGHED, f"candidates.{name}", value))
        assert (after["candidates"] != before["candidates"]) == (name in asked), name
        assert after["train-candidates"] != before["train-candidates"], name
        assert after["train-sft"] == before["train-sft"], name
    assert {"candidates", "candidates-one"} <= before.keys()
    assert "candidates-texts" not in before


def test_a_teacher_that_is_its_student_goes_by_the_students_training() -> None:
    start: dict[str, Any] = {**BASE, "teacher": {"from_student": True, "hint": {"system": "a"}}, "arms": {}}
    before = keys_of(start)
    assert "teacher_sft" not in before
    for path, value in {"student.sft.steps": 7, "teacher.hint.system": "b"}.items():
        after = keys_of(fields.put(start, path, value))
        assert after["answers"] != before["answers"], path
        assert after["train-distilled"] != before["train-distilled"], path
        assert (after["train-sft"] != before["train-sft"]) == path.startswith("student"), path


def test_seeds_share_an_untrained_teacher_but_not_one_of_random_weights() -> None:
    raw: dict[str, Any] = {**BASE, "teacher": {"model": "t"}}
    fresh: dict[str, Any] = {**BASE, "teacher": {"model": "t", "init": "fresh"}}
    for base, same in ((raw, True), (fresh, False)):
        one, other = keys_of(base), keys_of({**base, "seed": 1})
        assert (one["answers"] == other["answers"]) is same
        assert (one["predict-teacher"] == other["predict-teacher"]) is same
    trained = keys_of(BASE), keys_of({**BASE, "seed": 1})
    assert trained[0]["answers"] != trained[1]["answers"]


def test_a_teacher_with_a_seed_of_its_own_is_shared_by_runs_of_all_seeds() -> None:
    for start, made in ((BASE, "answers"), (EXPLAINED, "generate")):
        own = fields.put(start, "teacher.seed", 7)
        one, other = keys_of(own), keys_of({**own, "seed": 1})
        for stage in ("teacher_pretrain", "teacher_sft", "predict-teacher", made):
            assert one[stage] == other[stage], stage
            assert one[stage] != keys_of(start)[stage], stage
        assert one["student_sft"] != other["student_sft"]


def test_of_a_server_counts_what_it_says_and_not_where_it_stands() -> None:
    base: dict[str, Any] = {
        **BASE,
        "teacher": {"base_url": "http://a/v1", "model": "t", "tokenizer": "tok"},
        "distil": {**TRAIN, "method": "kd"},
        "arms": {},
    }
    before = keys_of(base)
    elsewhere = keys_of(fields.put(base, "teacher.base_url", "http://b/v1"))
    elsewhere_and_slow = keys_of(fields.put(fields.put(base, "teacher.concurrency", 2), "teacher.max_calls", 9))
    assert before == elsewhere == elsewhere_and_slow
    assert parse_recipe(base).fingerprint() == parse_recipe(fields.put(base, "teacher.timeout", 5.0)).fingerprint()
    for path, value in (("teacher.k", 5), ("teacher.tail", "renormalise")):
        after = keys_of(fields.put(base, path, value))
        assert {name for name in before if before[name] != after[name]} == {
            *("pair", "train-kd_gold", "train-distilled", "predict-kd_gold", "predict-distilled", "speed-student")
        }
    here = keys_of({**base, "teacher": {"model": "t", "tokenizer": "tok"}})
    assert here["answers"] != before["answers"]
    assert here["train-sft"] == before["train-sft"]


def test_files_and_processes_are_part_of_it() -> None:
    recipe = parse_recipe(BASE)
    plan = stages(recipe, unlabelled=True)
    plain = stage_keys.keys(recipe, plan, {})
    other = stage_keys.keys(recipe, plan, {"t": "1"})
    assert {name for name in plain if plain[name] == other[name]} == {
        "data",
        "student_pretrain",
        "student_sft",
        "train-sft",
        "predict-base_student",
        "predict-sft",
    }
    three = stage_keys.keys(recipe, plan, {}, processes=3)
    assert three["data"] == plain["data"]
    assert three["teacher_sft"] != plain["teacher_sft"]
    assert stage_keys.files_of(recipe) == {"t", "s", "raw", "qa.jsonl"}


# -- units -----------------------------------------------------------------------------------------------------------


def test_cells_that_come_to_the_same_recipe_are_one_run() -> None:
    twice = {"one": {"distil.gold_weight": 0.5}, "same": {"distil.gold_weight": 0.5}}
    grid = parse_grid({**BASE, "axes": {"twice": twice, "distil.method": ["kd", "dskd"]}})
    cells = cell_runs(grid)
    assert len(grid.cells) == 4
    assert [len(cell.levels) for cell in cells] == [2, 2]


@settings(deadline=None, max_examples=15)
@given(st.lists(st.sampled_from(["teacher.sft", "student.sft", "distil.method", "seed"]), min_size=1, unique=True))
def test_each_stage_stands_once_and_behind_what_it_needs(names: list[str]) -> None:
    levels: dict[str, list] = {"teacher.sft": [False, True], "student.sft": [False, True]}
    levels |= {"distil.method": ["kd", "dskd"], "seed": [0, 1]}
    cells = cell_runs(parse_grid({**BASE, "axes": {name: levels[name] for name in names}}))
    all_units = units(cells, {})
    seen: set[str] = set()
    for unit in all_units.values():
        assert seen >= set(unit.needs)
        assert unit.host.name in unit.users
        seen.add(unit.id)
        for need in unit.needs:
            # Whoever needs a stage also needs what it is made from: so a failure reaches exactly its users.
            assert set(all_units[need].users) >= set(unit.users)
    for cell in cells:
        mine = [unit for unit in all_units.values() if cell.name in unit.users]
        assert sorted(unit.name for unit in mine) == sorted(stage.name for stage in cell_stages(cell))
    assert len(missing(all_units, lambda unit: False)) == len(all_units)
    assert missing(all_units, lambda unit: True) == []


def test_a_changed_source_is_refused_and_one_that_is_gone_keeps_its_fingerprint(tmp_path: Path) -> None:
    source = tmp_path / "qa.jsonl"
    source.write_text("{}\n")
    cells = cell_runs(parse_grid({**BASE, "data": {"source": str(source)}, "axes": {"seed": [0, 1]}}))
    folder = GridFolder(tmp_path / "grid")
    folder.path.mkdir()
    first = folder.contents(cells)
    source.unlink()
    assert folder.contents(cells) == first
    source.write_text("{} \n")
    with pytest.raises(RunError, match=r"qa\.jsonl changed since this grid was begun"):
        folder.contents(cells)


# -- what a stage gives does not depend on what it does not declare ----------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which every stage that may be shared has been done."""
    folder = tmp_path_factory.mktemp("stages")
    for name, width in (("t", 24), ("s", 16)):
        core = tokenizer(300)
        core.save_pretrained(folder / name)
        llama(len(core), width=width).save_pretrained(folder / name)
    rows = [{"id": f"q{n}", "question": f"{FACTS[n % 12][0]} ({n})", "answer": FACTS[n % 12][1]} for n in range(36)]
    (folder / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    (folder / "raw.txt").write_text(" ".join(question for question, _ in FACTS), encoding="utf-8")
    value = BASE
    for side in "teacher", "student":
        value = fields.put(value, f"{side}.model", str(folder / side[0]))
        value = fields.put(value, f"{side}.pretrain.source", str(folder / "raw.txt"))
    value = fields.put({**value, "output": str(folder / "runs")}, "data.source", str(folder / "qa.jsonl"))
    recipe = parse_recipe(value)
    run = Run.of(recipe)
    run.prepare(recipe)
    for stage in stages(recipe, unlabelled=True):
        if stage.name.split("-")[0] not in ("speed", "report"):
            run_stage(stage, recipe, run.folder, lambda *_: None)
    return run


NOT_COMPARED = ("pair", "speed", "report")
RESULTS = [
    stage for stage in stages(parse_recipe(BASE), unlabelled=True) if stage.name.split("-")[0] not in NOT_COMPARED
]


@pytest.mark.parametrize("stage", RESULTS, ids=lambda stage: stage.name)
def test_fields_that_are_not_declared_change_nothing(finished: Run, tmp_path: Path, stage) -> None:
    recipe = finished.recipe
    mine = declared(recipe, ancestors(recipe)[stage.name])
    value = recipe.model_dump(mode="json")
    altered = [path for path in FIELDS if not covers(mine, path) and not path.endswith(".config")]
    assert len(altered) >= 8
    for path in altered:
        value = changed(value, path)
    shutil.copytree(finished.folder, tmp_path / "run")
    run = Run(tmp_path / "run")
    (run.stage(stage.name) / "done.json").unlink()
    (run.stage(stage.name) / "begun.json").unlink()
    other = parse_recipe(value)
    assert all(fields.get(value, path) != fields.get(recipe.model_dump(mode="json"), path) for path in altered)
    run_stage(stage, other, run.folder, lambda *_: None)
    assert results(run, stage.name) == results(finished, stage.name)


TAUGHT = ("generate", "train-explained", "train-observer", "predict-explained")


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run in which a teacher writes and a student learns of it."""
    folder = tmp_path_factory.mktemp("taught")
    write_house(folder)
    own = recipe_of(folder, distil=train())
    own["teacher"]["sft"] = train(60)
    own["evaluate"]["simulatability"] = True
    # Whatever the teacher writes: a text that does not end, or only restates, is learned nowhere.
    own["generate"]["filter"] = {"restates": None}
    own["tasks"] = {"kind": "multitask_counterfactual"}
    return run_recipe(own)[0]


@pytest.mark.parametrize("name", TAUGHT)
def test_fields_that_are_not_declared_change_no_text_and_nothing_that_is_learned_of_it(
    taught: Run, tmp_path: Path, name: str
) -> None:
    recipe = taught.recipe
    [stage] = [stage for stage in stages(recipe, unlabelled=True) if stage.name == name]
    mine = declared(recipe, ancestors(recipe)[name])
    start = value = recipe.model_dump(mode="json")
    # What a recipe insists on is no other value of one field alone.
    fixed = (*WRITTEN, "tasks.rationales", "evaluate.arms", "evaluate.constrained", "generate.teacher")
    fixed += ("generate.recorded",)
    altered = [path for path in [*FIELDS, *TEXTS] if not covers(mine, path) and not path.endswith(".config")]
    # Nor is a section that is off a field: to turn it on is to have other stages.
    altered = [path for path in altered if path not in fixed and fields.get(start, path.rpartition(".")[0] or path)]
    assert len(altered) >= 8
    for path in altered:
        value = changed(value, path)
    assert all(fields.get(value, path) != fields.get(start, path) for path in altered)
    shutil.copytree(taught.folder, tmp_path / "run")
    run = Run(tmp_path / "run")
    shutil.rmtree(run.stage(name))
    run_stage(stage, parse_recipe(value), run.folder, lambda *_: None)
    assert results(run, name) == results(taught, name)


def results(run: Run, stage: str) -> dict[str, Any]:
    """Everything in a stage's folder that later stages read, without times."""
    content: dict[str, Any] = {}
    places = [run.folder / "data"] if stage == "data" else [run.stage(stage)]
    for path in sorted(path for place in places for path in place.rglob("*") if path.is_file()):
        if path.name == "predictions.jsonl":
            content[path.name] = [(row["id"], row["prediction"]) for row in read_jsonl(path)]
        elif path.parent.name == "generate" and path.suffix == ".jsonl":
            content[path.name] = [(row["id"], row.get("text"), row.get("reasons")) for row in read_jsonl(path)]
        elif path.suffix in (".jsonl", ".safetensors") and path.name != "metrics.jsonl":
            content[str(path.name)] = hashlib.sha256(path.read_bytes()).hexdigest()
    assert content
    return content
