"""One stage of a grid, wherever it runs: in a process here, on a node of a cluster, or in several processes."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from understudy.errors import RunError
from understudy.files import read_json
from understudy.grid.folder import GridFolder
from understudy.grid.jobs import Job
from understudy.run import Run

PARENT = "UNDERSTUDY_PARENT"
"""Environment variable with the process without which launched processes have no reason to go on."""


def run_job(job: Job, on_progress: Callable[[int, int, str], None]) -> None:
    """Run a job to its end, holding its stage meanwhile.

    Raises:
        UnderstudyError: the stage failed for a reason that a user can mend.
    """
    os.chdir(job.cwd)
    with GridFolder(job.grid).working_on(job.id) as progress:
        if Run(job.folder).is_current(job.stage.name, job.stage.needs):
            # Whoever held it before us finished it after all.
            return
        if job.processes > 1:
            _launch(job, progress.path)
            return

        def report_progress(done: int, total: int, note: str) -> None:
            progress(done, total, note)
            on_progress(done, total, note)

        from understudy.pipeline.stages import run_stage

        run_stage(job.stage, job.recipe, job.folder, report_progress)


def _launch(job: Job, progress: Path) -> None:
    """Let a launcher start several processes that train together.

    Raises:
        RunError: one of them failed.
    """
    report = progress.with_suffix(".error")
    report.unlink(missing_ok=True)
    command = [*launcher(job.launcher, job.processes), "-m", "understudy.grid.worker"]
    stage = json.dumps(dataclasses.asdict(job.stage))
    arguments = [str(job.folder), stage, str(progress), str(report)]
    environment = {**os.environ, PARENT: str(os.getpid())}
    process = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, check=False)
    if report.is_file():
        failure = read_json(report)
        report.unlink()
        raise RunError(failure["error"], hint=failure["hint"])
    if process.returncode:
        last_line = (process.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise RunError(
            f"the {job.processes} processes of stage {job.stage.name} failed: {last_line}",
            hint="try `grid.processes=1`, or another grid.launcher",
        )


def launcher(text: str, processes: int) -> list[str]:
    """The launcher's command, with this Python's own torchrun and accelerate."""
    arguments = shlex.split(text.format(processes=processes))
    if arguments[:1] == ["torchrun"]:
        return [sys.executable, "-m", "torch.distributed.run", *arguments[1:]]
    if arguments[:2] == ["accelerate", "launch"]:
        return [sys.executable, "-m", "accelerate.commands.launch", *arguments[2:]]
    return arguments
