"""A question set with options, tiny models that learn to write about it, and recipes around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support import tiny_seq2seq
from support.tiny import llama, tokenizer
from understudy.pipeline.scheduler import execute
from understudy.pipeline.stage import Stage
from understudy.recipe import parse_recipe
from understudy.run import Run

SCRIPT = "<script>"
TEXTS = {"explain": "it fits", "critique": "too short", "revise": "nothing else does", "counterfactual": "may be"}
"""What people wrote about every question; a model of this size can learn that much."""
PROMPTS = {
    "system": "Say",
    "explain": "{{ answer }} W",
    "critique": "{{ rationale }} L",
    "revise": "{{ rationale }} {{ critique }} B",
    "counterfactual": "{{ question }} {{ answer }} S",
    "explain_blind": "{{ question }} T",
}


def train(steps: int = 2, **fields: Any) -> dict[str, Any]:
    """A stage of a few steps."""
    return {"steps": steps, "batch_size": 4, "learning_rate": 0.01, "eval_rows": 2, **fields}


def write_house(folder: Path, rows: int = 24) -> None:
    """Questions, demonstrations, prompts, and three models of one vocabulary."""
    words = tokenizer(300)
    for name, width in (("teacher", 32), ("student", 16)):
        words.save_pretrained(folder / name)
        llama(len(words), width=width).save_pretrained(folder / name)
    words = tiny_seq2seq.framed_bytes()
    words.save_pretrained(folder / "bart")
    tiny_seq2seq.model("bart", len(words)).save_pretrained(folder / "bart")
    lines = [
        {
            "id": f"q{n}",
            "question": f"After {n}{SCRIPT}?",
            "choices": [str(n + 1), "hat", f"{SCRIPT}2"],
            "answer": "hat",
        }
        for n in range(rows)
    ]
    write_lines(folder / "choices.jsonl", lines)
    shown: list[dict[str, Any]] = []
    for n in range(4):
        first = {"question": f"After {n}?", "choices": [str(n + 1), "hat"], "answers": [str(n + 1)]}
        for step, text in TEXTS.items():
            choice = {"choice": 1} if step == "counterfactual" else {}
            shown.append({"id": f"d{n}", "step": step, "text": text, **choice, **first})
    write_lines(folder / "shown.jsonl", shown)
    (folder / "prompts").mkdir()
    for name, text in PROMPTS.items():
        (folder / "prompts" / f"{name}.jinja").write_text(text, encoding="utf-8")


def write_lines(path: Path, rows: list[dict[str, Any]]) -> None:
    """A file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def recipe_of(folder: Path, **sections: Any) -> dict[str, Any]:
    """A recipe in which the own teacher is taught to write, and writes; sections are put in place of its own."""
    return {
        "name": "texts",
        "data": {
            "source": str(folder / "choices.jsonl"),
            "dev": 0.15,
            "test": 0.2,
            "max_length": 200,
            "max_answer_tokens": 64,
        },
        "teacher": {"model": str(folder / "teacher"), "sft": train(80, eval_every=9999)},
        "student": {"model": str(folder / "student")},
        "distil": train(),
        "generate": {
            "demonstrations": str(folder / "shown.jsonl"),
            "prompts": str(folder / "prompts"),
            "teach": True,
            "shots": 0,
            "max_tokens": dict.fromkeys(TEXTS, 24),
        },
        "tasks": {"kind": "multitask_counterfactual", "rationales": "revise"},
        "evaluate": {
            "arms": ["sft", "explained"],
            "batch_size": 8,
            "resamples": 100,
            "speed": False,
            "metrics": ["exact_match", "rougeL"],
        },
        "output": str(folder / "runs"),
        "device": "cpu",
        **sections,
    }


class Silent:
    """Shows nothing, and remembers which stages were done."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.past_the_end: set[str] = set()

    def say(self, text: str) -> None:
        """Nothing is shown."""

    def start(self, stage: Stage) -> None:
        """Nothing is shown."""

    def update(self, stage: Stage, done: int, total: int, note: str) -> None:
        """Only what would be wrong to show is kept."""
        if total and done > total:
            self.past_the_end.add(stage.name)

    def finish(self, stage: Stage, seconds: float) -> None:
        """A stage is done."""
        self.done.append(stage.name)


def run_recipe(value: dict[str, Any], *, until: str | None = None) -> tuple[Run, Silent]:
    """Run it here, to its end or to a stage."""
    recipe, display = parse_recipe(value), Silent()
    run = Run.of(recipe)
    with run.lock():
        run.prepare(recipe)
        execute(run, recipe, display, until=until)
    return run, display
