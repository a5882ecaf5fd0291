"""A run that is killed, at whatever moment, and started again ends with the weights of a run that was not."""

import json
import multiprocessing
import signal

import pytest
import torch
from safetensors.torch import load_file

from support.runs import BETWEEN, HALF, MOMENTS, REMOVAL, run
from support.stopping import StopAt
from support.tiny import EVERY, pair, trainer, weights
from understudy.errors import RunError
from understudy.recipe import METHODS
from understudy.recipe.methods import ProjectorConfig
from understudy.training.checkpoints import MARKER, last_checkpoint

FIELDS = {"batch_size": 4, "micro_batch_size": 2, "save_every": 1}
# What dskd_v2 adds is a projector that starts at a solution and one that follows the head: weights alone.
CASES = [*(("dskd_cma", moment) for moment in MOMENTS), *(("dskd_v2", moment) for moment in (BETWEEN, HALF, REMOVAL))]


@pytest.fixture(scope="module")
def processes():
    """A server that has imported everything once and forks each run."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["understudy.training.trainer", "understudy.build", "peft", "accelerate"])
    return context


def start(processes, *arguments):
    process = processes.Process(target=run, args=arguments)
    process.start()
    process.join(120)
    code = process.exitcode
    process.close()
    return code


@pytest.fixture(scope="module")
def unbroken(processes, tmp_path_factory):
    """For each method, weights and metrics of the run that nobody killed."""
    found = {}
    for method in dict(CASES):
        folder = tmp_path_factory.mktemp(f"unbroken_{method}")
        assert start(processes, folder, folder / "final.safetensors", None, FIELDS, method) == 0
        found[method] = load_file(folder / "final.safetensors"), lines(folder)
    return found


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("method", "moment"), CASES)
def test_killed_and_started_again(processes, unbroken, tmp_path, method, moment):
    result = tmp_path / "final.safetensors"
    assert start(processes, tmp_path, result, moment, FIELDS, method) == -signal.SIGKILL
    assert not result.exists()
    assert (tmp_path / "started-from").read_text() == "nothing"
    assert start(processes, tmp_path, result, None, FIELDS, method) == 0
    assert (tmp_path / "started-from").read_text() == MOMENTS[moment]
    expected, metrics = unbroken[method]
    found = load_file(result)
    assert found.keys() == expected.keys()
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-7, msg=name)
    assert [row["step"] for row in lines(tmp_path)] == [row["step"] for row in metrics]
    for ours, theirs in zip(lines(tmp_path)[:-1], metrics[:-1], strict=True):
        assert ours == pytest.approx(theirs)
    whole = last_checkpoint(tmp_path)
    assert whole is not None
    assert whole.name == "checkpoint-4"
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-4"]


def test_half_written_checkpoints_are_ignored_and_removed(tmp_path):
    for name in ("checkpoint-9", "checkpoint-10"):
        (tmp_path / name).mkdir()
        (tmp_path / name / MARKER).write_text("{}")
    (tmp_path / "checkpoint-11").mkdir()
    (tmp_path / "checkpoint-11" / "optimizer.pt").write_bytes(b"half")
    whole = last_checkpoint(tmp_path)
    assert whole is not None
    assert whole.name == "checkpoint-10"
    assert not (tmp_path / "checkpoint-11").exists()
    assert last_checkpoint(tmp_path / "nowhere") is None


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    trainer(tmp_path, "kd", steps=1).train()
    other = trainer(tmp_path, "dskd", made=pair("dskd"), steps=2)
    with pytest.raises(RunError, match="other parameters"):
        other.train(resume_from_checkpoint=str(last_checkpoint(tmp_path)))


# Of all weights the head changes too, and what follows it with it.
@pytest.mark.parametrize(("method", "lora"), [*((method, True) for method in EVERY), ("dskd_v2", False)])
def test_four_steps_are_two_and_two(method, lora, tmp_path):
    fields = {"steps": 4, "save_every": 2, "batch_size": 4, "micro_batch_size": 2, "lora": lora}
    unbroken = trainer(tmp_path / "whole", method, **fields)
    unbroken.train()
    short = trainer(tmp_path / "cut", method, **fields)
    short.add_callback(StopAt(2))
    short.train()
    checkpoint = last_checkpoint(tmp_path / "cut")
    assert checkpoint.name == "checkpoint-2"
    rest = trainer(tmp_path / "cut", method, **fields)
    rest.train(resume_from_checkpoint=str(checkpoint))
    ours, theirs = weights(rest), weights(unbroken)
    learns = method != "sft" and issubclass(METHODS[method], ProjectorConfig)
    assert any(name.startswith("objective.") for name in ours) == learns
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name
