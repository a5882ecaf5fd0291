"""Exports of model folders, each verified: tokens, answers, size, speed.

    python benchmarks/exports.py FOLDER... [--to onnx int8 gguf-f32 gguf-q8_0] [--keep docs/results/exports.json]

The questions are the held-out ones of the embedded telecom data, so any causal model can be asked; what it answers is
compared with itself alone. What was kept of other models stays in the file. Time it on a machine that does nothing
else.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from understudy.data.load import load_splits
from understudy.deployment.export import ExportOptions, ExportRecord, Student, export_student
from understudy.errors import UnderstudyError
from understudy.files import write_json
from understudy.models.load import load_example_tokenizer, load_model
from understudy.recipe import DataConfig, EvaluateConfig, ModelConfig

DATA = DataConfig(source="embedded:telecom", max_length=256, max_answer_tokens=24)
EVALUATE = EvaluateConfig(metrics=("exact_match", "token_f1", "rougeL", "chrf"), resamples=2000)
SHOWN = "chrf"
"""The metric whose difference is shown; on models that know nothing of the subject the others say nothing."""


def student_at(folder: str) -> Student:
    config = ModelConfig(model=folder, dtype="float32")
    model = load_model(config, torch.device("cpu"))
    return Student(model, load_example_tokenizer(config, DATA), Path(folder), load_splits(DATA).test, EVALUATE)


def row_of(model: str, form: str, record: ExportRecord | None, refusal: str = "") -> dict[str, Any]:
    """An export as a row of the table."""
    row: dict[str, Any] = {"model": model, "format": form}
    if record is None:
        return row | {"refusal": refusal.split(";")[0]}
    answers, shown = record.answers, record.answers.metrics.get(SHOWN)
    row |= {"prompts": record.tokens[-1].equal, "rows": answers.rows, "equal": answers.equal, "ties": answers.ties}
    row |= {"parted": answers.parted, "mb": record.bytes / 1e6, "share": record.bytes / record.original_bytes}
    row |= {"speed": record.speed.ratio, "tokens": record.speed.tokens_per_second, "engine": record.speed.engine}
    if answers.max_logit_difference is not None:
        row["logits"] = answers.max_logit_difference
    if shown is not None and not record.exact:
        row["difference"] = shown.difference
        row |= {"low": shown.low, "high": shown.high} if shown.low is not None else {}
    return row


def table(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The rows as the table of docs/results.md."""
    columns = (
        ("model", ["{model}"]),
        ("format", ["{format}"]),
        ("prompts of the same tokens", ["{prompts:,}", "{refusal}"]),
        ("answers equal", ["{equal} of {rows}", ""]),
        ("part at a tie", ["{ties}", ""]),
        ("part elsewhere", ["{parted}", ""]),
        ("logits within", ["{logits:.2g}", ""]),
        ("chrF against the original", ["{difference:+.1f} [{low:+.1f}, {high:+.1f}]", "{difference:+.1f}", ""]),
        ("MB", ["{mb:,.1f}", ""]),
        ("of the original", ["{share:.2f}", ""]),
        ("tokens a second", ["{tokens:,.0f}", ""]),
        ("times the original's", ["{speed:.2f} by {engine}", ""]),
    )
    return {"columns": [{"title": title, "cell": cell} for title, cell in columns], "rows": list(rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--to", nargs="+", default=["onnx", "int8", "gguf-f32", "gguf-q8_0"])
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write records and their table as JSON")
    asked = parser.parse_args()
    known = json.loads(asked.keep.read_text(encoding="utf-8")) if asked.keep and asked.keep.is_file() else {}
    records: dict[str, dict[str, Any]] = known.get("records", {}) if known.get("rows") == asked.rows else {}
    rows = [row for row in known.get("tables", {}).get("exports", {}).get("rows", []) if row["model"] in records]
    for folder in asked.folders:
        student, name = student_at(folder), Path(folder).resolve().name
        rows = [row for row in rows if row["model"] != name or row["format"] not in asked.to]
        for form in asked.to:
            to, _, precision = form.partition("-")
            options = ExportOptions(to, precision=precision or "f32", rows=asked.rows, max_drop=100)  # pyright: ignore
            with tempfile.TemporaryDirectory() as place:
                try:
                    record, _ = export_student(student, options, Path(place) / "export", arm=name)
                    kept, row = record.to_json(), row_of(name, form, record)
                    print(f"{name} {record.line}", flush=True)
                except UnderstudyError as error:
                    kept, row = {"refused": str(error)}, row_of(name, form, None, error.message)
                    print(f"{name} {form}: {error}", flush=True)
            records.setdefault(name, {})[form] = kept
            rows.append(row)
            if asked.keep:
                about = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "rows": asked.rows}
                made_by = "python benchmarks/exports.py FOLDER… --keep FILE"
                write_json(
                    asked.keep, {"made_by": made_by, **about, "records": records, "tables": {"exports": table(rows)}}
                )


if __name__ == "__main__":
    main()
