"""Whole training runs for `test_resume`, as processes that can be killed at a chosen moment."""

import os
import signal
from pathlib import Path

import safetensors.torch
import torch
import transformers
from safetensors.torch import save_file
from transformers import TrainerCallback
from transformers.trainer_callback import TrainerState

from support.tiny import pair, trainer, weights
from understudy.training import module
from understudy.training.checkpoints import last_checkpoint

# Each moment, and the checkpoint from which the next start goes on.
MOMENTS = {
    "between two micro-batches of step 3": "checkpoint-2",
    "before the update of step 2": "checkpoint-1",
    "half of the weights of step 2 are written": "checkpoint-1",
    "the optimiser of step 1 is being written": "nothing",
    "all of step 2 is written but the marker": "checkpoint-1",
    "the metrics of step 3 are being written": "checkpoint-2",
    "the checkpoint of step 1 is being removed": "checkpoint-2",
}
BETWEEN, BEFORE, HALF, OPTIMISER, MARKER, METRICS, REMOVAL = MOMENTS


def kill():
    os.kill(os.getpid(), signal.SIGKILL)


class Killer(TrainerCallback):
    """Kills the process on a step of the loop."""

    def __init__(self, moment):
        self.moment = moment

    def on_substep_end(self, args, state, control, **kwargs):
        if self.moment == BETWEEN and state.global_step == 2:
            kill()

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if self.moment == BEFORE and state.global_step == 1:
            kill()


def arm(moment):
    """Make a library's own function kill the process in the middle of a file."""
    real_save, real_replace, real_json, real_unlink = torch.save, os.replace, TrainerState.save_to_json, os.unlink

    def half_written(tensors, path):
        if "checkpoint-2" in str(path):
            blob = safetensors.torch.save(tensors)
            Path(path).write_bytes(blob[: len(blob) // 2])
            kill()
        save_file(tensors, path)

    def save(value, path, *args, **kwargs):
        if "checkpoint-1" in str(path) and "optimizer" in str(path):
            Path(path).write_bytes(b"half")
            kill()
        real_save(value, path, *args, **kwargs)

    def to_json(state, path):
        real_json(state, path)
        if "checkpoint-2" in str(path):
            kill()

    def replace(source, target):
        if str(target).endswith("metrics.jsonl") and len(Path(source).read_text().splitlines()) == 3:
            kill()
        real_replace(source, target)

    def unlink(path, *args, **kwargs):
        real_unlink(path, *args, **kwargs)
        if str(path).endswith("optimizer.pt"):
            kill()

    if moment == HALF:
        module.save_file = half_written
    elif moment == OPTIMISER:
        torch.save = save
    elif moment == MARKER:
        TrainerState.save_to_json = to_json
    elif moment == METRICS:
        os.replace = replace
    elif moment == REMOVAL:
        os.unlink = unlink


def run(folder, result, moment=None, fields=None, method="dskd_cma"):
    """Train four steps in `folder`, from the last whole checkpoint if there is one; the weights go to `result`."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    made = pair(method, dropout=0.2)
    options = {"steps": 4, "batch_size": 5, "micro_batch_size": None, "save_every": 2, **(fields or {})}
    trained = trainer(Path(folder), method, made=made, **options)
    trained.add_callback(Killer(moment))
    arm(moment)
    checkpoint = last_checkpoint(Path(folder))
    (Path(folder) / "started-from").write_text(checkpoint.name if checkpoint else "nothing")
    trained.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    save_file(weights(trained), result)
