"""What a launcher starts several of: `python -m …grid.worker FOLDER STAGE PROGRESS ERROR`.

All processes train one stage together; the first keeps the folder, says how far it is, and writes down why it failed.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from understudy.errors import UnderstudyError
from understudy.files import write_json
from understudy.grid.folder import ProgressFile
from understudy.grid.run_job import PARENT
from understudy.pipeline.stage import Stage
from understudy.run import Run


def main() -> None:
    """Run the stage; exit status 1 where it failed."""
    folder, stage_json, progress, report = sys.argv[1:]
    stage = stage_from_json(json.loads(stage_json))
    threading.Thread(target=_end_with, args=(int(os.environ[PARENT]),), daemon=True).start()
    import torch
    from accelerate import PartialState

    from understudy.pipeline.stages import run_stage

    run = Run(Path(folder))
    recipe = run.recipe
    state = PartialState(cpu=recipe.device == "cpu" or not torch.cuda.is_available())
    is_first = state.is_main_process
    report_progress = ProgressFile(Path(progress)) if is_first else lambda *_: None
    try:
        run_stage(stage, recipe, run.folder, report_progress, first=is_first)
    except UnderstudyError as error:
        if is_first:
            write_json(report, {"error": error.message, "hint": error.hint})
        sys.exit(1)
    state.wait_for_everyone()
    state.destroy_process_group()


def stage_from_json(value: dict[str, Any]) -> Stage:
    """The stage that a job wrote down as JSON."""
    return Stage(**{**value, "needs": tuple(value["needs"])})


def _end_with(parent: int) -> None:
    """No process goes on training for a job that is gone."""
    while True:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(1)
        time.sleep(1.0)


if __name__ == "__main__":
    main()
