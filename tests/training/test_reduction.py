"""One reduction: neither micro-batches nor the number of processes change the weights after a step."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from support import tiny_on_policy, tiny_summed
from support.tiny import EVERY, pair, trainer, weights
from support.tiny_tasks import task_trainer
from support.tiny_teachers import ensemble
from support.two_processes import OWN, OWN_FIELDS

TASKS = ["sft", "kd"]
# With plain descent instead of Adam, which would hide a wrong factor of the gradient.
PLAIN: dict = {"schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "max_grad_norm": 1e9}


def plain_descent(run, rate=0.05):
    run.optimizer = torch.optim.SGD([p for p in run.module.parameters() if p.requires_grad], lr=rate)
    return run


@pytest.mark.parametrize("method", EVERY)
@pytest.mark.parametrize("lora", [True, False])
def test_micro_batches_change_nothing(tmp_path, method, lora):
    found = {}
    for micro in (8, 2):
        made = pair(method, lora=lora)
        run = plain_descent(
            trainer(tmp_path, method, made=made, steps=2, batch_size=8, micro_batch_size=micro, **PLAIN)
        )
        run.train()
        found[micro] = weights(run), [row["loss"] for row in run.state.log_history if "loss" in row]
    fresh = weights(trainer(tmp_path, method, made=pair(method, lora=lora), steps=1))
    expected, losses = found[8]
    assert sum(not torch.equal(fresh[name], expected[name]) for name in fresh) > len(fresh) / 2
    cut, cut_losses = found[2]
    assert cut_losses == pytest.approx(losses, rel=1e-5)
    for name in expected:
        torch.testing.assert_close(cut[name], expected[name], atol=1e-6, rtol=1e-5, msg=name)


def test_the_loss_in_the_log_is_the_mean_over_target_tokens(tmp_path):
    """Rows of a step by hand: all twelve at once, before anything is learned."""
    run = trainer(tmp_path, "sft", steps=1, batch_size=12, micro_batch_size=3)
    batch = run.data_collator(run.train_dataset.rows)
    with torch.no_grad():
        expected = run.module(batch).total / len(batch["student"]["target_ids"])
    run.train()
    row = next(row for row in run.state.log_history if "loss" in row)
    assert row["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert row["gold"] == pytest.approx(expected.item(), rel=1e-5)


def test_two_processes_are_one_with_the_double_batch(tmp_path):
    script = Path(__file__).parents[1] / "support" / "two_processes.py"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": ""}
    launcher = ["torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
    done = subprocess.run(
        [sys.executable, "-m", *launcher, "--rdzv-endpoint", "127.0.0.1:0", script, tmp_path],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    for method in EVERY:
        one = trainer(tmp_path / "one", method, made=pair(method), steps=2, batch_size=12, **PLAIN)
        plain_descent(one).train()
        both = load_file(tmp_path / f"{method}.safetensors")
        expected = weights(one)
        assert both.keys() == expected.keys()
        for name in expected:
            torch.testing.assert_close(both[name], expected[name], atol=1e-6, rtol=1e-5, msg=f"{method} {name}")
        losses = [float(line) for line in (tmp_path / f"{method}.losses").read_text().split()]
        assert losses == pytest.approx([row["loss"] for row in one.state.log_history if "loss" in row], rel=1e-4)
        gold = [float(line) for line in (tmp_path / f"{method}.gold").read_text().split()]
        assert gold == pytest.approx([row["gold"] for row in one.state.log_history if "loss" in row], rel=1e-4)
    made = pair("kd")
    one = trainer(tmp_path / "several", "kd", made=made, teacher=ensemble(made), steps=2, batch_size=12, **PLAIN)
    plain_descent(one).train()
    both, expected = load_file(tmp_path / "several.safetensors"), weights(one)
    for name in expected:
        torch.testing.assert_close(both[name], expected[name], atol=1e-6, rtol=1e-5, msg=f"several teachers {name}")
    one = plain_descent(tiny_summed.trainer(tmp_path / "summed", "dskd_cma", steps=2, batch_size=12, **PLAIN))
    one.train()
    both, expected = load_file(tmp_path / "summed.safetensors"), weights(one)
    assert both.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(both[name], expected[name], atol=1e-6, rtol=1e-5, msg=f"a sum {name}")
    lines = json.loads((tmp_path / "summed.json").read_text())
    for ours, theirs in zip(lines, [row for row in one.state.log_history if "loss" in row], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
        assert {"gold", "teacher_loss", "second_loss"} <= ours.keys()
    for method in OWN:
        one = plain_descent(tiny_on_policy.trainer(tmp_path / "own", method, batch_size=8, **OWN_FIELDS, **PLAIN))
        one.train()
        both, expected = load_file(tmp_path / f"own-{method}.safetensors"), weights(one)
        for name in expected:
            torch.testing.assert_close(both[name], expected[name], atol=1e-5, rtol=1e-4, msg=f"own {method} {name}")
        lines = json.loads((tmp_path / f"own-{method}.json").read_text())
        for ours, theirs in zip(lines, [row for row in one.state.log_history if "loss" in row], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    for method in TASKS:
        one = plain_descent(task_trainer(tmp_path / "tasks", method, steps=3, batch_size=2, **PLAIN))
        one.train()
        both, expected = load_file(tmp_path / f"tasks-{method}.safetensors"), weights(one)
        for name in expected:
            torch.testing.assert_close(both[name], expected[name], atol=1e-6, rtol=1e-5, msg=f"tasks {method} {name}")
        lines = json.loads((tmp_path / f"tasks-{method}.json").read_text())
        for ours, theirs in zip(lines, [row for row in one.state.log_history if "loss" in row], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-4)
            assert {"task_predict", "task_explain"} < ours.keys()
