"""How many of a student's answer tokens have a partner among a teacher's, for every pair of tokenizers, as a table.

    python scripts/alignment_shares.py TOKENIZER… --source FILE [--format NAME] [--rows 300]
        [--keep docs/results/alignment_shares.json]

TOKENIZER is a folder with a `tokenizer.json` (`NAME=FOLDER` to call it otherwise). The answers of the file are
templated and tokenised as in a run. `ms` is the time to align one answer, tokenising left out.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from understudy.data.load import load_splits
from understudy.files import write_json
from understudy.recipe import DataConfig
from understudy.tokens.align import CrossTokenizer
from understudy.tokens.prompts import answer_text, messages
from understudy.tokens.template import Template
from understudy.types import Example

ENDS = ("</s>", "<|endoftext|>", "<|end|>", "[SEP]")
KINDS = {"equal spans": "exact", "MinED": "min_edit", "in groups": "groups"}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("tokenizers", nargs="+", help="folders with a tokenizer.json")
    parser.add_argument("--source", required=True, help="a file that understudy reads")
    parser.add_argument("--format", default="auto", help="its format (default: auto)")
    parser.add_argument("--rows", type=int, default=300, help="answers to align (default 300)")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the shares as the data of a table")
    arguments = parser.parse_args()
    texts = examples(arguments.source, arguments.format, arguments.rows)
    templates = dict(template(entry) for entry in arguments.tokenizers)
    print(f"{len(texts)} answers of {Path(arguments.source).name}, {words(texts):.0f} words each\n")
    print("| student ← teacher | tokens | shared ids | " + " | ".join(KINDS) + " | ms: equal, MinED, groups |")
    print("|---|---|---|" + "---|" * (len(KINDS) + 1))
    rows = []
    for ours in templates:
        for theirs in templates:
            if ours != theirs:
                rows.append(row(ours, theirs, templates[ours], templates[theirs], texts))
                print(line(rows[-1]), flush=True)
    if arguments.keep:
        keep(arguments.keep, rows)


def keep(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows as `render_results.py` reads them; times, which depend on the machine, are left out."""
    cells = {"student ← teacher": "{student} ← {teacher}", "tokens": "{tokens:.0f}"}
    cells |= {title: f"{{{title}:.1%}}" for title in ("shared ids", *KINDS)}
    columns = [{"title": title, "cell": [text]} for title, text in cells.items()]
    without_times = [{name: value for name, value in figures.items() if name != "ms"} for figures in rows]
    command = (
        "python scripts/alignment_shares.py gpt2 tinyllama pythia babyllama-char105 --source … --rows 300 --keep …"
    )
    write_json(path, {"made_by": command, "tables": {"shares": {"columns": columns, "rows": without_times}}})


def examples(source: str, form: str, rows: int) -> list[Example]:
    """Answered rows of a file, drawn with a fixed seed."""
    splits = load_splits(DataConfig(source=source, format=form, on_bad_row="quarantine"))
    found = [example for example in (*splits.train, *splits.dev, *splits.test) if example.labelled]
    return random.Random(0).sample(found, min(rows, len(found)))


def words(texts: list[Example]) -> float:
    """Mean length of an answer."""
    return float(np.mean([len(answer_text(example).split()) for example in texts]))


def template(entry: str) -> tuple[str, Template]:
    """A tokenizer by its name."""
    name, _, folder = entry.rpartition("=")
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(Path(folder) / "tokenizer.json"))
    if tokenizer.eos_token is None:
        tokenizer.eos_token = next(end for end in ENDS if end in tokenizer.get_vocab())
    return name or Path(folder).name, Template(tokenizer)


def row(ours: str, theirs: str, student: Template, teacher: Template, texts: list[Example]) -> dict[str, Any]:
    """The figures of one line of the table."""
    encoded = []
    for example in texts:
        sides = [side.encode(messages(example), answer_text(example), token_ends=True) for side in (student, teacher)]
        encoded.append((*sides, answer_text(example)))
    tokens = sum(len(mine.answer_ids) for mine, _, _ in encoded)
    shares, times, shared = {}, [], 0.0
    for title, kind in KINDS.items():
        cross_tokenizer = CrossTokenizer.between(kind, student, teacher)
        shared = float((cross_tokenizer.vocabulary.exact >= 0).mean())
        begin = time.perf_counter()
        found = [cross_tokenizer.align(*one) for one in encoded]
        times.append((time.perf_counter() - begin) / len(encoded) * 1e3)
        held = [x.student_groups if kind == "groups" else x.partners for x in found]
        shares[title] = sum(int((x >= 0).sum()) for x in held) / tokens
    figures = {"student": ours, "teacher": theirs, "tokens": tokens / len(texts), "shared ids": shared}
    return {**figures, **shares, "ms": times}


def line(figures: Mapping[str, Any]) -> str:
    """One line of the table."""
    columns = [f"{figures['student']} ← {figures['teacher']}", f"{figures['tokens']:.0f}"]
    columns += [f"{figures[title]:.1%}" for title in ("shared ids", *KINDS)]
    return "| " + " | ".join([*columns, ", ".join(f"{ms:.2f}" for ms in figures["ms"])]) + " |"


if __name__ == "__main__":
    main()
