"""A run that is killed, interrupted, or meets another: nothing is lost, nobody is left behind."""

from __future__ import annotations

import functools
import glob
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from test_run_whole import answers

from support.house import House, environment


def markers(house: House) -> int:
    """How many stages and checkpoints are finished so far."""
    return len(found(house, "runs/*/stages/*/done.json") + found(house, "**/complete.json"))


def found(house: House, pattern: str) -> list[str]:
    """Files of a run at work; `glob.glob`, unlike `Path.rglob`, minds no folder that goes away while it looks."""
    return glob.glob(pattern, root_dir=house.folder, recursive=True)


def until(condition: Callable[[], bool], process: subprocess.Popen, seconds: float = 120) -> bool:
    """Wait until something is so; false if the process ended before."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    raise AssertionError("waited in vain")


def members(group: int) -> list[int]:
    """Processes of a group that still run (zombies are gone, for our purpose)."""
    names = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of_group = stat.read_text().rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of_group) == group and state not in "ZX":
            names.append(int(stat.parent.name))
    return names


def left_over(group: int, seconds: float = 120) -> list[int]:
    """Processes of a group that do not end by themselves; on a busy machine they take a moment."""
    end = time.monotonic() + seconds
    while members(group) and time.monotonic() < end:
        time.sleep(0.05)
    return members(group)


def close(process: subprocess.Popen) -> str:
    _, err = process.communicate(timeout=120)
    return err


def endless(house: House) -> tuple[str, ...]:
    """A run that gets to training at once and stays there."""
    house.recipe["evaluate"] |= {"arms": ["sft", "distilled"]}
    house.recipe["teacher"]["sft"] = None
    return ("run", str(house.write_recipe()), "distil.steps=100000", "distil.eval_every=99999")


def training(house: House) -> Callable[[], bool]:
    """Whether an arm has a checkpoint behind it."""
    return lambda: bool(found(house, "**/train-*/training/checkpoint-*/complete.json"))


@pytest.mark.parametrize(
    ("workers", "times"),
    [(2, 2), pytest.param(1, 4, marks=pytest.mark.slow), pytest.param(3, 5, marks=pytest.mark.slow)],
)
def test_going_on_after_kills_gives_what_an_unbroken_run_gives(
    house: House, finished: House, workers: int, times: int
) -> None:
    moment = random.Random(workers)
    house.recipe["evaluate"] |= {"arms": ["sft", "distilled"]}
    recipe = str(house.write_recipe())
    kills = 0
    for _ in range(times):
        seen = markers(house)
        process = house.start("run", recipe, f"workers={workers}")
        more = moment.randint(1, 4)
        if until(lambda seen=seen, more=more: markers(house) >= seen + more, process):
            time.sleep(moment.random() * 0.3)
            kills += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
        close(process)
    assert kills > 0
    done = house.call("run", recipe, f"workers={workers}")
    assert done.returncode == 0, done.stderr
    unbroken = answers(finished.run_folder())
    ours = answers(house.run_folder())
    assert ours == {arm: unbroken[arm] for arm in ours}
    assert any(text for rows in ours.values() for _, text, _ in rows)
    assert not list(house.run_folder().rglob("*.part"))


def test_no_worker_outlives_a_parent_that_is_killed(house: House) -> None:
    process = house.start(*endless(house), "workers=2")
    assert until(training(house), process)
    group = process.pid
    assert len(members(group)) >= 3
    process.kill()
    close(process)
    assert left_over(group) == []


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_everybody_in_one_line(house: House, workers: int) -> None:
    process = house.start(*endless(house), f"workers={workers}")
    assert until(training(house), process)
    os.killpg(process.pid, signal.SIGINT)
    err = close(process)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1] == "interrupted; run the same command again and it goes on from here"
    assert left_over(process.pid) == []
    assert training(house)()


@pytest.mark.parametrize(("name", "ignored"), [("SIGTERM", "SIGHUP"), ("SIGHUP", None)])
def test_kill_and_a_closed_terminal_end_everybody_in_one_line(house: House, name: str, ignored: str | None) -> None:
    """What was to be ignored stays ignored, as `nohup` starts a command."""
    ignore = functools.partial(signal.signal, getattr(signal, ignored), signal.SIG_IGN) if ignored else None
    process = house.start(*endless(house), "workers=2", preexec_fn=ignore)
    assert until(training(house), process)
    if ignored:
        os.kill(process.pid, getattr(signal, ignored))
        time.sleep(0.5)
        assert process.poll() is None
    os.kill(process.pid, getattr(signal, name))
    err = close(process)
    assert process.returncode == 128 + getattr(signal, name), err
    assert "Traceback" not in err
    assert err.strip().splitlines()[-1] == f"stopped by {name}; run the same command again and it goes on from here"
    assert left_over(process.pid) == []


# Every signal at the module that is loaded first and at the one that takes longest; the others differ in nothing else.
MODULES = ("typer", "understudy.arms", "yaml", "pydantic", "understudy.run", "torch")
AT_LOADING = [
    pytest.param(module, name, marks=() if name == "SIGINT" or module in (MODULES[0], "torch") else pytest.mark.slow)
    for module in MODULES
    for name in ("SIGINT", "SIGTERM", "SIGHUP")
]


@pytest.mark.parametrize(("module", "name"), AT_LOADING)
def test_a_signal_while_modules_are_being_loaded_ends_in_one_line(house: House, module: str, name: str) -> None:
    """The signal comes exactly when the module is asked for."""
    hook = f"""
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.{name})

sys.meta_path.insert(0, Finder())
signal.signal(signal.{name}, signal.SIG_DFL)
from understudy.__main__ import main
main()
"""
    command = [sys.executable, "-c", hook, "run", str(house.write_recipe())]
    done = subprocess.run(command, cwd=house.folder, env=environment(), capture_output=True, text=True, timeout=120)
    assert done.returncode == 128 + getattr(signal, name), done.stderr
    assert "Traceback" not in done.stderr
    what = "interrupted" if name == "SIGINT" else f"stopped by {name}"
    assert done.stderr.strip().splitlines()[-1] == f"{what}; run the same command again and it goes on from here"


def test_ctrl_c_while_the_workers_are_still_loading(house: House) -> None:
    process = house.start(*endless(house), "workers=2")
    assert until(lambda: (house.folder / "runs").exists(), process)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    err = close(process)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert left_over(process.pid) == []
    # Nothing was done yet, so nothing is left behind.
    assert not (house.folder / "runs").exists()


def test_a_second_process_is_refused_and_a_dead_worker_reported(house: House, command) -> None:
    arguments = (*endless(house), "workers=2")
    process = house.start(*arguments)
    assert until(training(house), process)

    second = command(*arguments)
    assert second.code == 1
    assert second.err.count("error: ") == 1
    assert f"error: another process is working on {house.run_folder()}\n" in second.err

    workers = [pid for pid in members(process.pid) if b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    server = min(workers)
    os.kill(next(pid for pid in workers if pid != server), signal.SIGKILL)
    err = close(process)
    assert process.returncode == 1, err
    assert "Traceback" not in err
    [error] = [line for line in err.splitlines() if line.startswith("error: ")]
    assert re.fullmatch(r"error: the process of stage \S+ was killed \(exit status -?\d+\)", error), error
    assert "hint: out of memory?" in err
    assert left_over(process.pid) == []
