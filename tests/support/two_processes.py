"""One of two processes that train together; started by `test_reduction` through torch.distributed.run."""

import json
import os
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from support import tiny_on_policy, tiny_summed
from support.tiny import EVERY, pair, trainer, weights
from support.tiny_tasks import task_trainer
from support.tiny_teachers import ensemble

TASKS = ["sft", "kd"]
OWN = ["kd", "min_edit"]
OWN_FIELDS = {"steps": 4, "micro_batch_size": 2, "on_policy": {"share": 0.5, "buffer": 2}, "adapt": {"taid": {}}}
PLAIN = {"schedule": "constant", "warmup": 0.0, "weight_decay": 0.0, "max_grad_norm": 1e9}


def main(folder: Path) -> None:
    """Train each method for two steps, then some of them on tasks; the first process writes weights and losses."""
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    for method in EVERY:
        run = trainer(folder / method, method, made=pair(method), steps=2, batch_size=6, micro_batch_size=2, **PLAIN)
        run.optimizer = torch.optim.SGD([p for p in run.module.parameters() if p.requires_grad], lr=0.05)
        run.train()
        assert run.args.world_size == 2
        if run.args.process_index == 0:
            save_file(weights(run), folder / f"{method}.safetensors")
            for name in ("loss", "gold"):
                lines = [str(row[name]) for row in run.state.log_history if "loss" in row]
                (folder / f"{method}.{'losses' if name == 'loss' else name}").write_text("\n".join(lines))
    made = pair("kd")
    run = trainer(folder / "several", "kd", made=made, teacher=ensemble(made), steps=2, batch_size=6, **PLAIN)
    run.optimizer = torch.optim.SGD([p for p in run.module.parameters() if p.requires_grad], lr=0.05)
    run.train()
    if run.args.process_index == 0:
        save_file(weights(run), folder / "several.safetensors")
    # A row at a time: each process passes batches that are all of one teacher.
    run = tiny_summed.trainer(folder / "summed", "dskd_cma", steps=2, batch_size=6, micro_batch_size=1, **PLAIN)
    run.optimizer = torch.optim.SGD([p for p in run.module.parameters() if p.requires_grad], lr=0.05)
    run.train()
    if run.args.process_index == 0:
        save_file(weights(run), folder / "summed.safetensors")
        lines = [row for row in run.state.log_history if "loss" in row]
        (folder / "summed.json").write_text(json.dumps(lines))
    for method in TASKS:
        # One example a process: in some steps only one of the two meets a counterfactual.
        run = task_trainer(folder / f"tasks-{method}", method, steps=3, batch_size=1, **PLAIN)
        run.optimizer = torch.optim.SGD([p for p in run.module.parameters() if p.requires_grad], lr=0.05)
        run.train()
        if run.args.process_index == 0:
            save_file(weights(run), folder / f"tasks-{method}.safetensors")
            lines = [row for row in run.state.log_history if "loss" in row]
            (folder / f"tasks-{method}.json").write_text(json.dumps(lines))
    for method in OWN:
        run = tiny_on_policy.trainer(
            folder / f"own-{method}",
            method,
            batch_size=4,
            process=run.args.process_index,
            processes=2,
            **OWN_FIELDS,
            **PLAIN,
        )
        run.optimizer = torch.optim.SGD([p for p in run.module.parameters() if p.requires_grad], lr=0.05)
        run.train()
        if run.args.process_index == 0:
            save_file(weights(run), folder / f"own-{method}.safetensors")
            lines = [row for row in run.state.log_history if "loss" in row]
            (folder / f"own-{method}.json").write_text(json.dumps(lines))
    torch.distributed.barrier()
    # Torch tears its group down with the interpreter's lock in hand; a gloo thread that frees a tensor waits for it.
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
