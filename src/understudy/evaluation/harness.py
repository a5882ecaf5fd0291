"""Public benchmarks for a student: tasks of lm-eval, with an extra (`lm-eval`).

The harness loads the model, downloads the task's data from the hub and scores by its own rules; here its figures are
only gathered. Its own comparator of two models is unpaired: compare with `log_samples` files through
`understudy compare` instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from understudy.distribution import install_command
from understudy.errors import ConfigError, DataError, listed
from understudy.records.base import Record


@dataclass(frozen=True)
class TaskFigure(Record):
    """One metric on one task.

    Attributes:
        value: as lm-eval gives it.
        standard_error: None where it gives none.
    """

    value: float
    standard_error: float | None


@dataclass(frozen=True)
class TaskResults(Record):
    """Figures of lm-eval; `to_json` is what `lm_eval.json` holds.

    Attributes:
        model: the folder of the model.
        limit: items a task; None for all.
        version: of lm-eval.
        tasks: task -> metric -> figure.
    """

    model: str
    limit: int | None
    version: str
    tasks: Mapping[str, Mapping[str, TaskFigure]]


def run_tasks(
    folder: Path, tasks: Sequence[str], *, limit: int | None = None, batch_size: int = 8, device: str | None = None
) -> TaskResults:
    """Run lm-eval tasks on a student folder.

    Args:
        folder: a folder with a model and its tokenizer, or a run whose student is taken.
        tasks: names of tasks, as `lm_eval ls tasks` lists them.
        limit: items a task, for a quick try.
        batch_size: rows at once.
        device: where to run; default: a GPU where there is one (lm-eval itself would insist on one).

    Raises:
        ConfigError: lm-eval is not installed, no student at `folder`, or a task that it does not know.
        DataError: the data of a task cannot be had.
    """
    folder = folder / "student" if (folder / "recipe.yaml").is_file() else folder
    if not (folder / "config.json").is_file():
        raise ConfigError(f"{folder} holds no model", hint="give the `student` folder of a run, or any model folder")
    try:
        lm_eval = import_module("lm_eval")
    except ImportError as error:
        raise ConfigError("lm-eval is not installed", hint=install_command("lm-eval")) from error
    from understudy.models.load import pick_device

    try:
        results = lm_eval.simple_evaluate(
            model="hf",
            model_args={"pretrained": str(folder)},
            tasks=list(tasks),
            limit=limit,
            batch_size=batch_size,
            device=device or str(pick_device("auto")),
        )
    except KeyError as error:
        reason = error.args[0] if error.args else "unknown task"
        raise ConfigError(f"lm-eval: {reason}", hint="`lm_eval ls tasks` lists the tasks") from error
    except (ConnectionError, FileNotFoundError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"lm-eval could not run {listed(tasks)}: {reason}") from error
    version = getattr(lm_eval, "__version__", "")
    return TaskResults(str(folder), limit, version, task_figures((results or {}).get("results", {})))


def task_figures(results: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, TaskFigure]]:
    """Task -> metric -> value and standard error, out of lm-eval's `acc,none` and `acc_stderr,none`."""
    table: dict[str, dict[str, TaskFigure]] = {}
    for task, figures in results.items():
        for key, value in figures.items():
            name, comma, rule = key.partition(",")
            if not comma or name.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = figures.get(f"{name}_stderr,{rule}")
            label = name if rule == "none" else f"{name} ({rule})"
            standard_error = float(error) if isinstance(error, int | float) else None
            table.setdefault(task, {})[label] = TaskFigure(float(value), standard_error)
    return table
