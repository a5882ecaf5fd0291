"""A plan on paper: against shapes of real models, the losses' own chunks, and figures worked out by hand."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from understudy.errors import ConfigError, ModelError
from understudy.losses.divergences import forward_kl
from understudy.losses.heads import Head, HeadStates
from understudy.losses.pass_plan import plan_pass
from understudy.losses.requests import HeadTerms
from understudy.models.adapters import add_lora
from understudy.models.load import load_model, num_parameters, resolve
from understudy.planning.advice import CacheCost, cache_cost, cache_sentence, fitting_micro_batch
from understudy.planning.energy import Meter
from understudy.planning.figures import StageFigures
from understudy.planning.hardware import GPUS, Machine, named_gpu
from understudy.planning.measured import seconds_of
from understudy.planning.memory import Memory, chunk_tokens, training_memory
from understudy.planning.paper import Sizes
from understudy.planning.plan import plan_recipe
from understudy.planning.probe import Answering, Measured, Probed
from understudy.planning.seconds import operations, training_seconds
from understudy.planning.sizes import shape_of, size_of
from understudy.planning.work import AnswerWork, TrainingWork, Workload, micro_batches, workload
from understudy.recipe import LoraConfig, Recipe, StudentConfig, load_recipe
from understudy.recipe.shipped import find_recipe

HERE = Machine("here", 16e9, on_gpu=False)


def recipe(*overrides: str, name: str = "telecom_qa") -> Recipe:
    return load_recipe(find_recipe(name), ["device=cpu", "workers=1", *overrides])


@pytest.fixture(scope="module")
def load() -> Workload:
    return workload(recipe())


def of(load: Workload, stage: str):
    return next(planned.work for planned in load.stages if planned.stage.name == stage)


# -- models ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["telecom-student", "telecom-teacher", "telecom-encoder"])
def test_a_size_by_its_config_is_that_of_the_model(name: str) -> None:
    config = StudentConfig(model=f"embedded:{name}", init="fresh" if name == "telecom-encoder" else "pretrained")
    model = load_model(config, torch.device("cpu"))
    size = size_of(config, None)
    assert size.parameters == size.trained == num_parameters(model)
    assert all(p.device.type == "meta" for p in shape_of(config).parameters())


def test_adapters_are_counted_as_peft_makes_them() -> None:
    config, lora = StudentConfig(model="embedded:telecom-student"), LoraConfig(r=8)
    model = add_lora(load_model(config, torch.device("cpu")), lora)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert size_of(config, lora).trained == trained > 0


def test_a_student_that_is_cut_has_the_blocks_that_stay() -> None:
    whole = size_of(StudentConfig(model="embedded:telecom-teacher"), None)
    half = recipe("student={from_teacher: {layers: 2}}").student
    cut = size_of(half, None)
    assert cut.layers == 2 < whole.layers
    block = (whole.parameters - cut.parameters) / (whole.layers - 2)
    assert cut.parameters == pytest.approx(whole.parameters - block * (whole.layers - 2))
    assert num_parameters(load_model(half, torch.device("cpu"))) == cut.parameters


def test_no_weight_is_read_on_paper(tmp_path: Path) -> None:
    """A folder without weights is enough; a probe, which loads them, is not content with it."""
    for side in ("teacher", "student"):
        shutil.copytree(resolve(f"embedded:telecom-{side}"), tmp_path / side)
        for path in (tmp_path / side).glob("*.safetensors"):
            path.unlink()
    bare = recipe(f"teacher.model={tmp_path}/teacher", f"student.model={tmp_path}/student")
    plan = plan_recipe(bare, lambda _: None, gpu="h200")
    assert {stage.by for stage in plan.stages} == {"planned on paper"}
    assert plan.seconds is not None
    with pytest.raises(ModelError, match="cannot load"):
        load_model(bare.student, torch.device("cpu"))


# -- what there is to do ---------------------------------------------------------------------------------------------


def test_micro_batches_are_those_of_the_trainer(load: Workload) -> None:
    """Rows of a step sorted by length, none lost, the last step that is not full left out."""
    work = of(load, "train-distilled")
    assert isinstance(work, TrainingWork)
    rows = work.rows.sample[:70]
    made = micro_batches(rows, 32, 8, seed=3)
    assert [len(micro.rows) for micro in made] == [8] * 8
    for step in (made[:4], made[4:]):
        lengths = [row.length for micro in step for row in micro.rows]
        assert lengths == sorted(lengths)
    assert all(micro.tokens == 8 * max(len(row.student.ids) - 1 for row in micro.rows) for micro in made)


def test_arms_read_what_a_run_would_give_them(load: Workload) -> None:
    sft, distilled = of(load, "train-sft"), of(load, "train-distilled")
    assert isinstance(sft, TrainingWork)
    assert isinstance(distilled, TrainingWork)
    assert sft.rows.total == load.sizes["train"]
    assert distilled.rows.total == load.sizes["train"] + load.sizes["unlabelled"]
    assert (sft.signal, distilled.signal) == (False, True)
    assert sft.schedule.steps == distilled.schedule.steps == 600
    assert {planned.stage.name for planned in load.stages if planned.work is None} == {"data", "pair", "report"}


def test_an_arm_whose_texts_are_not_there_yet_is_said_not_to_be_planned() -> None:
    writer = "generate={steps: [explain], teacher: {model: m, base_url: 'http://localhost:1/v1'}}"
    load = workload(recipe(writer, "tasks={kind: multitask}"))
    missing = {planned.stage.name: planned.why_not for planned in load.stages if planned.work is None}
    assert "written by the run itself" in missing["train-explained"]
    assert "predict-explained" in missing


def test_several_gpus_take_fewer_steps_where_epochs_are_counted() -> None:
    epochs = recipe("distil.steps=null", "distil.epochs=4", "teacher.sft=null", "evaluate.arms=[sft]")
    one, eight = (of(workload(epochs, processes=count), "train-sft") for count in (1, 8))
    assert isinstance(one, TrainingWork)
    assert isinstance(eight, TrainingWork)
    assert one.schedule.steps > 6 * eight.schedule.steps


# -- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [3, 200, 256, 257, 4000])
def test_the_chunk_of_logits_is_that_of_the_losses(targets: int) -> None:
    """As many tokens as a pass over these two heads takes at once."""
    head = HeadStates(torch.zeros(targets, 4), Head(torch.zeros(50, 4)))
    chunk, _ = plan_pass(HeadTerms(forward_kl), head, head).sizes()
    # A pass evens its chunks out; the plan says the most that one may have.
    assert chunk <= chunk_tokens(targets, 50, on_gpu=False)
    assert -(-targets // chunk) == -(-targets // chunk_tokens(targets, 50, on_gpu=False))


def test_parts_are_what_a_hand_works_out(load: Workload) -> None:
    work = of(load, "train-distilled")
    assert isinstance(work, TrainingWork)
    sizes = Sizes(load.recipe)
    student, teacher = sizes.of(work.config), sizes.of(load.recipe.local_teacher)
    memory = training_memory(work, student, teacher, HERE)
    assert memory.weights == 4 * (student.parameters + teacher.parameters)
    assert memory.gradients == 4 * student.parameters
    assert memory.optimiser == 8 * student.parameters
    per_position = 4 * (8 * student.width + 4 * student.inner) * student.layers
    assert memory.activations >= work.largest.tokens * per_position
    assert memory.total == pytest.approx(sum(dataclasses.astuple(memory)))


def test_adapters_checkpointing_and_a_cache_take_less(load: Workload) -> None:
    work = of(load, "train-distilled")
    assert isinstance(work, TrainingWork)
    sizes = Sizes(load.recipe)
    student, teacher = sizes.of(work.config), sizes.of(load.recipe.local_teacher)
    plain = training_memory(work, student, teacher, HERE)
    checkpointed = dataclasses.replace(work, training=work.training.model_copy(update={"gradient_checkpointing": True}))
    assert training_memory(checkpointed, student, teacher, HERE).activations < plain.activations
    lora = LoraConfig(r=4)
    adapted = dataclasses.replace(work, training=work.training.model_copy(update={"lora": lora}))
    light = training_memory(adapted, sizes.of(work.config, lora), teacher, HERE)
    assert light.optimiser < plain.optimiser / 5
    assert training_memory(work, student, None, HERE).weights == 4 * student.parameters
    assert training_memory(work, student, teacher, HERE, micro=4).activations < plain.activations


def stage(total: float, micro: int, row_bytes: float | None) -> StageFigures:
    return StageFigures("train-sft", "", Memory(activations=total), 1.0, 0, 0, 0, micro, 1, 0, row_bytes, "")


def test_the_micro_batch_is_the_largest_divisor_that_fits() -> None:
    # 2 of it stay whatever is read, 1 a row: 12 leave room for ten rows, and eight divide 32.
    assert fitting_micro_batch(stage(18.0, 16, 1.0), 32, room=12.0) == 8
    assert fitting_micro_batch(stage(18.0, 16, 1.0), 32, room=100.0) == 32
    assert fitting_micro_batch(stage(18.0, 16, 1.0), 32, room=2.5) is None
    assert fitting_micro_batch(stage(18.0, 1, None), 32, room=2.5) is None


def test_a_model_that_does_not_fit_is_said_before_it_is_tried() -> None:
    large = "{hidden_size: 8192, intermediate_size: 28672, num_hidden_layers: 80, num_attention_heads: 64}"
    large = large.replace("64}", "64, num_key_value_heads: 8, head_dim: 128}")
    big = recipe("student.init=fresh", f"student.config={large}", "evaluate.arms=[sft]", "teacher.sft=null")
    plan = plan_recipe(big, lambda _: None, gpu="h100", num=8)
    assert plan.fits is False
    assert plan.limit == GPUS["h100"].memory
    training = next(stage for stage in plan.stages if stage.stage == "train-sft")
    assert training.memory.weights + training.memory.gradients + training.memory.optimiser > 16 * 60e9
    assert any("distil.lora={}" in line for line in plan.advice)
    light = plan_recipe(big.model_copy(update={"student": recipe().student}), lambda _: None, gpu="h100", num=8)
    assert light.fits is True


# -- time and energy -------------------------------------------------------------------------------------------------


def test_a_trained_token_costs_six_operations_a_parameter_and_the_head_meets_targets_alone(load: Workload) -> None:
    work = of(load, "train-sft")
    assert isinstance(work, TrainingWork)
    size = dataclasses.replace(size_of(work.config, None), matrix=10_000_000, vocabulary=1000, width=1000)
    assert operations(size, tokens=100, targets=7, factor=6) == 6 * (9_000_000 * 100 + 1_000_000 * 7)
    whole = training_seconds(work, size, None, GPUS["l4"])
    longer = dataclasses.replace(work, schedule=dataclasses.replace(work.schedule, steps=1200, eval_every=400))
    assert training_seconds(longer, size, None, GPUS["l4"]) == pytest.approx(2 * whole, rel=0.05)


def test_a_measured_training_is_its_steps_and_what_lies_between(load: Workload) -> None:
    planned = next(planned for planned in load.stages if planned.stage.name == "train-sft")
    work = planned.work
    assert isinstance(work, TrainingWork)
    work = dataclasses.replace(work, dev_rows=100, answer=(5.0, 10.0), rows=dataclasses.replace(work.rows, seconds=3.0))
    answering = Answering(rows=50, seconds=4.0, longest=20, token=0.1)
    found = Measured(1e9, 4e8, start=2.0, steps=9, step=0.5, step_peak=8e8, rest=1.0, answering=answering)
    # 600 steps in three parts; each time two batches whose longest answer has 10 tokens in place of 20.
    expected = 2 + 3 + 600 * 0.5 + 3 * 2 * (4.0 - 10 * 0.1) + (3 + 1) * 0.5
    assert seconds_of(dataclasses.replace(planned, work=work), Probed(found)) == pytest.approx(expected)


def test_measured_answers_end_where_a_trained_model_ends(load: Workload) -> None:
    planned = next(planned for planned in load.stages if planned.stage.name == "predict-distilled")
    work = planned.work
    assert isinstance(work, AnswerWork)
    found = Probed(Measured(1e9, 4e8, 2.0, answering=Answering(len(work.examples), 8.0, 24, 0.2, choices=0.5)))
    trained = seconds_of(planned, found)
    came = seconds_of(dataclasses.replace(planned, work=dataclasses.replace(work, trained=False)), found)
    assert came == pytest.approx(2.0 + 8.0 + 0.5)
    assert trained == pytest.approx(2.0 + 8.0 + 0.5 - 0.2 * (24 - work.answer[1]))


def test_a_cache_pays_where_the_teacher_is_read_often_and_slowly(load: Workload) -> None:
    slow = Probed(Measured(1e9, 4e8, 1.0, teacher=(1e-3, 1e-4, 1e-5), record_bytes=100.0))
    fast = Probed(Measured(1e9, 4e8, 1.0, teacher=(1e-5, 1e-4, 2e-5), record_bytes=100.0))
    sizes = Sizes(load.recipe)
    pays, never = (cache_cost(load, {"if cached": found}, sizes, HERE) for found in (slow, fast))
    assert isinstance(pays, CacheCost)
    assert isinstance(never, CacheCost)
    assert pays.pays is True
    assert pays.pays_after == pytest.approx(1.1e-3 / 9.9e-4)
    assert pays.live == pytest.approx(pays.epochs * pays.bytes / 100 * 1e-3)
    assert "(teacher.cache={}): pays: from 1.1 passes" in cache_sentence(pays)
    assert never.pays_after is None
    assert "never pays" in cache_sentence(never)


def test_a_teacher_that_cannot_be_cached_is_said_with_its_reason() -> None:
    spans = workload(recipe(name="bert_qa"))
    cost = cache_cost(spans, {}, Sizes(spans.recipe), HERE)
    assert cost is not None
    assert "points at positions" in cache_sentence(cost)


def test_energy_is_counted_where_something_counts(tmp_path: Path) -> None:
    package, core = tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:0:0"
    for folder in (package, core):
        folder.mkdir()
        (folder / "energy_uj").write_text("1000000")
    with Meter(tmp_path, "no-such-command") as meter:
        (package / "energy_uj").write_text("9000000")
        (core / "energy_uj").write_text("8000000")
    assert meter.source == "RAPL"
    assert meter.watts is not None
    assert meter.watts > 0
    with Meter(tmp_path / "nothing", "no-such-command") as nothing:
        pass
    assert (nothing.watts, nothing.source) == (None, "")


def test_stated_watts_are_multiplied_by_the_time() -> None:
    plan = plan_recipe(recipe("evaluate.arms=[sft]"), lambda _: None, gpu="l4", watts=500)
    assert plan.seconds is not None
    assert plan.joules == pytest.approx(500 * plan.seconds)
    published = plan_recipe(recipe("evaluate.arms=[sft]"), lambda _: None, gpu="l4", num=4)
    assert published.watts == 4 * GPUS["l4"].watts
    assert "data sheet" in published.watts_by


def test_an_unknown_gpu_is_told_the_nearest() -> None:
    assert named_gpu("H200", 8).processes == 8
    with pytest.raises(ConfigError, match="there is no GPU 'h20'") as caught:
        named_gpu("h20", 1)
    assert "h200" in str(caught.value) + caught.value.hint
    with pytest.raises(ConfigError, match="--num is of GPUs that are named"):
        plan_recipe(recipe(), lambda _: None, num=2)
