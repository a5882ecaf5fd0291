"""The doctor on real pairs: the embedded teacher with both students, and pieces against characters."""

import json
from pathlib import Path

import pytest

from understudy.inspection.doctor import examine
from understudy.recipe import parse_recipe

SHARED = Path(__file__).resolve().parents[2] / ".." / "shared" / "data"
DATA = {"source": "embedded:telecom", "max_length": 256, "max_answer_tokens": 24}


def test_the_embedded_teacher_and_its_student():
    found = examine(parse_recipe({"data": DATA}), max_rows=40)
    assert {judged.verdict for judged in found.methods.values()} == {"sound"}
    assert found.shares.same_targets == found.shares.min_edit == 1.0
    assert found.templates.same_prompt
    assert found.student.answers_altered == found.teacher.answers_altered == 0
    assert found.student.columns == found.student.tokens == 2028
    assert found.notes == []
    value = json.loads(json.dumps(found.to_json()))
    assert list(value) == [
        *("method", "unsound", "methods", "student", "teacher", "vocabularies", "templates", "rows", "notes")
    ]
    assert list(value["student"]) == [
        *("model", "tokens", "columns", "padding_rows", "special", "end", "end_id", "thinking", "lost"),
        *("answers_altered", "notes"),
    ]
    assert list(value["rows"])[-1] == "of"


def test_the_embedded_teacher_and_the_other_student():
    recipe = parse_recipe({"data": DATA, "student": {"model": "embedded:telecom-student-other"}})
    found = examine(recipe, max_rows=40)
    assert found.unsound
    unsound = {m for m, judged in found.methods.items() if judged.verdict == "unsound"}
    assert unsound == {"kd", "dskd"}
    shares = found.shares
    assert 0 < shares.by_position <= shares.exact <= shares.groups <= 1
    assert found.methods["dskd_v2"].aligned == shares.exact


@pytest.mark.skipif(not SHARED.is_dir(), reason="the folder of real data (../shared/data) is not here")
def test_pieces_taught_to_characters(tmp_path):
    stories = ["Once upon a time", "there was a little girl", "She was happy.", "Tom saw a big dog"]
    rows = [{"id": str(n), "question": f"Tell {n}", "answer": stories[n % 4]} for n in range(40)]
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    recipe = parse_recipe(
        {
            "data": {"source": str(tmp_path / "qa.jsonl")},
            "teacher": {"model": str(SHARED / "models" / "stories260k")},
            "student": {"model": str(SHARED / "models" / "babyllama-char105")},
            "distil": {"method": "byte_aligned"},
        }
    )
    found = examine(recipe)
    assert not found.unsound
    assert found.methods["kd"].verdict == "unsound"
    assert found.methods["byte_aligned"].verdict == "sound"
    assert found.shares.exact < 0.5 < found.shares.groups
    assert "emoji" in found.student.lost
    assert any("no chat template" in note for note in found.student.notes)
