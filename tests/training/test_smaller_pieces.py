"""A device that runs out of memory in mid-run: half as many rows at once, the same step.

The fault is put into the model: its forward or backward pass raises what torch raises on a GPU, above so many rows.
"""

import json

import pytest
import torch

from support import tiny_on_policy
from support.tiny import pair, trainer, weights
from support.tiny_tasks import task_trainer
from understudy.errors import RunError
from understudy.pipeline.learning_report import memory_sentences
from understudy.records import TrainingFigures, TrainSchedule

PLAIN: dict = {"schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "max_grad_norm": 1e9}
MESSAGE = "CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has a total capacity of 4 GiB"


class _FullBackwards(torch.autograd.Function):
    """Forward is the identity; backward runs out of memory above so many rows."""

    @staticmethod
    def forward(ctx, states, most):
        ctx.most = most
        return states.clone()

    @staticmethod
    def backward(ctx, gradient):
        if len(gradient) > ctx.most:
            raise torch.OutOfMemoryError(MESSAGE)
        return gradient, None


def small_device(run, most, *, backward=False, first_step=0):
    """Whatever the student reads more of at once than `most` rows does not fit, from some step on."""
    inner = run.module.student
    inner = inner.get_base_model() if hasattr(inner, "get_base_model") else inner
    read = []

    def check(module, args, output):
        read.append(len(output))
        if run.state.global_step < first_step:
            return output
        if backward:
            return _FullBackwards.apply(output, most)
        if len(output) > most:
            raise torch.OutOfMemoryError(MESSAGE)
        return output

    # In the backward pass the head and the last block have their gradients already when the turn of the first comes.
    (inner.model.layers[0] if backward else inner.model.norm).register_forward_hook(check)
    return read


def plain_descent(run, rate=0.05):
    run.optimizer = torch.optim.SGD([p for p in run.module.parameters() if p.requires_grad], lr=rate)
    return run


def losses(run):
    return [line["loss"] for line in run.state.log_history if "loss" in line]


def assert_same(run, expected):
    assert losses(run) == pytest.approx(losses(expected), rel=1e-5)
    theirs = weights(expected)
    for name, value in weights(run).items():
        torch.testing.assert_close(value, theirs[name], atol=1e-6, rtol=1e-5, msg=name)


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize("method", ["sft", "kd", "dskd_cma", "uld"])
def test_half_the_rows_are_what_a_run_of_half_the_rows_is(tmp_path, method, backward):
    """In either pass; gradients that a broken backward pass left behind count no more."""
    smaller = plain_descent(trainer(tmp_path / "two", method, lora=False, batch_size=8, micro_batch_size=2, **PLAIN))
    smaller.train()
    cut = plain_descent(trainer(tmp_path / "eight", method, lora=False, batch_size=8, **PLAIN))
    read = small_device(cut, 2, backward=backward)
    cut.train()
    assert max(read) == 8
    assert read[:2] == [8, 4]
    assert set(read[2:]) == {2}, "what has not fitted once is not tried again"
    assert_same(cut, smaller)


def test_the_step_is_taken_back_and_not_only_its_last_micro_batch(tmp_path):
    """The second micro-batch fails: what the first added is there once."""
    smaller = plain_descent(trainer(tmp_path / "one", "kd", lora=False, batch_size=8, micro_batch_size=1, **PLAIN))
    smaller.train()
    cut = plain_descent(trainer(tmp_path / "four", "kd", lora=False, batch_size=8, micro_batch_size=4, **PLAIN))
    seen = []

    def check(module, args, output):
        seen.append(len(output))
        if len(output) > 1 and seen.count(4) == 2:
            raise torch.OutOfMemoryError(MESSAGE)

    cut.module.student.model.norm.register_forward_hook(check)
    cut.train()
    assert seen[:4] == [4, 4, 2, 1]
    assert_same(cut, smaller)


def test_a_step_that_fitted_before_goes_on_where_it_stood(tmp_path):
    """Adam's moments of the steps before are kept, and later steps are those of a run that was never disturbed."""
    expected = trainer(tmp_path / "plain", "kd", lora=False, batch_size=8, micro_batch_size=4, steps=5)
    expected.train()
    cut = trainer(tmp_path / "cut", "kd", lora=False, batch_size=8, micro_batch_size=4, steps=5)
    small_device(cut, 2, first_step=3)
    cut.train()
    assert_same(cut, expected)


def test_tasks_keep_their_weights(tmp_path):
    expected = plain_descent(task_trainer(tmp_path / "plain", "kd", steps=2, batch_size=4, **PLAIN))
    expected.train()
    cut = plain_descent(task_trainer(tmp_path / "cut", "kd", steps=2, batch_size=4, **PLAIN))
    most = len(cut.data_collator(cut.train_dataset.rows[:1])["ids"])  # pyright: ignore
    small_device(cut, 2 * most)
    cut.train()
    assert cut.pieces.most is not None
    assert_same(cut, expected)


def test_rows_that_the_student_wrote_are_cut_too(tmp_path):
    fields = {"batch_size": 4, "on_policy": {"share": 1.0, "max_new_tokens": 6}}
    expected = plain_descent(tiny_on_policy.trainer(tmp_path / "plain", "kd", micro_batch_size=2, **fields, **PLAIN))
    expected.train()
    cut = plain_descent(tiny_on_policy.trainer(tmp_path / "cut", "kd", **fields, **PLAIN))
    reads = []

    def check(module, args, output):
        if module.training:
            reads.append(len(output))
            if len(output) > 2:
                raise torch.OutOfMemoryError(MESSAGE)

    cut.module.student.model.norm.register_forward_hook(check)
    cut.train()
    assert (reads[0], set(reads[1:])) == (4, {2})
    assert_same(cut, expected)


def test_random_numbers_of_the_step_are_drawn_again(tmp_path):
    """With dropout too a step in pieces is that of a run of such pieces."""
    smaller = trainer(
        tmp_path / "two", "kd", made=pair("kd", lora=False, dropout=0.3), batch_size=4, micro_batch_size=2
    )
    smaller.train()
    cut = trainer(tmp_path / "four", "kd", made=pair("kd", lora=False, dropout=0.3), batch_size=4)
    small_device(cut, 2)
    cut.train()
    assert_same(cut, smaller)


def test_the_log_and_the_report_say_so(tmp_path):
    run = trainer(tmp_path, "kd", lora=False, num=8, batch_size=8, steps=3)
    small_device(run, 2, first_step=1)
    run.train()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    cuts = [(row["micro_batch_size"], row["step"]) for row in rows if "micro_batch_size" in row]
    assert cuts == [(4, 1), (2, 1)]
    schedule = TrainSchedule(3, 8, 1, 0, 1, 1, 1)
    figures = TrainingFigures(schedule, 10, None, None, 1.0, cut_to=run.pieces.most)
    assert memory_sentences("the student", figures) == [
        "While the student was trained the device ran out of memory: from there on 2 rows were read at once in place "
        "of 8, and as many a step."
    ]
    assert memory_sentences("the student", TrainingFigures(schedule, 10, None, None, 1.0)) == []


def test_a_resumed_training_need_not_find_out_again(tmp_path):
    first = trainer(tmp_path, "kd", lora=False, batch_size=8, steps=4, save_every=2)
    small_device(first, 2)
    first.train()
    longer = trainer(tmp_path, "kd", lora=False, batch_size=8, steps=6, save_every=2)
    read = small_device(longer, 2)
    longer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert set(read) == {2}


def test_one_row_that_does_not_fit_is_named_in_a_line(tmp_path):
    run = trainer(tmp_path, "kd", lora=False, batch_size=4, steps=2)
    small_device(run, 0)
    with pytest.raises(RunError, match="step 1: the device ran out of memory on one row at once") as caught:
        run.train()
    assert "fact-" in caught.value.message
    assert caught.value.message.endswith("Tried to allocate 2.00 GiB.")
    assert "\n" not in caught.value.message
    assert "max_length" in caught.value.hint
