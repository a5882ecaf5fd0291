"""Whether the files a run was made from are still what they were; no torch here."""

from __future__ import annotations

from pathlib import Path

from understudy.files import fingerprint_file, read_json
from understudy.run import Run


def changed(run: Run) -> list[str]:
    """Source files whose content is no longer what the run was made from."""
    notes = read_json(run.folder / "data" / "notes.json")
    return [
        source["name"]
        for source in notes.get("sources", ())
        if Path(source["name"]).is_file() and fingerprint_file(source["name"]) != source["fingerprint"]
    ]
