"""Rows to be classified out of documents in folders: each paragraph with the part that its document stands in.

FILE is JSONL with `path` and `text`; the label is the folder at `--depth` of the path. Rows carry `document`, so that
`data.group_by: document` keeps a document's paragraphs in one split.

python scripts/label_documents.py FILE --depth 3 --least 5 --out rows.jsonl
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from understudy.files import read_jsonl, write_jsonl

SHORTEST, LONGEST = 80, 1200


def folder_of(path: str, depth: int) -> str | None:
    """The folder at a depth of a path, counted from 0; None where the document does not lie so deep."""
    parts = path.split("/")[:-1]
    return parts[depth] if len(parts) > depth else None


def paragraphs(text: str) -> Iterator[str]:
    """Paragraphs of prose: of some length, without code and tables."""
    code = False
    for piece in text.split("\n\n"):
        if piece.count("```") % 2:
            code = not code
            continue
        plain = " ".join(piece.split())
        if not code and len(plain) >= SHORTEST and not plain.startswith(("```", "|", "<", "---", "{{")):
            yield plain[:LONGEST]


def rows(documents: list[dict[str, Any]], depth: int, least: int) -> list[dict[str, str]]:
    """Rows of all folders that hold at least so many documents."""
    labels = {document["path"]: folder_of(document["path"], depth) for document in documents}
    counts = Counter(label for label in labels.values() if label)
    made = []
    for document in documents:
        label = labels[document["path"]]
        if label and counts[label] >= least:
            made += [
                {"id": f"{document['path']}#{n}", "text": text, "label": label, "document": document["path"]}
                for n, text in enumerate(paragraphs(document["text"]))
            ]
    return made


def main() -> None:
    """Write the rows; print the labels as a recipe has them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("--depth", type=int, default=0)
    parser.add_argument("--least", type=int, default=5)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    made = rows(read_jsonl(options.source), options.depth, options.least)
    write_jsonl(options.out, made)
    counts = Counter(row["label"] for row in made)
    print(f"{len(made)} rows of {len({row['document'] for row in made})} documents: {dict(counts.most_common())}")
    print(f"data.labels='[{', '.join(sorted(counts))}]'")


if __name__ == "__main__":
    main()
