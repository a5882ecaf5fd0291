"""Write the counts of the embedded telecom set and the sizes of the embedded models into docs/embedded.md.

    python scripts/document_embedded.py          # between the two markers of the page; the rest stays as it is

A test checks that the page is up to date.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from understudy.data.embedded.telecom import KINDS, generate, load_facts, load_relations
from understudy.files import atomic, read_json

PAGE = Path(__file__).resolve().parents[1] / "docs" / "embedded.md"
BEGIN, END = "<!-- counts: begin (python scripts/document_embedded.py) -->", "<!-- counts: end -->"
ASKS = {
    "train": "training wordings, gold facts with answers",
    "unlabelled": "training wordings, all other facts, no answers",
    "dev": "a wording of its own",
    "test": "wordings of its own",
}
MODELS = ("telecom-teacher", "telecom-student", "telecom-student-other", "bundles-teacher", "bundles-student")


def updated(page: str) -> str:
    """The page with the counts of today between its markers."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{counts()}\n\n{models()}\n\n{END}{after}"


def counts() -> str:
    """Facts in words, and a table of questions by split and kind."""
    notes = generate().notes
    lines = [
        f"The knowledge base holds {len(load_facts()):,} facts in {len(load_relations())} relations. "
        f"With the defaults the data set asks about {notes['facts']:,} of them, {notes['gold_facts']} being gold:",
        "",
        "| split | " + " | ".join(f"`{kind}`" for kind in KINDS) + " | all | asks |",
        "|---" * (len(KINDS) + 3) + "|",
    ]
    for role, found in notes["kinds"].items():
        cells = [*(f"{found[kind]:,}" for kind in KINDS), f"{sum(found.values()):,}", ASKS[role]]
        lines.append(f"| `{role}` | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def models() -> str:
    """A table of the models."""
    lines = ["| `embedded:…` | parameters | vocabulary | layers × width |", "|---|---|---|---|"]
    for name in MODELS:
        folder = Path(str(resources.files("understudy.models"))) / "embedded" / name
        config, provenance = read_json(folder / "config.json"), read_json(folder / "provenance.json")
        shape = f"{config['num_hidden_layers']} × {config['hidden_size']}"
        kind = f"{config['vocab_size']:,}, byte-level {provenance['plan'].get('vocabulary', 'unigram of whole words')}"
        lines.append(f"| `{name}` | {provenance['parameters']:,} | {kind} | {shape} |")
    return "\n".join(lines)


def main() -> None:
    text = updated(PAGE.read_text(encoding="utf-8"))
    with atomic(PAGE) as handle:
        handle.write(text)


if __name__ == "__main__":
    main()
