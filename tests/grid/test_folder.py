"""The folder of a grid."""

from __future__ import annotations

from pathlib import Path

from understudy.grid.folder import GridFolder
from understudy.recipe import parse_grid


def test_what_killed_processes_left_half_written_is_swept_away_wherever_it_stands(tmp_path: Path) -> None:
    folder = GridFolder(tmp_path / "grid")
    places = (folder.path, folder.working, folder.rows, folder.stages / "pair-1")
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / ".x.json.abc.part").write_text("{")
        (place / "whole.json").write_text("{}")
    (folder.stages / "train-1.part").mkdir()
    folder.prepare(parse_grid({"axes": {"teacher.sft": [True]}}), [])
    assert not list(folder.path.rglob("*.part"))
    assert all((place / "whole.json").is_file() for place in places)
