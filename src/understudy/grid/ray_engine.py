"""The engine of a cluster: each job is a Ray task (extra `understudy-distil[ray]`).

Ray starts a task again when the process or the node that ran it is lost; it then goes on from the last checkpoint. All
nodes see the grid's folder, the data and the models under the same paths: a shared file system, whose locks work
across nodes.
"""

from __future__ import annotations

import logging
import socket
import traceback
from collections.abc import Sequence
from typing import Any

from understudy.distribution import install_command
from understudy.errors import ConfigError, RunError, UnderstudyError
from understudy.grid.jobs import Job, Outcome
from understudy.grid.run_job import run_job
from understudy.recipe import GridConfig


class RayEngine:
    """Hands every job to Ray as soon as it can start; Ray waits for the processors and GPUs that it needs."""

    capacity = 10_000

    def __init__(self, config: GridConfig) -> None:
        try:
            import ray  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ConfigError("grid.engine: ray is not installed", hint=install_command("ray")) from error
        self.ray: Any = ray
        self.owns_cluster = not ray.is_initialized()
        if self.owns_cluster:
            options: dict[str, Any] = {"include_dashboard": False} if config.address == "local" else {}
            try:
                _check_reachable(config.address)
                ray.init(address=config.address, log_to_driver=False, logging_level=logging.ERROR, **options)
            except OSError as error:
                raise ConfigError(
                    f"no Ray cluster answers at grid.address {config.address}",
                    hint="`ray start --head` starts one; grid.address=local makes one of this machine",
                ) from error
        self.threads = max(1, int(config.cpus) // config.processes)
        self.task = ray.remote(
            num_cpus=config.cpus,
            num_gpus=config.gpus,
            resources=config.resources,
            max_retries=config.retries,
        )(_ray_task)
        self.running: dict[Any, Job] = {}

    def submit(self, job: Job) -> None:
        """See `Engine`."""
        self.running[self.task.options(name=job.id).remote(job, self.threads)] = job

    def wait(self) -> Sequence[Outcome]:
        """See `Engine`."""
        if not self.running:
            return []
        ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=1.0)
        return [self._outcome(ref, self.running.pop(ref)) for ref in ready]

    def _outcome(self, ref: Any, job: Job) -> Outcome:
        try:
            return Outcome(job.id, self.ray.get(ref))
        except self.ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            lost = RunError(
                f"stage {job.stage.name} was lost on the cluster: {reason}",
                hint="out of memory, or nodes went away more often than grid.retries; run the same command again",
            )
            return Outcome(job.id, lost)

    def close(self) -> None:
        """See `Engine`."""
        for ref in self.running:
            self.ray.cancel(ref, force=True)
        self.running.clear()
        if self.owns_cluster:
            self.ray.shutdown()


def _check_reachable(address: str) -> None:
    """Refuse an address HOST:PORT where nothing listens; Ray itself would go on trying for minutes.

    Raises:
        OSError: nothing does.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdecimal() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=10).close()


def _ray_task(job: Job, threads: int) -> Exception | None:
    """The body of a task; what a stage fails with comes back as a value, for only what is lost is tried again."""
    import torch

    torch.set_num_threads(threads)
    try:
        run_job(job, lambda *_: None)
    except UnderstudyError as error:
        return error
    except Exception:
        return RuntimeError(f"stage {job.stage.name} failed:\n{traceback.format_exc()}")
    return None
