"""A student that learns from disk learns what it would learn from the teacher itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from support import tiny
from support.tiny_seq2seq import pair as seq2seq_pair
from understudy.errors import RunError
from understudy.losses import DIVERGENCES, divergence, traits
from understudy.models.head import head_of
from understudy.recipe import METHODS
from understudy.teachers.cache.cached import CachedTeacher, open_cached
from understudy.teachers.cache.formats import SampledFormat, StatesFormat, TargetFormat, TopKFormat
from understudy.teachers.cache.identity import check_identity, write_identity
from understudy.teachers.cache.keys import row_keys
from understudy.teachers.cache.write import fill, rows_to_read, teacher_batch
from understudy.teachers.local import LocalTeacher
from understudy.teachers.signals import Signal, TopK
from understudy.types import Batch, Gives

CPU = torch.device("cpu")
TAILED = [name for name in DIVERGENCES if traits(divergence(name)).takes_tail]


class Quantised:
    """A live teacher whose signal goes through a format and back."""

    gives = Gives.TOP_K

    def __init__(self, model: Any, targets: TargetFormat, temperature: float) -> None:
        self.local, self.targets, self.temperature = LocalTeacher(model), targets, temperature

    def signal(self, batch: Batch) -> Signal:
        output: Any = self.local.signal(batch)
        records = self.targets.encode(output, [0] * len(output.lengths))
        return self.targets.decode(records, output.target_ids, output.lengths, self.temperature, CPU)


def doubled(method: str, *, lora: bool = False) -> tiny.Pair:
    made = tiny.pair(method, lora=lora)
    for model in (made.student, made.teacher):
        model.double()
    return made


def written(folder: Path, made: tiny.Pair, targets: TargetFormat, rows: list) -> None:
    """The cache of some rows."""
    pad: Any = made.teacher_template.tokenizer.pad_token_id
    folder.mkdir(exist_ok=True)
    write_identity(folder, targets, {"weights": "tiny"})
    fill(folder, targets, LocalTeacher(made.teacher), rows_to_read(rows, pad), pad, CPU, lambda *_: None)


def width_of(made: tiny.Pair) -> tuple[int, int]:
    columns, width = head_of(made.teacher).weight.shape
    return columns, width


def trained(folder: Path, made: tiny.Pair, method: str, teacher: Any, **fields: Any) -> tuple[float, dict]:
    trainer = tiny.trainer(folder, method, made=made, teacher=teacher, steps=3, **fields)
    return trainer.train().training_loss, tiny.weights(trainer)


def assert_same(one: tuple[float, dict], other: tuple[float, dict], tolerance: float = 1e-6) -> None:
    assert one[0] == pytest.approx(other[0], rel=tolerance)
    for name, value in one[1].items():
        torch.testing.assert_close(value, other[1][name], atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("name", TAILED)
def test_a_cached_run_is_the_live_run_of_the_same_rounded_target(tmp_path: Path, name: str) -> None:
    fields = {"divergence": name, "loss_temperature": 2.0}
    targets = TopKFormat(width_of(doubled("kd"))[0], (1.0, 2.0), 12, 8)
    live = doubled("kd")
    other = trained(tmp_path / "live", live, "kd", Quantised(live.teacher, targets, 2.0), **fields)
    cached = doubled("kd")
    written(tmp_path / "cache", cached, targets, cached.rows("kd"))
    one = trained(tmp_path / "cached", cached, "kd", open_cached(tmp_path / "cache", CPU, 2.0), **fields)
    assert_same(one, other, 1e-9)


@pytest.mark.parametrize("name", TAILED)
@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_every_token_kept_as_it_is_is_the_teacher_itself(tmp_path: Path, name: str, temperature: float) -> None:
    fields = {"divergence": name, "loss_temperature": temperature}
    live = trained(tmp_path / "live", doubled("kd"), "kd", None, **fields)
    made = doubled("kd")
    columns = width_of(made)[0]
    written(tmp_path / "cache", made, TopKFormat(columns, (temperature,), columns, 32), made.rows("kd"))
    cached = open_cached(tmp_path / "cache", CPU, temperature)
    assert_same(trained(tmp_path / "cached", made, "kd", cached, **fields), live, 2e-5)


@pytest.mark.parametrize("method", ["uld", "min_edit"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_every_token_kept_teaches_another_vocabulary_what_the_teacher_does(
    tmp_path: Path, method: str, temperature: float
) -> None:
    """K = V of another vocabulary, at float32 values; nothing of the teacher's model is there."""
    live = trained(tmp_path / "live", doubled(method), method, None, loss_temperature=temperature)
    made = doubled(method)
    columns = width_of(made)[0]
    written(tmp_path / "cache", made, TopKFormat(columns, (temperature,), columns, 32), made.rows(method))
    cached = open_cached(tmp_path / "cache", CPU, temperature)
    assert METHODS[method].reads in cached.gives
    made = dataclasses.replace(made, teacher=cached.model)
    same = trained(tmp_path / "cached", made, method, cached, loss_temperature=temperature)
    assert_same(same, live, 1e-3 if method == "uld" else 2e-5)


@pytest.mark.parametrize("method", ["uld", "min_edit"])
def test_a_few_tokens_of_another_vocabulary_are_cut_by_no_batch(tmp_path: Path, method: str) -> None:
    plain = {"schedule": "constant", "warmup": 0.0}
    found = []
    for micro in (4, 1):
        made = doubled(method)
        folder = tmp_path / str(micro)
        written(folder, made, TopKFormat(width_of(made)[0], (1.0,), 12, 8), made.rows(method))
        cached = open_cached(folder, CPU, 1.0)
        fields = {"loss_temperature": 1.0, "micro_batch_size": micro, **plain}
        found.append(trained(folder / "run", made, method, cached, **fields))
    assert_same(found[1], found[0])


@pytest.mark.parametrize("method", METHODS)
def test_states_teach_every_method_what_the_teacher_itself_does(tmp_path: Path, method: str) -> None:
    live = trained(tmp_path / "live", doubled(method), method, None)
    made = doubled(method)
    columns, width = width_of(made)
    written(tmp_path / "cache", made, StatesFormat(columns, (1.0,), width, "float32"), made.rows(method))
    embeddings = Gives.EMBEDDINGS in METHODS[method].reads
    cached = open_cached(tmp_path / "cache", CPU, 1.0, embeddings=embeddings)
    assert METHODS[method].reads in cached.gives
    # The layers of the teacher are not needed: only what lies beside the states is read.
    made = dataclasses.replace(made, teacher=cached.model)
    assert_same(trained(tmp_path / "cached", made, method, cached), live, 1e-3)


@pytest.mark.parametrize("kind", ["topk", "states"])
def test_encoder_decoders_are_cached_by_what_both_their_halves_read(tmp_path: Path, kind: str) -> None:
    made = seq2seq_pair("kd")
    columns, width = width_of(made)
    targets: TargetFormat = TopKFormat(columns, (1.0,), columns, 32)
    if kind == "states":
        targets = StatesFormat(columns, (1.0,), width, "float32")
    rows = made.rows("kd")
    written(tmp_path, made, targets, rows)
    pad: Any = made.teacher_template.tokenizer.pad_token_id
    batch = teacher_batch(rows[:5], pad)
    signal, live = open_cached(tmp_path, CPU, 1.0).signal(batch), LocalTeacher(made.teacher).signal(batch)
    logits: Any = live.states
    expected = logits.head.logits(logits.hidden).log_softmax(-1)
    if isinstance(signal, TopK):
        torch.testing.assert_close(signal.logp, expected, atol=1e-4, rtol=1e-4)
    else:
        stored: Any = signal.states
        torch.testing.assert_close(stored.head.logits(stored.hidden).log_softmax(-1), expected, atol=1e-4, rtol=1e-4)
    assert signal.lengths == live.lengths
    assert torch.equal(signal.target_ids, live.target_ids)


def test_sampled_targets_teach_forward_kl(tmp_path: Path) -> None:
    """With as many draws as columns the loss is near that of the teacher; the gradient's mean is tested by itself."""
    live = trained(tmp_path / "live", doubled("kd"), "kd", None, learning_rate=1e-5)
    made = doubled("kd")
    columns = width_of(made)[0]
    written(tmp_path / "cache", made, SampledFormat(columns, (1.0,), 10, columns), made.rows("kd"))
    cached = trained(tmp_path / "c", made, "kd", open_cached(tmp_path / "cache", CPU, 1.0), learning_rate=1e-5)
    assert cached[0] == pytest.approx(live[0], rel=0.02)


def test_what_a_row_is_called_is_what_the_teacher_reads(tmp_path: Path) -> None:
    made = tiny.pair("kd", lora=False)
    rows = made.rows("kd")
    pad: Any = made.teacher_template.tokenizer.pad_token_id
    alone = [row_keys(teacher_batch([row], pad))[0] for row in rows]
    assert row_keys(teacher_batch(rows, pad)) == alone  # padding does not count
    side = rows[0].teacher
    assert side is not None
    same_text = dataclasses.replace(rows[0], id="another")
    fewer = dataclasses.replace(rows[0], teacher=dataclasses.replace(side, num_forced=1))
    moved = dataclasses.replace(
        rows[0],
        teacher=dataclasses.replace(
            side, prompt_ids=side.prompt_ids + side.answer_ids[:1], answer_ids=side.answer_ids[1:]
        ),
    )
    others = [row_keys(teacher_batch([row], pad))[0] for row in (same_text, fewer, moved)]
    assert others[0].tokens == alone[0].tokens
    assert others[0].row != alone[0].row
    # The same ids in a row, but not the same of them learned.
    assert others[1].tokens != alone[0].tokens
    assert others[1].row == alone[0].row
    assert others[2] == others[1]


def test_a_row_that_is_not_there_or_reads_otherwise_is_named(tmp_path: Path) -> None:
    made = tiny.pair("kd", lora=False)
    rows, targets = made.rows("kd"), TopKFormat(width_of(made)[0], (1.0,), 4)
    written(tmp_path, made, targets, rows[:3])
    pad: Any = made.teacher_template.tokenizer.pad_token_id
    teacher = CachedTeacher(tmp_path, targets, 1.0)
    with pytest.raises(RunError, match=r"row fact-5 is not there"):
        teacher.signal(teacher_batch(rows[5:6], pad))
    side = rows[0].teacher
    assert side is not None
    shorter = dataclasses.replace(rows[0], teacher=dataclasses.replace(side, prompt_ids=side.prompt_ids[1:]))
    with pytest.raises(RunError, match=r"row fact-0 is there with other tokens"):
        teacher.signal(teacher_batch([shorter], pad))


def test_another_teacher_or_other_targets_are_refused_by_what_differs(tmp_path: Path) -> None:
    targets = TopKFormat(300, (1.0, 2.0), 8)
    write_identity(tmp_path, targets, {"weights": "a", "tokenizer": "t", "chat template": "c"})
    mine = {"weights": "a", "tokenizer": "t", "chat template": "c"}
    assert check_identity(tmp_path, TopKFormat(300, (2.0,), 8), mine) == targets
    for wanted, teacher, message in [
        (targets, {**mine, "weights": "b"}, "teacher's weights differs"),
        (targets, {**mine, "tokenizer": "u", "chat template": "d"}, "teacher's chat template, tokenizer differ"),
        (TopKFormat(300, (1.0,), 9), mine, "k 8 there, 9 here"),
        (TopKFormat(300, (1.0, 4.0), 8), mine, "temperatures 1, 2 there, 4 asked for"),
        (SampledFormat(300, (1.0,), 8, 5), mine, "kind topk there, sampled here"),
    ]:
        with pytest.raises(RunError, match=message):
            check_identity(tmp_path, wanted, teacher)
    with pytest.raises(RunError, match="holds targets at temperature 1, 2, and 3 is asked for"):
        open_cached(tmp_path, CPU, 3.0)
    with pytest.raises(RunError, match="is no cache"):
        open_cached(tmp_path / "nowhere", CPU, 1.0)
