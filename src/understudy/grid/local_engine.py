"""The engine of one machine: each job in a process forked from a server that has loaded torch once.

A process of its own even where only one job runs at a time: a stage that is killed for memory then costs its cell, not
the grid.
"""

from __future__ import annotations

import multiprocessing.connection
from collections.abc import Sequence
from typing import Any

from understudy.grid.jobs import Job, JobProgress, Outcome
from understudy.grid.run_job import run_job
from understudy.pipeline import processes


class LocalEngine:
    """Runs up to `workers` jobs at once, the cores shared out among them."""

    def __init__(self, workers: int, on_progress: JobProgress) -> None:
        self.capacity = workers
        self.on_progress = on_progress
        self.context = processes.forkserver()
        self.running: dict[Any, tuple[Job, processes.Worker]] = {}

    def submit(self, job: Job) -> None:
        """See `Engine`."""
        share = 1 if job.exclusive else self.capacity * job.processes
        worker = processes.start(self.context, job.stage.name, max(1, processes.cores() // share), run_job, job)
        self.running[worker.channel] = job, worker

    def wait(self) -> Sequence[Outcome]:
        """See `Engine`."""
        ended = []
        for channel in multiprocessing.connection.wait(list(self.running), timeout=1.0):
            job, worker = self.running[channel]
            try:
                if not processes.receive(worker, lambda *progress, id=job.id: self.on_progress(id, *progress)):
                    continue
                ended.append(Outcome(job.id))
            except Exception as error:
                ended.append(Outcome(job.id, error))
            del self.running[channel]
        return ended

    def close(self) -> None:
        """See `Engine`."""
        processes.end(worker for _, worker in self.running.values())
        self.running.clear()
