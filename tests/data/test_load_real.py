"""Every format on the published file itself: how many rows, which are bad, what one row becomes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from understudy.data.load import load_splits, read_examples
from understudy.errors import DataError
from understudy.recipe import DataConfig

REAL = [
    ("telecom/oran_bench_13k/fin_E.json", "oran_bench", 1139, 0),
    # Published with 84 empty questions and 32 questions without options.
    ("telecom/oran_bench_13k/fin_M.json", "oran_bench", 9570, 116),
    # Row 984 has no question, and a reviewer's remarks where the answers should be.
    ("telecom/mm_telcobench/LONG_TelcoBench.csv", "telco_long", 2000, 1),
    ("telecom/mm_telcobench/MCQ_TelcoBench.csv", "telco_mcq", 2000, 0),
    ("commonsense/csqa/train_rand_split.jsonl", "csqa", 9741, 0),
    ("commonsense/distilling_step_by_step/cqa_train.json", "qa", 9741, 0),
    ("qa/xquad/xquad.en.json", "squad", 1190, 0),
    ("qa/gsm8k/train.jsonl", "gsm8k", 7473, 0),
]


@pytest.mark.parametrize(("path", "form", "rows", "bad"), REAL)
def test_a_published_file_is_read_whole_and_nothing_is_lost(
    shared: Path, tmp_path: Path, path: str, form: str, rows: int, bad: int
) -> None:
    quarantine = tmp_path / "quarantine.jsonl"
    config = DataConfig(source=str(shared / path), on_bad_row="quarantine")
    splits = load_splits(config, quarantine_path=quarantine)
    kept = [*splits.train, *splits.dev, *splits.test]
    assert splits.notes["sources"][0]["format"] == form
    assert splits.notes["rows_read"] == rows
    assert splits.notes["quarantined"] == bad
    assert len(kept) == rows - bad
    assert len({example.id for example in kept}) == len(kept)
    assert all(example.labelled and example.question for example in kept)
    assert all(example.answers[0] in example.choices for example in kept if example.choices)
    assert quarantine.exists() == bool(bad)
    if bad:
        assert len(quarantine.read_text().splitlines()) == bad
    # Shares are met within five standard deviations of a draw per row.
    assert len(splits.test) == pytest.approx(0.1 * rows, abs=5 * (0.09 * rows) ** 0.5 + bad)


def _first(shared: Path, path: str, number: int = 0):
    config = DataConfig(source=str(shared / path), on_bad_row="quarantine")
    return read_examples(config, config.source).examples[number]


def test_oran_bench_loses_its_option_numbers(shared: Path) -> None:
    example = _first(shared, "telecom/oran_bench_13k/fin_E.json")
    assert example.choices == ("O-RAN.WG3", "O-RAN.WG4", "O-RAN.WG1", "O-RAN.WG5")
    assert example.answers == ("O-RAN.WG1",)
    assert example.id == "fin_E-1"


def test_oran_bench_has_one_sound_question_of_six_options(shared: Path) -> None:
    config = DataConfig(source=str(shared / "telecom/oran_bench_13k/fin_M.json"), on_bad_row="quarantine")
    examples = read_examples(config, config.source).examples
    assert [example.answers for example in examples if len(example.choices) == 6] == [("guGnbDuUeF1apId",)]


def test_a_bad_row_of_oran_bench_is_named_and_counted(shared: Path) -> None:
    with pytest.raises(DataError, match=r"^fin_M\.json:495: question: empty \(and 115 more bad rows\)") as caught:
        load_splits(DataConfig(source=str(shared / "telecom/oran_bench_13k/fin_M.json")))
    assert "quarantine" in caught.value.hint


def test_duplicates_of_oran_bench_stand_in_one_split(shared: Path) -> None:
    splits = load_splits(DataConfig(source=str(shared / "telecom/oran_bench_13k/fin_E.json")))
    assert splits.notes["duplicates"]["rows"] >= 129  # letter for letter; normalised, a few more
    questions = [{example.question for example in rows} for rows in (splits.train, splits.dev, splits.test)]
    assert questions[0].isdisjoint(questions[1] | questions[2])
    assert questions[1].isdisjoint(questions[2])


def test_long_answers_keep_all_three_references(shared: Path) -> None:
    example = _first(shared, "telecom/mm_telcobench/LONG_TelcoBench.csv")
    assert len(set(example.answers)) == 3
    assert set(example.meta) == {"Source", "Section", "Working Group", "Series"}


def test_the_bad_row_of_the_long_file_is_named_by_its_own_column(shared: Path) -> None:
    with pytest.raises(DataError, match=r"^LONG_TelcoBench\.csv:986: Question: empty \("):
        load_splits(DataConfig(source=str(shared / "telecom/mm_telcobench/LONG_TelcoBench.csv")))


def test_option_labels_become_the_option(shared: Path) -> None:
    example = _first(shared, "telecom/mm_telcobench/MCQ_TelcoBench.csv")
    assert example.answers == (example.choices[3],)
    assert example.meta["answer_index"] == 3
    labelled_otherwise = _first(shared, "telecom/mm_telcobench/MCQ_TelcoBench.csv", 855)  # "B) To securely …"
    assert labelled_otherwise.answers == (labelled_otherwise.choices[1],)


def test_commonsenseqa_official_and_flat_agree(shared: Path) -> None:
    official = DataConfig(source=str(shared / "commonsense/csqa/train_rand_split.jsonl"))
    flat = DataConfig(source=str(shared / "commonsense/distilling_step_by_step/cqa_train.json"))
    one = {example.id: example for example in read_examples(official, official.source).examples}
    other = {example.id: example for example in read_examples(flat, flat.source).examples}
    assert one.keys() == other.keys()
    assert all(one[id].answers == other[id].answers and one[id].choices == other[id].choices for id in one)


def test_gsm8k_parts_the_answer_from_its_solution(shared: Path) -> None:
    example = _first(shared, "qa/gsm8k/train.jsonl")
    assert example.answers == ("72",)
    assert example.rationales[0].startswith("Natalia sold 48/2 = 24 clips in May.")


def test_xquad_answers_stand_in_their_context(shared: Path) -> None:
    config = DataConfig(source=str(shared / "qa/xquad/xquad.en.json"))
    examples = read_examples(config, config.source).examples
    assert all(example.answers[0] in (example.context or "") for example in examples)


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        "".join(json.dumps({"question": f"q{i}", "answer": "a"}) + "\n" for i in range(9))
    )
    code = (
        "import sys; from understudy.data.load import load_splits; from understudy.recipe import DataConfig;"
        "load_splits(DataConfig(source='a.jsonl')); assert 'torch' not in sys.modules and 'datasets' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
