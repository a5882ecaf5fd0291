"""Write the tables of docs/results.md from the data beside them, or check that they are what the data say.

    python scripts/render_results.py            # writes them into the page
    python scripts/render_results.py --check    # exits with 1 and names the tables that differ

Above each table stands `<!-- table: FILE NAME -->`: the table NAME of docs/results/FILE. Most files hold their tables
as rows of figures and say of each column how it is printed; what is computed from a saved analysis is computed here.
"""

from __future__ import annotations

import argparse
import re
import string
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from study_tables import bundle_cells, bundle_tests, commonsense_cells, study_cells, study_findings
from summarise_seeds import ARMS, tables

from understudy.files import read_json

ROOT = Path(__file__).resolve().parents[1]
MARKED = re.compile(r"<!-- table: (?P<file>\S+) (?P<name>[^>]+) -->\n(?P<table>(?:\|.*\n)*)")
LINES = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
KINDS = {
    "phrasing": "phrasing",
    "context": "context",
    "two_step": "two-step",
    "choice": "choice, written answer",
}
"""Kinds of question and how the page calls them, in its order."""


def main() -> None:
    """Write or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a table differs")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results.md")
    parser.add_argument("--data", type=Path, default=ROOT / "docs" / "results", help="folder of the data")
    arguments = parser.parse_args()
    text = arguments.page.read_text(encoding="utf-8")
    faults = [f"no data: {table.splitlines()[0]}" for table in unmarked(text)]
    for match in MARKED.finditer(text):
        if rendered(arguments.data, match["file"], match["name"]) != match["table"]:
            faults.append(f"not what its data say: {match['file']} {match['name']}")
    if arguments.check:
        sys.exit("\n".join(faults) or 0)
    written = MARKED.sub(
        lambda match: (
            f"<!-- table: {match['file']} {match['name']} -->\n"
            + rendered(arguments.data, match["file"], match["name"])
        ),
        text,
    )
    arguments.page.write_text(written, encoding="utf-8")


def unmarked(text: str) -> list[str]:
    """The tables of a page that no comment names data for."""
    return LINES.findall(MARKED.sub("", text))


def rendered(folder: Path, file: str, name: str) -> str:
    """A table in Markdown, each line ended.

    Args:
        folder: where the data are.
        file: which.
        name: of the table in it.

    Raises:
        KeyError: the file has no such table.
    """
    document = read_json(folder / file)
    compute = COMPUTED.get(file)
    lines = stated(document["tables"][name]) if compute is None else compute(document, name)
    return "".join(f"{line}\n" for line in lines)


def stated(table: Mapping[str, Any]) -> list[str]:
    """A table whose rows of figures stand in the file.

    Each of `columns` has a title and the texts that a cell may be, the first whose fields the row has; without any it
    is empty. Figures are printed as Python's formats say, with a real minus sign.
    """
    columns: Sequence[Mapping[str, Any]] = table["columns"]
    rows = [[_cell(column["cell"], row) for column in columns] for row in table["rows"]]
    return markdown([column["title"] for column in columns], rows)


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table."""
    return [_line(titles), "|---" * len(titles) + "|", *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


class _Figures(string.Formatter):
    """Python's formats, with a real minus sign before figures."""

    def format_field(self, value: Any, format_spec: str) -> str:
        text = format(value, format_spec)
        return text if isinstance(value, str) else text.replace("-", "−")


def _cell(texts: Sequence[str], row: Mapping[str, Any]) -> str:
    for text in texts:
        if all(field in row for _, field, _, _ in string.Formatter().parse(text) if field):
            return _Figures().vformat(text, (), row)
    return ""


def seeds(runs: Sequence[Mapping[str, Any]], name: str) -> list[str]:
    """A table of runs with several seeds: one of `summarise_seeds`, or the means of all kinds of question."""
    texts = {title.split("**")[1]: text.splitlines() for title, text in tables(runs, "exact_match").items()}
    if name != "kinds":
        return texts[name]
    rows = []
    for kind, label in KINDS.items():
        means = texts[f"kind: {kind}"][-1].strip("| ").split(" | ")[1:]
        rows.append([label, *(mean.split(" ±")[0] for mean in means)])
    titles = {"base_student": "base student", "sft": "SFT-only", "kd_gold": "KD on gold only", "seqkd": "SeqKD"}
    return markdown(["kind", *(titles.get(arm, arm) for arm in ARMS)], rows)


CACHED = (
    *("topk, k = 16, 8 bits", "topk, k = 16, 16 bits", "topk, k = 50, 8 bits", "topk, k = 100, 8 bits"),
    *("sampled, 8 and 24 drawn", "sampled, 8 and 100 drawn", "raw top-k, k = 50, bfloat16"),
    *("DistillKit, budget", "ours", "DistillKit, recommended", "ours"),
)
"""Which targets of a cache the page shows; `ours` is made to be no larger than the one before it."""


def cached_targets(document: Mapping[str, Any], _: str) -> list[str]:
    """Targets of a cache, two models side by side."""
    titles, models, rows = ["target"], [], []
    for model in document["models"]:
        titles += ["bytes, Gemma 3" if "gemma" in model["model"] else "bytes, SmolLM2", "KL", "gradient"]
        places = {row["name"]: number for number, row in enumerate(model["rows"])}
        numbers: list[int] = []
        for name in CACHED:
            numbers.append(numbers[-1] + 1 if name == "ours" else places[name])
        models.append([model["rows"][number] for number in numbers])
    for name, *found in zip(CACHED, *models, strict=True):
        label = name
        if name == "ours":
            label = f"topk, k = {' and '.join(row['name'].rpartition('k = ')[2] for row in found)}, 8 bits"
        figures = [[str(row["bytes"]), f"{row['kl']:.3f}", f"{row['gradient']:.1%}"] for row in found]
        rows.append([label, *(text for texts in figures for text in texts)])
    return markdown(titles, rows)


TARGETS = {
    "live": "one teacher, asked in every step",
    "topk50": "cache, k = 50",
    "topk16": "cache, k = 16",
    "topk4": "cache, k = 4",
    "topk1": "cache, k = 1",
    "sampled": "cache, 4 likeliest and 12 drawn",
    "two_probabilities": "two teachers, mean of probabilities",
    "two_log_probabilities": "two teachers, mean of log-probabilities",
}
"""What the students of `teacher_targets.json` learned from, in the order of the page."""


def teacher_targets(document: Mapping[str, Any], _: str) -> list[str]:
    """Students by what they learned from, each beside those of the one live teacher."""
    cells = {cell["target"]: cell["metrics"] for cell in document["cells"]}
    tests = {test["level_a"]: test for test in document["tests"] if test["metric"] == "exact_match"}
    rows = []
    for name, label in TARGETS.items():
        means = [f"{100 * cells[name][m]['mean']:.1f} ± {100 * cells[name][m]['sd']:.1f}" for m in TEXT_METRICS]
        test = tests.get(name)
        beside = ["", ""]
        if test is not None:
            difference, low, high = (_signed(100 * test[key]) for key in ("difference", "low", "high"))
            beside = [f"{difference} [{low}, {high}]", f"{test['p_value']:.2g}"]
        rows.append([label, *means, *beside])
    titles = ["learned from", "exact match", "token F1", "ROUGE-L", "exact match against the first", "p, alone"]
    return markdown(titles, rows)


TEXT_METRICS = ("exact_match", "token_f1", "rougeL")


def _signed(figure: float) -> str:
    return f"{figure:+.1f}".replace("-", "−")


COMPUTED: Mapping[str, Callable[[Any, str], list[str]]] = {
    "telecom_qa_seeds.json": seeds,
    "cache_targets.json": cached_targets,
    "teacher_targets.json": teacher_targets,
    "telecom_study.json": lambda document, name: {"cells": study_cells, "findings": study_findings}[name](document),
    "commonsense_explain.json": lambda document, _: commonsense_cells(document),
    "bundle_study.json": lambda document, name: {"cells": bundle_cells, "tests": bundle_tests}[name](document),
}
"""Files of which the tables are computed."""


if __name__ == "__main__":
    main()
