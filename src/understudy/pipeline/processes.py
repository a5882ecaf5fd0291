"""Processes that work on stages: forked from a server that has loaded torch once, and gone when their parent is gone.

This module loads no torch itself.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.forkserver
import multiprocessing.resource_tracker
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from understudy.errors import RunError, UnderstudyError

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note)."""


@dataclass(frozen=True)
class Worker:
    """A process at work on a stage, and the end of the pipe at which its messages arrive."""

    name: str
    process: Any
    channel: Any


def forkserver() -> Any:
    """The server that has loaded torch and forks the workers.

    Ctrl-C reaches every process of a terminal; this one and its children leave it to the parent, which ends them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["understudy.pipeline.preload"])
    # Started by itself first, for it unblocks the signal once it has started.
    multiprocessing.resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def start(context: Any, name: str, threads: int, body: Callable[..., None], *arguments: Any) -> Worker:
    """Start `body(*arguments, progress)` in a process of its own.

    Args:
        context: what `forkserver` gave.
        name: of the stage, for messages.
        threads: that torch may use there.
        body: a function of a module; its last argument is called with (done, total, note).
        arguments: its arguments, picklable.
    """
    receiver, sender = context.Pipe(duplex=False)
    # Packed here and unpacked where an error is sent home: a recipe runs its extensions as it arrives.
    packed = pickle.dumps((body, arguments))
    process = context.Process(target=_run_worker, args=(name, threads, packed, sender), name=name)
    process.start()
    # The parent's copy must be closed, or the pipe would not end with the worker.
    sender.close()
    return Worker(name, process, receiver)


def cores() -> int:
    """Cores this process may use; a thread count set from outside wins."""
    setting = os.environ.get("OMP_NUM_THREADS", "")
    if setting.isdecimal() and int(setting):
        return int(setting)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def receive(worker: Worker, progress: Progress) -> bool:
    """Take one message; true once the stage is done.

    Raises:
        RunError: the worker was killed from outside, most often for memory.
        Exception: whatever the stage failed with.
    """
    try:
        kind, value = worker.channel.recv()
    except (EOFError, OSError) as error:
        worker.process.join()
        raise RunError(
            f"the process of stage {worker.name} was killed (exit status {worker.process.exitcode})",
            hint="out of memory? try workers=1 or a smaller distil.micro_batch_size, then run the same again",
        ) from error
    if kind == "progress":
        progress(*value)
        return False
    worker.process.join()
    if kind == "failed":
        raise value
    return True


def end(workers: Iterable[Worker]) -> None:
    """End workers that are no longer wanted; what they had finished stays, and checkpoints go on from there."""
    workers = list(workers)
    for worker in workers:
        worker.process.terminate()
    for worker in workers:
        worker.process.join(timeout=5)
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


def _run_worker(name: str, threads: int, packed: bytes, channel: Any) -> None:
    """What a worker process runs."""
    import torch

    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
    torch.set_num_threads(threads)
    try:
        body, arguments = pickle.loads(packed)
        body(*arguments, lambda *progress: channel.send(("progress", progress)))
    except UnderstudyError as error:
        channel.send(("failed", error))
    except BaseException:
        channel.send(("failed", RuntimeError(f"stage {name} failed:\n{traceback.format_exc()}")))
    else:
        channel.send(("done", None))


def _die_with(parent: Any) -> None:
    """No orphan goes on computing, or holds files, after its parent was killed."""
    parent.join()
    os._exit(1)
