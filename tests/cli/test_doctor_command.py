"""`understudy doctor`: the same judgement that `run` makes, on the recipe's own rows, without weights."""

import json
import re
import shutil

import pytest
from transformers import AutoTokenizer

from understudy.recipe import METHODS


def doctor(house, command, *overrides):
    return command("doctor", str(house.write_recipe()), *overrides)


def test_a_pair_of_one_vocabulary(house, command):
    done = doctor(house, command)
    assert done.code == 0, done.err
    assert "one vocabulary" in done.out
    assert "kd, the recipe's method: sound" in done.out
    assert all(method in done.out for method in METHODS)
    assert not (house.folder / "runs").exists()


def test_what_the_doctor_refuses_run_refuses_in_the_same_words(house, command):
    other = f"student.model={house.models / 'other'}"
    done = doctor(house, command, other)
    assert done.code == 1
    examination = json.loads(doctor(house, command, other, "--json").out)
    assert examination["unsound"]
    assert {m for m, judged in examination["methods"].items() if judged["verdict"] == "unsound"} == {"kd", "dskd"}
    run = command("run", str(house.write_recipe()), other)
    assert run.code == 1
    assert examination["methods"]["kd"]["why"] in run.err
    assert examination["methods"]["kd"]["hint"] in run.err
    assert doctor(house, command, other, "distil.method=byte_aligned").code == 0


def test_a_long_difference_is_printed_once_and_every_sound_method_is_named(house, command):
    done = doctor(house, command, f"student.model={house.models / 'other'}")
    text = " ".join(done.out.split())
    assert text.count("student 340 tokens, teacher 300") == 1
    assert "kd is unsound for this pair: needs one vocabulary, and the two differ (above)" in text
    sound = [name for name, kind in METHODS.items() if not kind.one_vocabulary]
    assert f"hint: distil.method={' or '.join(sound)} works across vocabularies" in text


def test_only_tokenizers_and_configs_are_read(house, command):
    for side in ("teacher", "student"):
        folder = house.folder / side
        shutil.copytree(house.models / side, folder)
        (folder / "model.safetensors").unlink()
        house.recipe[side]["model"] = str(folder)
    examination = json.loads(doctor(house, command, "--json").out)
    assert not examination["unsound"]
    assert examination["student"]["columns"] == examination["teacher"]["columns"] == 300
    assert examination["rows"]["same_targets"] == 1.0
    (house.folder / "student" / "config.json").unlink()
    house.recipe["student"]["tokenizer"] = str(house.models / "student")
    assert json.loads(doctor(house, command, "--json").out)["student"]["columns"] is None


@pytest.mark.parametrize(
    ("columns", "said"),
    [(300, "beyond the teacher's head; they carry no probability"), (320, "no more probability than padding does")],
)
def test_tokens_that_only_one_side_has_are_named(house, command, columns, said):
    student = house.folder / "student"
    shutil.copytree(house.models / "student", student)
    tokenizer = AutoTokenizer.from_pretrained(student)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|call|>"]})
    tokenizer.save_pretrained(student)
    teacher = house.folder / "teacher"
    shutil.copytree(house.models / "teacher", teacher)
    config = json.loads((teacher / "config.json").read_text())
    (teacher / "config.json").write_text(json.dumps(config | {"vocab_size": columns}))
    house.recipe["student"]["model"], house.recipe["teacher"]["model"] = str(student), str(teacher)
    examination = json.loads(doctor(house, command, "--json").out)
    assert not examination["unsound"]
    assert examination["teacher"]["padding_rows"] == columns - 300
    [note] = [note for note in examination["notes"] if "'<|call|>' (300)" in note]
    assert said in note
    assert any("knows 301 tokens and its head 300" in note for note in examination["notes"])


def test_a_token_cannot_steer_the_terminal(house, command):
    student = house.folder / "student"
    shutil.copytree(house.models / "student", student)
    tokenizer = AutoTokenizer.from_pretrained(student)
    tokenizer.add_special_tokens({"additional_special_tokens": ["\x1b[2Jgone"]})
    tokenizer.save_pretrained(student)
    house.recipe["student"]["model"] = str(student)
    done = doctor(house, command)
    assert done.code == 0, done.err
    assert "gone" in done.out
    assert not re.search(r"\x1b\[2J", done.out)


def test_a_mistyped_field_is_one_line(house, command):
    done = doctor(house, command, "distil.methd=kd")
    assert done.code == 1
    assert "did you mean" in done.err
