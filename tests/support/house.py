"""A folder with a question set, tiny models and a recipe, and the real command line in it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from support.tiny import FACTS
from understudy.files import read_jsonl

SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONWARNINGS": "default",
    "COLUMNS": "200",
}


def environment() -> dict[str, str]:
    """Of a real process: that of this moment, with the cache that the tests have for themselves."""
    return {**os.environ, **SETTINGS}


class House:
    """A folder with models, data and a recipe in it, and a way to call `understudy` there."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.folder = folder
        self.models = models
        self.recipe: dict[str, Any] = {
            "name": "tiny",
            "data": {"source": str(folder / "qa.jsonl"), "gold_share": 0.5, "max_length": 96, "max_answer_tokens": 12},
            "teacher": {"model": str(models / "teacher"), "sft": training(steps=6)},
            "student": {"model": str(models / "student")},
            "seqkd": {"keep_unfinished": True},
            "distil": training(steps=6),
            "evaluate": {"batch_size": 16, "resamples": 100},
            "output": str(folder / "runs"),
            "device": "cpu",
        }

    def write_data(self, rows: int = 60) -> None:
        """The facts, asked in several ways."""
        asked = [(f"{question} ({n})", answer) for n in range(rows // len(FACTS)) for question, answer in FACTS]
        lines = [json.dumps({"id": f"q{i}", "question": q, "answer": a}) for i, (q, a) in enumerate(asked)]
        (self.folder / "qa.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def write_recipe(self, name: str = "recipe.yaml") -> Path:
        """The recipe as YAML."""
        path = self.folder / name
        path.write_text(yaml.safe_dump(self.recipe), encoding="utf-8")
        return path

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen:
        """Start the command line in a process group of its own, as a terminal does.

        Whoever starts the tests in the background may have them ignore such signals; the command must not inherit that.
        """
        limit = options.pop("preexec_fn", None)

        def prepare() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            if limit is not None:
                limit()

        return subprocess.Popen(
            [sys.executable, "-m", "understudy", *arguments],
            cwd=self.folder,
            env=environment(),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=prepare,
            **options,
        )

    def call(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess:
        """Run the command line to its end."""
        limit = options.pop("timeout", 240)
        process = self.start(*arguments, **options)
        out, err = process.communicate(timeout=limit)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def launch(self, *command: str) -> subprocess.CompletedProcess:
        """Run a Python file or module, and its arguments, in two processes that train together."""
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        return subprocess.run(
            [sys.executable, *launcher, *command],
            cwd=self.folder,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, *overrides: str) -> Path:
        """Run the recipe to a good end and give the run folder."""
        done = self.call("run", str(self.write_recipe()), *overrides)
        assert done.returncode == 0, done.stderr
        return self.run_folder()

    def run_folder(self) -> Path:
        """The one run folder."""
        [folder] = (self.folder / "runs").iterdir()
        return folder


def training(steps: int) -> dict[str, Any]:
    """A stage of a few steps with checkpoints on the way."""
    return {
        "steps": steps,
        "batch_size": 8,
        "learning_rate": 0.01,
        "eval_every": 3,
        "eval_rows": 4,
        "save_every": 2,
    }


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


def answers(folder: Path) -> dict[str, list[tuple]]:
    """What every arm answered, without the time it took."""
    return {
        path.parent.name: [(row["id"], row["prediction"], row["tokens"]) for row in read_jsonl(path)]
        for path in sorted(folder.glob("stages/predict-*/predictions.jsonl"))
    }
