"""Context distillation on the embedded data: what is shared by all rows carries over, what is one row's own does not.

    python scripts/context_study.py --keep docs/results/context_study.json     # runs what is missing, prints the table
    python scripts/context_study.py docs/results/context_study.json            # prints it from the file

Every question comes with an instruction as its context: answer in a word, or in a sentence. The teacher reads it, the
student `removed` does not, the student `kept` does; both learn what the teacher says of the same questions, and are
asked about the same facts in held-out wordings.

    shared        one instruction for all rows: a rule that a student can make its own
    particular    drawn for each row: without it nothing tells which it was

    larger        the embedded teacher, fine-tuned to follow both instructions, and the embedded student as it comes
    itself        the embedded student, fine-tuned to follow both, teaches itself (`teacher.from_student`)

An answer is right if it says the right thing in the form that was asked for; `form` counts the latter alone.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from paired_seeds import COLUMNS, compared, groups, item_scores
from render_results import stated

import understudy
from understudy.data.embedded.telecom import Fact, core_facts, load_relations
from understudy.files import read_json, write_json
from understudy.run import Run

TOLD = {"short": "Answer in a word or a name.", "sentence": "Answer in a sentence."}
CASES, TEACHERS = ("shared", "particular"), ("larger", "itself")
WORDINGS = {"train": (0, 2, 4, 5), "dev": (6,), "test": (7, 8)}
NUM_GOLD = 8
"""Labelled rows of a run, which needs some."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help="figures that --keep wrote; nothing is run")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the figures as JSON")
    parser.add_argument("--folder", type=Path, default=Path("runs/context-study"), help="where data and runs go")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=300, help="optimiser steps of each student")
    parser.add_argument("--told-steps", type=int, default=800, help="of learning to follow the instructions")
    parser.add_argument("--facts", type=int, help="so many facts alone, for a trial")
    options = parser.parse_args()
    document = read_json(options.file) if options.file else study(options)
    if options.keep:
        write_json(options.keep, document)
    print("\n".join(stated(document["tables"]["arms"])))


def study(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is missing, and set the arms side by side."""
    folder = options.folder.resolve()
    facts = core_facts()[: options.facts]
    for case in ("both", *CASES):
        write_rows(folder, case, facts)
    told = {name: told_model(folder, name, options) for name in ("teacher", "student")}
    rows = []
    for teacher in TEACHERS:
        for case in CASES:
            runs = [distilled(folder, case, teacher, told, seed, options) for seed in range(options.seeds)]
            rows += figures(runs, f"{case}, {teacher}")
    form = {"title": "form, %", "cell": ["{form:.0f}"]}
    table = {"columns": [*COLUMNS[:2], form, *COLUMNS[2:]], "rows": rows}
    made_by = f"python scripts/context_study.py --seeds {options.seeds} --steps {options.steps}"
    return {"made_by": made_by, "tables": {"arms": table}}


# -- data ------------------------------------------------------------------------------------------------------------


def write_rows(folder: Path, case: str, facts: Sequence[Fact]) -> None:
    """A file for each role; `train` has its answers in `both` alone, where the instructions themselves are learned."""
    for role, wordings in WORDINGS.items():
        rows = list(rows_of(case, role, facts, wordings))
        labelled = rows if role != "train" or case == "both" else rows[:NUM_GOLD]
        _write(folder / case / f"{role}.jsonl", labelled)
        if len(labelled) < len(rows):
            asked = ({k: v for k, v in row.items() if k != "answer"} for row in rows[NUM_GOLD:])
            _write(folder / case / "unlabelled.jsonl", list(asked))


def rows_of(case: str, role: str, facts: Sequence[Fact], wordings: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Each fact in each wording, in a drawn order."""
    pairs = [(fact, wording) for fact in facts for wording in wordings]
    random.Random(f"{case}:{role}").shuffle(pairs)
    for fact, wording in pairs:
        name = f"{case}:{role}:{wording}:{fact.id}"
        form = "sentence" if case == "shared" else random.Random(name).choice(sorted(TOLD))
        relation = load_relations()[fact.relation]
        sentence = relation.statements[0].format(subject=fact.subject, answer=fact.answer)
        yield {
            "id": name,
            "question": relation.questions[wording].format(subject=fact.subject),
            "context": TOLD[form],
            "answer": sentence if form == "sentence" else fact.answer,
            "fact": fact.id,
            "form": form,
            "subject": fact.subject,
        }


def _write(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


# -- runs ------------------------------------------------------------------------------------------------------------


def recipe_of(folder: Path, case: str, name: str, **sections: Any) -> dict[str, Any]:
    """What all runs have in common."""
    data = {
        "source": str(folder / case / "train.jsonl"),
        "dev_source": str(folder / case / "dev.jsonl"),
        "test_source": str(folder / case / "test.jsonl"),
        # The instruction is no group, though it stands where contexts do.
        "group_by": "none",
        "max_length": 160,
        "max_answer_tokens": 64,
    }
    return {
        "name": name,
        "data": data | sections.pop("data", {}),
        "evaluate": {"metrics": ["exact_match"], "batch_size": 128, "speed": False} | sections.pop("evaluate"),
        "output": str(folder / "runs"),
        **sections,
    }


def training(steps: int, rate: float) -> dict[str, Any]:
    """A stage."""
    return {"steps": steps, "batch_size": 32, "micro_batch_size": 16, "learning_rate": rate, "eval_rows": 100}


def told_model(folder: Path, name: str, options: argparse.Namespace) -> str:
    """The folder of an embedded model that has learned to follow both instructions."""
    recipe = recipe_of(
        folder,
        "both",
        f"told-{name}",
        teacher=None,
        student={"model": f"embedded:telecom-{name}"},
        distil=training(options.told_steps, 1e-3),
        evaluate={"arms": ["sft"]},
    )
    return str(understudy.distil(recipe).stage("train-sft") / "model")


def distilled(
    folder: Path, case: str, teacher: str, told: dict[str, str], seed: int, options: argparse.Namespace
) -> Run:
    """Both students of one seed."""
    itself = teacher == "itself"
    recipe = recipe_of(
        folder,
        case,
        f"{case}-{teacher}-{seed}",
        seed=seed,
        data={"unlabelled_source": str(folder / case / "unlabelled.jsonl")},
        teacher={"from_student": True} if itself else {"model": told["teacher"]},
        student={"model": told["student"] if itself else "embedded:telecom-student", "context": False},
        distil=training(options.steps, 1e-3) | {"method": "kd"},
        arms={"kept": {"student.context": True}},
        evaluate={"arms": ["distilled", "kept"]},
    )
    return understudy.distil(recipe)


def figures(runs: Sequence[Run], what: str) -> list[dict[str, Any]]:
    """A row an arm: the teacher, the student before training, and both students."""
    names = {"teacher": "teacher", "base_student": "before", "kept": "kept", "distilled": "removed"}
    scores = {names[arm]: [item_scores(run, arm) for run in runs] for arm in names}
    pairs = [("removed", "kept"), ("kept", "teacher")]
    rows = compared(scores, groups(runs[0], "kept"), pairs)
    for row, arm in zip(rows, names, strict=True):
        row["form"] = 100 * sum(form_share(run, arm) for run in runs) / len(runs)
        row["arm"] = f"{what}: {row['arm']}"
    return rows


def form_share(run: Run, arm: str) -> float:
    """How often an answer has the form that was asked for: a sentence speaks of its subject."""
    rows = {row.id: row for row in run.predictions(arm)}
    told = {row["id"]: row for row in map(json.loads, _test_lines(run))}
    right = [
        (told[name]["subject"].lower() in (row.prediction or "").lower()) == (told[name]["form"] == "sentence")
        for name, row in rows.items()
    ]
    return sum(right) / len(right)


def _test_lines(run: Run) -> list[str]:
    return Path(run.recipe.data.test_source or "").read_text(encoding="utf-8").splitlines()


if __name__ == "__main__":
    main()
