"""Exports of model folders, each verified: tokens, answers, size, speed.

    python benchmarks/exports.py FOLDER... [--to onnx int8 gguf-f32 gguf-q8_0] [--rows 100] [--out exports.json]

The questions are the held-out ones of the embedded telecom data, so any causal model can be asked; what it answers is
compared with itself alone. Time it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import torch

from understudy.data.load import load_splits
from understudy.deployment.export import ExportOptions, Student, export_student
from understudy.errors import UnderstudyError
from understudy.files import write_json
from understudy.models.load import load_example_tokenizer, load_model
from understudy.recipe import DataConfig, EvaluateConfig, ModelConfig

DATA = DataConfig(source="embedded:telecom", max_length=256, max_answer_tokens=24)
EVALUATE = EvaluateConfig(metrics=("exact_match", "token_f1", "rougeL", "chrf"), resamples=2000)


def student_at(folder: str) -> Student:
    config = ModelConfig(model=folder, dtype="float32")
    model = load_model(config, torch.device("cpu"))
    return Student(model, load_example_tokenizer(config, DATA), Path(folder), load_splits(DATA).test, EVALUATE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--to", nargs="+", default=["onnx", "int8", "gguf-f32", "gguf-q8_0"])
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--out", type=Path, default=Path("exports.json"))
    asked = parser.parse_args()
    table: dict[str, dict] = {}
    for folder in asked.folders:
        student, name = student_at(folder), Path(folder).name
        for form in asked.to:
            to, _, precision = form.partition("-")
            options = ExportOptions(to, precision=precision or "f32", rows=asked.rows, max_drop=100)  # pyright: ignore
            with tempfile.TemporaryDirectory() as place:
                try:
                    record, _ = export_student(student, options, Path(place) / "export", arm=name)
                    table.setdefault(name, {})[form] = record.to_json()
                    print(f"{name} {record.line}", flush=True)
                except UnderstudyError as error:
                    table.setdefault(name, {})[form] = {"refused": str(error)}
                    print(f"{name} {form}: {error}", flush=True)
            write_json(asked.out, table)


if __name__ == "__main__":
    main()
