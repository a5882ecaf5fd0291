"""Raw text for pretraining: what is read, in which order, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from understudy.data.documents import fingerprint_documents, read_documents
from understudy.errors import DataError


def test_a_folder_gives_its_documents_in_the_order_of_their_paths(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "one.md").write_text("# One\n", encoding="utf-8")
    (tmp_path / "a.txt").write_text("erste Zeile\nzweite – ✓\n", encoding="utf-8")
    (tmp_path / "c.jsonl").write_text('{"text": "x"}\n"y"\n{"text": "  "}\n', encoding="utf-8")
    (tmp_path / "image.png").write_bytes(b"\x00")
    assert read_documents(str(tmp_path)) == ["erste Zeile\nzweite – ✓\n", "# One\n", "x", "y"]
    assert read_documents(str(tmp_path / "c.jsonl")) == ["x", "y"]


def test_another_field_and_faults_with_their_place(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text(json.dumps({"body": "x"}) + "\n", encoding="utf-8")
    assert read_documents(str(path), "body") == ["x"]
    with pytest.raises(DataError, match="document 1 has no text in 'text'"):
        read_documents(str(path))
    with pytest.raises(DataError, match="no such file or folder"):
        read_documents(str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no documents"):
        read_documents(str(tmp_path / "empty"))


def test_the_fingerprint_follows_names_and_content(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    before = fingerprint_documents(str(tmp_path))
    (tmp_path / "a.txt").write_text("y")
    changed = fingerprint_documents(str(tmp_path))
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")
    assert len({before, changed, fingerprint_documents(str(tmp_path))}) == 3
