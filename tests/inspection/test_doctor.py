"""The doctor on real pairs: the embedded teacher with both students, and pieces against characters."""

import json
from pathlib import Path

import pytest
from transformers import ByT5Tokenizer

from support import tiny_seq2seq
from understudy.data.load import load_splits
from understudy.inspection.doctor import examine
from understudy.inspection.inputs import load_inputs, summarise_data, take_sample
from understudy.inspection.tokens import check_answers
from understudy.pipeline.stages.context import ROLES
from understudy.pipeline.stages.preparation import check_variant
from understudy.recipe import parse_recipe
from understudy.tokens.prompts import answer_text

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
        *("method", "unsound", "methods", "student", "teacher", "vocabularies", "templates", "rows", "notes"),
        *("refused", "refused_hint"),
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


def test_rows_that_do_not_fit_are_counted_and_passed_over(tmp_path):
    rows = [{"question": f"What is N{n}?" + " word" * (n > 37) * 300, "answer": "a link"} for n in range(40)]
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    data = {**DATA, "source": str(tmp_path / "qa.jsonl"), "dev": 0, "test": 0.01}
    report = examine(parse_recipe({"data": data}))
    [note] = [note for note in report.notes if "do not fit" in note]
    assert note.startswith("2 of 3")
    assert report.shares.rows == report.gold_rows >= 37


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


def test_doctor_inspect_and_run_count_rows_that_a_slow_tokenizer_takes_for_control_tokens(tmp_path):
    tiny_seq2seq.model("t5", 384).save_pretrained(tmp_path / "model")
    ByT5Tokenizer().save_pretrained(tmp_path / "model")
    rows = [{"id": f"row-{n}", "question": f"Which {n}?", "answer": "AMF"} for n in range(20)]
    for row in rows[::4]:
        row["answer"] = "Write </s> to stop, then send it."
    rows[5]["question"] = "Why <pad>?"
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    model = {"model": str(tmp_path / "model")}
    data = {"source": str(tmp_path / "qa.jsonl"), "test": 0.2, "dev": 0.2}
    recipe = parse_recipe({"data": data, "teacher": model, "student": model})
    report, inputs = examine(recipe), load_inputs(recipe)
    splits = load_splits(recipe.data)
    template = check_variant(recipe, {role: getattr(splits, role) for role in ROLES}).student
    marked = [example for example in splits.rows if "<" in example.question + example.answers[0]]
    named = ", ".join(example.id for example in marked)
    note = f"6 of 20 rows hold text that this tokenizer takes for control tokens: {named}"
    assert note in report.student.notes
    assert note in report.teacher.notes
    assert note in summarise_data(inputs).tokenizer_notes["student"]
    assert note in template.notes
    altered = sum("<" in example.answers[0] for example in splits.train)
    assert report.student.answers_altered == len(altered_in(inputs)) == altered > 0


def altered_in(inputs):
    """What `inspect` says of the rows it looks at."""
    sample = take_sample(inputs)
    answers = [answer_text(example) for example in sample.examples]
    return check_answers([row.student for row in sample.rows], answers, inputs.student.template).altered
