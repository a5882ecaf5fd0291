"""What a distillation step of an encoder costs: beside its parts, and with the teacher's logits from disk.

A step by the trainer's own parts – collated rows, teacher's signal, student, objective, backward – is set against (a)
the teacher's forward plus the student's forward and backward with cross-entropy, and (b) the latter alone, for a
teacher that is read from a cache. Targets: 1.15 × (a) live, 1.05 × (b) cached. Steps of all four take
turns, so that a slow spell of the machine hits all alike; figures are medians.

python benchmarks/encoder_step.py [--steps 20] [--threads 1] [--out encoder_step.json]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertForMultipleChoice

from understudy import build
from understudy.files import write_json
from understudy.models.kinds import KINDS
from understudy.models.load import load_template
from understudy.recipe import DataConfig, ModelConfig, parse_recipe
from understudy.teachers.cache.cached import CachedTeacher
from understudy.teachers.cache.formats import CandidatesFormat
from understudy.teachers.cache.identity import write_identity
from understudy.teachers.cache.write import fill, rows_to_read
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import Collator, encode_rows
from understudy.training.module import DistillationModule
from understudy.types import Example

ROWS, OPTIONS, WORDS = 16, 4, 24


def examples() -> list[Example]:
    """Questions of so many words with four options."""
    words = [
        "the",
        "access",
        "and",
        "mobility",
        "function",
        "selects",
        "a",
        "session",
        "anchor",
        "for",
        "each",
        "user",
        "plane",
        "path",
        "in",
        "the",
        "core",
    ]
    question = " ".join(words[n % len(words)] for n in range(WORDS))
    options = [f"option {place} {' '.join(words[place : place + 6])}" for place in range(OPTIONS)]
    return [
        Example(f"row-{n}", f"{question} {n}", (options[n % OPTIONS],), choices=tuple(options)) for n in range(ROWS)
    ]


def bert(vocabulary: int, layers: int) -> Any:
    """Of MiniLM's width."""
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=384,
        num_hidden_layers=layers,
        num_attention_heads=12,
        intermediate_size=1536,
        architectures=["BertForMultipleChoice"],
    )
    return BertForMultipleChoice(config)


def timed(steps: int, works: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Median seconds of each, taking turns; the first turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for step in range(steps + 1):
        for name, work in works.items():
            begin = time.perf_counter()
            work()
            if step:
                seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    config = ModelConfig(model="embedded:telecom-encoder", kind="choice")
    reader = KINDS["choice"].example_tokenizer(load_template(config), DataConfig(max_length=128))
    tokenizer: Any = reader.template.tokenizer
    rows = encode_rows(examples(), reader, reader)
    student, teacher = bert(len(tokenizer), 3), LocalTeacher(bert(len(tokenizer), 6))
    recipe = parse_recipe({"distil": {"method": "kd", "loss_temperature": 2}})
    distilling = DistillationModule(student, build.objective(recipe.distil, student, teacher.model))
    plain = DistillationModule(student, build.gold_objective())
    pads = tokenizer.pad_token_id, tokenizer.pad_token_id
    with tempfile.TemporaryDirectory() as folder:
        targets = CandidatesFormat(16, (1.0,))
        write_identity(Path(folder), targets, {})
        fill(Path(folder), targets, teacher, rows_to_read(rows, pads[0]), pads[0], torch.device("cpu"), lambda *_: None)
        cached = CachedTeacher(Path(folder), targets, 2.0)

        def step(module: DistillationModule, source: Any = None) -> None:
            batch = Collator(*pads)(rows)
            signal = source.signal(batch) if source else None
            (module(batch, signal).total / ROWS).backward()
            module.zero_grad(set_to_none=True)

        seconds = timed(
            options.steps,
            {
                "teacher forward": lambda: teacher.signal(Collator(*pads)(rows)),
                "plain step": lambda: step(plain),
                "distillation step": lambda: step(distilling, teacher),
                "cached step": lambda: step(distilling, cached),
            },
        )
    figures = {
        "seconds": seconds,
        "live over its parts": seconds["distillation step"] / (seconds["teacher forward"] + seconds["plain step"]),
        "cached over plain": seconds["cached step"] / seconds["plain step"],
        "rows": ROWS,
        "options": OPTIONS,
        "tokens of the longest row": max(len(row.student.ids) for row in rows),
        "threads": options.threads,
        "steps": options.steps,
        "torch": torch.__version__,
    }
    for name, value in figures.items():
        print(f"{name}: {value}")
    if options.out:
        write_json(options.out, figures)


if __name__ == "__main__":
    main()
