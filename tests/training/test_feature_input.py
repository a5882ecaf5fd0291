"""A teacher's hidden states as an input of the student: what is added, to which rows, and an end without them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from support import tiny, tiny_encoders
from support.stopping import StopAt
from understudy import build
from understudy.models.feature_input import accompanied, added
from understudy.models.forward import forward
from understudy.models.generate import choice_scores, generate
from understudy.recipe import FeaturesConfig, InputConfig, parse_recipe
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import encode_rows
from understudy.training.checkpoints import last_checkpoint
from understudy.training.module import DistillationModule
from understudy.training.objectives.features import FeatureObjective, input_share
from understudy.training.trainer import DistillationTrainer


def trainer(folder: Path, kind: str = "causal", *, spread: bool = False, **fields: Any) -> DistillationTrainer:
    """A trainer of a student that reads states; `spread`: by a map that is no longer 0."""
    config = FeaturesConfig(hidden=0.0, input=InputConfig(**fields.pop("input", {})))
    if kind == "causal":
        made = tiny.pair("kd", lora=False)
        rows = made.rows("kd")
    else:
        reader = tiny_encoders.reader(kind)
        student, teacher = tiny_encoders.bert(kind, seed=3), tiny_encoders.bert(kind, width=24, layers=4, seed=4)
        made = tiny.Pair(student, teacher, reader.template, reader.template)
        rows = encode_rows(tiny_encoders.ROWS[kind]()[:12], reader, reader)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        inner = build.objective(tiny.method_config("kd", gold_weight=0.3), made.student, made.teacher)
        objective = FeatureObjective(inner, config, made.student, made.teacher, seed=5)
        if spread:
            torch.nn.init.normal_(objective.input_projection.weight, std=0.2)  # pyright: ignore
    teacher = LocalTeacher(made.teacher)
    teacher.features = objective.of_teacher
    own = tiny.trainer(folder, "kd", made=made, rows=rows, teacher=teacher, batch_size=12, **fields)
    own.model = own.model_wrapped = DistillationModule(made.student, objective)
    own.optimizer = None
    return own


def parts(own: DistillationTrainer) -> tuple[Any, Any, Any]:
    batch = own.data_collator(list(own.train_dataset.rows))  # pyright: ignore
    own.module.student.eval()
    own.module.objective.begin_step(0, 10)
    return own.module, batch, own.teacher.signal(batch)  # pyright: ignore


@pytest.mark.parametrize("kind", ["causal", "choice", "classify"])
def test_the_student_begins_as_it_was(tmp_path: Path, kind: str) -> None:
    module, batch, signal = parts(trainer(tmp_path, kind, steps=1))
    result = module(batch, signal)
    plain = module.objective.main(forward(module.student, batch["student"]), signal, batch)
    torch.testing.assert_close(result.total, plain.total)
    result.total.backward()
    gradient = module.objective.input_projection.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0


def test_the_first_block_reads_the_embedding_and_what_is_made_of_the_teachers_state(tmp_path: Path) -> None:
    module, batch, signal = parts(trainer(tmp_path, steps=1, spread=True, input={"layer": 1}))
    inputs, student = batch["student"]["inputs"], module.student
    with torch.no_grad():
        result = module(batch, signal)
        teacher = trainer(tmp_path / "other", steps=1).teacher.model  # pyright: ignore
        states = teacher(**inputs, output_hidden_states=True).hidden_states[1]
        scaled = states / (states.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()
        read = student.get_input_embeddings()(inputs["input_ids"]) + scaled @ module.objective.input_projection.weight.T
        logits = student(inputs_embeds=read, attention_mask=inputs["attention_mask"]).logits
    mask, ids = batch["student"]["target_mask"], batch["student"]["target_ids"]
    gold = -logits[mask].log_softmax(-1).gather(1, ids[:, None]).sum()
    torch.testing.assert_close(result.sums["gold"], gold, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["causal", "choice"])
def test_who_reads_them_follows_from_seed_step_and_row_alone(tmp_path: Path, kind: str) -> None:
    own = trainer(tmp_path, kind, steps=1, spread=True, input={"start": 0.5, "end": 0.5})
    module, batch, signal = parts(own)
    rows = list(own.train_dataset.rows)  # pyright: ignore
    whole = module(batch, signal).total

    def piece(some: list) -> torch.Tensor:
        part = own.data_collator(some)
        return module(part, own.teacher.signal(part)).total  # pyright: ignore

    torch.testing.assert_close(piece(rows[:5]) + piece(rows[5:]), whole, rtol=1e-4, atol=1e-4)
    module.objective.begin_step(1, 10)
    assert module(batch, signal).total != whole


@pytest.mark.parametrize(
    ("config", "shares"),
    [
        ({"until": 0.5}, [1.0, 0.8, 0.6, 0.4, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0]),
        ({"start": 0.6, "end": 0.2, "until": 0.4, "shape": "cosine"}, [0.6, 0.5414214, 0.4, 0.2585786, *[0.2] * 6]),
        ({"start": 1, "end": 1}, [1.0] * 10),
    ],
)
def test_the_share_of_rows_falls_to_its_end(config: dict[str, Any], shares: list[float]) -> None:
    assert [input_share(InputConfig(**config), step, 10) for step in range(10)] == pytest.approx(shares)


def test_a_student_with_its_teacher_beside_it_answers_as_if_it_read_all_anew(tmp_path: Path) -> None:
    module, _, _ = parts(trainer(tmp_path, steps=1, spread=True))
    made = tiny.pair("kd", lora=False)
    student, teacher, project = module.student, made.teacher, module.objective.input_projection
    rows = [row.student for row in made.rows("kd")]
    prompts = [row.prompt_ids for row in rows]
    with accompanied(student, teacher, 2, project):  # pyright: ignore
        answers = generate(student, made.template, prompts, max_new_tokens=6, batch_size=5)
        scores = choice_scores(student, [[row] for row in rows], pad_id=1, batch_size=5)
    alone = generate(student, made.template, prompts, max_new_tokens=6, batch_size=5)
    assert [answer.text for answer in answers] != [answer.text for answer in alone]

    def logits(ids: list[int]) -> torch.Tensor:
        with torch.no_grad():
            read = torch.tensor([ids])
            states = project(teacher(read, output_hidden_states=True).hidden_states[2])  # pyright: ignore
            # What is listed last is behind the last norm; the block's own output is what is read.
            taken: list = []
            handle = teacher.model.layers[1].register_forward_hook(lambda m, i, o: taken.append(o))
            teacher(read)
            handle.remove()
            states = project(taken[0][0] if isinstance(taken[0], tuple) else taken[0])  # pyright: ignore
            with added(student, states):
                return student(read).logits[0]

    for prompt, answer in list(zip(prompts, answers, strict=True))[:4]:
        ids = list(prompt)
        for _ in range(answer.tokens):
            ids.append(int(logits(ids)[-1].argmax()))
        written = ids[len(prompt) :]
        assert made.template.decode([i for i in written if i not in made.template.stop_ids]) == answer.text
    for row, score in list(zip(rows, scores, strict=True))[:4]:
        logp = logits(row.ids)[len(row.prompt_ids) - 1 : -1].log_softmax(-1)
        expected = logp.gather(1, torch.tensor(row.answer_ids)[:, None]).mean()
        assert score[0] == pytest.approx(expected.item(), abs=1e-4)


def test_schedules_and_inner_states_go_together(tmp_path: Path) -> None:
    own = trainer(tmp_path, steps=1, spread=True)
    config = tiny.method_config("kd", adapt={"temperature": {"start": 2.0, "end": 1.0}})
    from understudy.training.objectives.adaptive import learns_as_it_goes

    objective = learns_as_it_goes(config, own.module.objective)
    own.model = own.model_wrapped = DistillationModule(own.module.student, objective)
    module, batch, signal = parts(own)
    assert torch.isfinite(module(batch, signal).total)
    assert module.objective.scheduled == {"loss_temperature": 2.0, "features_input_share": 1.0}


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({"hidden": 0.0}, "or input"),
        ({"hidden": 0.0, "input": {"layer": 0}}, "greater than 0"),
    ],
)
def test_what_cannot_be_is_refused(section: dict[str, Any], words: str) -> None:
    with pytest.raises(Exception, match=words):
        parse_recipe({"features": section})


def test_a_block_that_the_teacher_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"features\.input\.layer is 9, and the teacher has 2 blocks"):
        trainer(tmp_path, input={"layer": 9})


def test_a_resumed_training_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    options = {"steps": 4, "save_every": 1, "input": {"until": 0.8}}
    unbroken = trainer(tmp_path / "whole", **options)
    unbroken.train()
    short = trainer(tmp_path / "cut", **options)
    short.add_callback(StopAt(2))
    short.train()
    rest = trainer(tmp_path / "cut", **options)
    rest.train(resume_from_checkpoint=str(last_checkpoint(tmp_path / "cut")))
    for name, value in tiny.weights(unbroken).items():
        torch.testing.assert_close(tiny.weights(rest)[name], value, atol=0, rtol=0, msg=name)
    assert tiny.weights(rest)["objective.input_projection.weight"].abs().max() > 0
