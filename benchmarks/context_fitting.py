"""What a run whose contexts are all too long spends on fitting them.

    python benchmarks/context_fitting.py XQUAD.json

The embedded pair takes a few steps on a file in SQuAD's layout with contexts far beyond `data.max_length`; all stages
run in this process. Prints CPU seconds (user and system) of the run, and those spent on fitting, as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from understudy.cli import main
from understudy.tokens.example_tokenizer import ExampleTokenizer

SETTINGS = [
    "data.format=squad",
    "data.max_length=256",
    "data.max_answer_tokens=24",
    "data.gold_share=0.5",
    "teacher.sft=null",
    "distil.steps=2",
    "distil.batch_size=8",
    "distil.eval_rows=4",
    "seqkd.keep_unfinished=true",
    "evaluate.arms=[sft,seqkd,distilled]",
    "evaluate.resamples=100",
    "device=cpu",
    "workers=1",
]


def measure(source: Path, folder: Path) -> dict[str, Any]:
    """One run in `folder`."""
    fit = ExampleTokenizer._fitted
    spent = {"calls": 0, "fitting": 0.0}

    def timed(self: ExampleTokenizer, *arguments: Any) -> Any:
        begin = time.process_time()
        try:
            return fit(self, *arguments)
        finally:
            spent["calls"] += 1
            spent["fitting"] += time.process_time() - begin

    ExampleTokenizer._fitted = timed
    sys.argv = ["understudy", "run", "telecom_qa", f"data.source={source.resolve()}", f"output={folder}", *SETTINGS]
    begin, wall = time.process_time(), time.perf_counter()
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise
    finally:
        ExampleTokenizer._fitted = fit
    records = (json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*/stages/train-*/done.json"))
    return {
        "calls": spent["calls"],
        "fitting_cpu_seconds": round(spent["fitting"], 1),
        "run_cpu_seconds": round(time.process_time() - begin, 1),
        "run_wall_seconds": round(time.perf_counter() - wall, 1),
        "training_seconds": round(sum(record["train_seconds"] for record in records), 1),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(Path(sys.argv[1]), Path(folder))))
