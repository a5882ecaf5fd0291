"""Teachers of several vocabularies train a student by a sum of objectives, through the same trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from support import tiny, tiny_summed
from support.stopping import StopAt
from support.tiny_summed import BY_ROW, METHODS_OF_SECOND, Trio
from understudy.models.forward import forward
from understudy.recipe import METHODS, TeachersConfig, parse_recipe
from understudy.teachers.local import LocalTeacher
from understudy.teachers.signals import Signal
from understudy.teachers.summed import batch_of
from understudy.training.checkpoints import last_checkpoint
from understudy.types import Batch, Gives

PLAIN: dict = {"schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "max_grad_norm": 1e9}


def gradients(value: torch.Tensor, *modules: Any) -> list[torch.Tensor]:
    parameters = [p for module in modules for p in module.parameters()]
    found = torch.autograd.grad(value, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


@pytest.mark.parametrize("method", METHODS_OF_SECOND)
def test_value_and_gradient_are_the_weighted_sum_of_each_alone(method: str) -> None:
    """Each objective by itself on its own batch, in float64: Σ_v s_v · L_v, student and projectors alike."""
    trio = Trio(method, double=True)
    batch = trio.collator(trio.rows())
    objective = trio.objective()
    output = forward(trio.student, batch["student"], embeddings=objective.embeddings)
    signal = trio.teacher(weight=3).signal(batch)
    result = objective(output, signal, batch)
    total, expected = result.total, torch.zeros((), dtype=torch.float64)
    terms = {}
    for share, name, part in zip((0.75, 0.25), objective.names, objective.parts, strict=True):
        alone = part(output, signal.signals[name], batch_of(batch, name))
        expected = expected + share * alone.total
        terms[name] = alone
    torch.testing.assert_close(total, expected, atol=0, rtol=1e-7)
    ours, theirs = (gradients(value, trio.student, objective) for value in (total, expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-6)
    assert any(bool(gradient.any()) for gradient in ours)
    torch.testing.assert_close(result.sums["gold"], terms["teacher"].sums["gold"])
    assert result.sums["tokens"] == terms["teacher"].sums["tokens"]


def test_one_teacher_twice_by_one_method_is_that_teacher() -> None:
    trio = Trio("kd", double=True)
    trio.second, trio.other = trio.first, trio.template
    batch = trio.collator(trio.rows())
    objective = trio.objective()
    output = forward(trio.student, batch["student"])
    twice = objective(output, trio.teacher(weight=3).signal(batch), batch).total
    alone = objective.parts[0](output, LocalTeacher(trio.first).signal(batch), batch).total
    torch.testing.assert_close(twice, alone, rtol=1e-7, atol=0)
    for one, other in zip(gradients(twice, trio.student), gradients(alone, trio.student), strict=True):
        torch.testing.assert_close(one, other, atol=1e-9, rtol=1e-6)


def test_what_the_log_says_of_each_is_what_enters_the_loss() -> None:
    trio = Trio("uld")
    batch = trio.collator(trio.rows())
    objective = trio.objective()
    output: Any = forward(trio.student, batch["student"])
    result = objective(output, trio.teacher(weight=3).signal(batch), batch)
    gold = torch.nn.functional.cross_entropy(
        output.states.head.logits(output.hidden), output.target_ids, reduction="none"
    )
    of_gold = batch["gold_rows"].repeat_interleave(torch.tensor(output.lengths))
    parts = result.sums["teacher_loss"] + result.sums["second_loss"]
    torch.testing.assert_close(result.total, (0.5 * gold * of_gold).sum() + parts, rtol=1e-5, atol=1e-5)


def test_a_row_learns_from_the_teacher_it_is_routed_to() -> None:
    """Even rows from the first teacher alone, odd ones from the second: the sum of two halves of a batch."""
    trio = Trio("uld", double=True)
    rows = trio.rows()
    teacher, objective = trio.teacher(**BY_ROW), trio.objective()

    def loss(chosen: list) -> torch.Tensor:
        batch = trio.collator(chosen)
        return objective(forward(trio.student, batch["student"]), teacher.signal(batch), batch).total

    def alone(chosen: list, number: int) -> torch.Tensor:
        batch = batch_of(trio.collator(chosen), objective.names[number])
        signal = list(teacher.parts.values())[number].signal(batch)
        return objective.parts[number](forward(trio.student, batch["student"]), signal, batch).total

    even, odd = rows[::2], rows[1::2]
    expected = alone(even, 0) + alone(odd, 1)
    torch.testing.assert_close(loss(rows), expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(loss(even) + loss(odd), expected, rtol=1e-6, atol=0)
    assert loss(even).item() != pytest.approx(alone(even, 1).item(), rel=1e-3)


def test_who_counts_on_no_row_of_a_batch_is_not_asked() -> None:
    class Silent:
        model, gives = None, Gives.STATES

        def signal(self, batch: Batch) -> Signal:
            raise AssertionError(f"asked about {batch['ids']}")

    trio = Trio("uld")
    teacher = trio.teacher(**BY_ROW)
    teacher.parts["second"] = Silent()
    batch = trio.collator(trio.rows()[::2])
    result = trio.objective()(forward(trio.student, batch["student"]), teacher.signal(batch), batch)
    assert result.sums["second_loss"] == 0


@pytest.mark.parametrize("method", METHODS_OF_SECOND)
def test_micro_batches_change_nothing(tmp_path: Path, method: str) -> None:
    found = {}
    for micro in (8, 1):
        run = tiny_summed.trainer(tmp_path / str(micro), method, micro_batch_size=micro, batch_size=8, steps=2, **PLAIN)
        run.optimizer = torch.optim.SGD([p for p in run.module.parameters() if p.requires_grad], lr=0.05)
        run.train()
        found[micro] = tiny.weights(run), [row["loss"] for row in run.state.log_history if "loss" in row]
    assert found[1][1] == pytest.approx(found[8][1], rel=1e-5)
    for name, value in found[8][0].items():
        torch.testing.assert_close(found[1][0][name], value, atol=1e-6, rtol=1e-5, msg=name)


def test_four_steps_are_two_and_two(tmp_path: Path) -> None:
    unbroken, short = (
        tiny_summed.trainer(tmp_path / folder, "dskd_cma", steps=4, save_every=2) for folder in ("whole", "cut")
    )
    unbroken.train()
    short.add_callback(StopAt(2))
    short.train()
    rest = tiny_summed.trainer(tmp_path / "cut", "dskd_cma", steps=4, save_every=2)
    rest.train(resume_from_checkpoint=str(last_checkpoint(tmp_path / "cut")))
    ours = tiny.weights(rest)
    assert any(name.startswith("objective.parts.1.") for name in ours)
    for name, value in tiny.weights(unbroken).items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-7)


def test_each_learns_by_its_own_options_and_the_arms_numbers() -> None:
    recipe = parse_recipe(
        {
            "distil": {"method": "kd", "steps": 7, "gold_weight": 0.3},
            "teachers": {
                "others": {"llama": {"model": "m", "distil": {"method": "min_edit", "loss_temperature": 1.5}}}
            },
        }
    )
    method = recipe.methods["llama"]
    assert (method.method, method.temperature, method.steps, method.gold_weight) == ("min_edit", 1.5, 7, 0.3)
    assert recipe.teachers is not None
    assert recipe.teachers.words() == "teacher (1); added to it the losses of llama (1) by min_edit"
    again = parse_recipe(recipe.model_dump(mode="json"))
    assert again.fingerprint() == recipe.fingerprint()


def test_a_recipe_from_before_there_were_sums_keeps_its_name() -> None:
    others = {"b": {"model": "m", "where": {"a": 1}}, "c": {"cache": "x"}}
    assert parse_recipe({"teachers": {"others": others}}).fingerprint() == "77c4ee38"


def test_projectors_of_an_added_method_have_their_rate() -> None:
    other = {"model": "m", "distil": {"method": "dskd_cma", "projector_learning_rate": 0.02}}
    recipe = parse_recipe({"teachers": {"others": {"llama": other}}})
    assert recipe.objective_learning_rate == 0.02
    assert parse_recipe({}).objective_learning_rate is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"distil": {"method": "nothing"}}, "distil.method: one of kd, dskd"),
        ({"distil": {"loss_temperature": 2}}, "distil.method: one of kd, dskd"),
        ({"distil": {"method": "uld", "steps": 3}}, "distil.steps is that of the recipe's own section"),
        ({"distil": {"method": "uld", "gold_weight": 0.1}}, "distil.gold_weight is that of the recipe's own section"),
        ({"distil": {"method": "uld", "divergence": "js"}}, "distil.divergence does not apply to uld"),
        ({"distil": {"method": "uld", "loss_temperature": -1}}, "distil.loss_temperature: Input should be greater"),
        ({"distil": {"method": "uld", "nothing": 1}}, "distil.nothing: Extra inputs are not permitted"),
        ({"tokenizer": "t"}, "reads the tokens of `teacher`"),
        ({"model": None, "cache": "c", "distil": {"method": "uld"}}, "needs the tokenizer that it was written with"),
    ],
)
def test_a_method_that_says_what_it_cannot_is_refused(other: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TeachersConfig.model_validate({"others": {"llama": {"model": "m", **other}}})


def test_every_method_can_be_added() -> None:
    """What a method cannot share with another teacher is said by its own gate, not by the sum."""
    for name, config in METHODS.items():
        fields = {"projector_learning_rate": 1e-3} if "projector_learning_rate" in config.model_fields else {}
        other = {"model": "m", "distil": {"method": name, **fields}}
        recipe = parse_recipe({"teachers": {"others": {"llama": other}}})
        assert type(recipe.methods["llama"]) is config
