"""Files of predictions from other tools: every layout read alike, every fault named in a line."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import DataError
from understudy.evaluation.prediction_files import COLUMNS, read_predictions

ROWS = [
    {"id": "a", "question": "Wer, was?", "prediction": 'die "AMF", glaube ich', "references": ["AMF", "the AMF"]},
    {"id": "b", "question": "第二", "prediction": "", "references": ["セッション管理"]},
    {"id": "c", "question": "three\nlines", "prediction": "UPF\nSMF", "references": ["UPF"]},
]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return path


def table(path: Path, rows: list[dict[str, Any]], delimiter: str) -> Path:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def essence(path: Path, *references: Path) -> list[tuple]:
    rows = read_predictions(path, references).rows
    return [(row.id, row.question, row.prediction, row.references) for row in rows]


def test_every_layout_reads_alike(tmp_path: Path) -> None:
    flat = [{**row, "references": json.dumps(row["references"])} for row in ROWS]
    document = tmp_path / "rows.json"
    document.write_text(json.dumps(ROWS), encoding="utf-8")
    layouts = [
        essence(jsonl(tmp_path / "rows.jsonl", ROWS)),
        essence(document),
        essence(table(tmp_path / "rows.csv", flat, ",")),
        essence(table(tmp_path / "rows.tsv", flat, "\t")),
    ]
    expected = [(row["id"], row["question"], row["prediction"], tuple(row["references"])) for row in ROWS]
    assert layouts == [expected] * 4


@pytest.mark.parametrize(
    ("row", "prediction", "references"),
    [
        ({"Question": "q", "Answer": "gold", "Response": "mine"}, "mine", ["gold"]),
        ({"question": "q", "answer": "mine", "ground_truth": "gold"}, "mine", ["gold"]),
        ({"answer": "mine", "answers": ["gold", "other"]}, "mine", ["gold", "other"]),
        ({"answers": {"text": ["gold"], "answer_start": [3]}, "generated text": "mine"}, "mine", ["gold"]),
        (
            {"user_input": "q", "response": "mine", "reference": "gold", "retrieved_contexts": ["x", "y"]},
            "mine",
            ["gold"],
        ),
        ({"doc_id": 3, "target": "gold", "filtered_resps": ["mine"], "resps": [["mine"]]}, "mine", ["gold"]),
        ({"input": "q", "output": "mine", "expected_output": "gold"}, "mine", ["gold"]),
        ({"prompt": "q", "completion": "mine", "label": 7}, "mine", ["7"]),
    ],
)
def test_names_that_tools_give(tmp_path: Path, row: dict[str, Any], prediction: str, references: list[str]) -> None:
    [row_read] = read_predictions(jsonl(tmp_path / "x.jsonl", [row])).rows
    assert (row_read.prediction, list(row_read.references)) == (prediction, references)
    if "retrieved_contexts" in row:
        assert row_read.context == "x\n\ny"


def test_no_name_stands_for_two_columns_but_answer() -> None:
    names = [name for ours in COLUMNS.values() for name in ours]
    assert {name for name in names if names.count(name) > 1} == {"answer"}


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(
        st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=12),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_survives_every_layout(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("texts")
    rows = [{"id": f"i{n}", "prediction": text, "reference": "r"} for n, text in enumerate(texts)]
    lines = folder / "lines.txt"
    lines.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    (folder / "gold.txt").write_text("r\n" * len(texts), encoding="utf-8")
    paths = [jsonl(folder / "x.jsonl", rows), table(folder / "x.csv", rows, ","), table(folder / "x.tsv", rows, "\t")]
    for path in paths:
        assert [row.prediction for row in read_predictions(path).rows] == texts
    assert [row.prediction for row in read_predictions(lines, [folder / "gold.txt"]).rows] == texts


def test_plain_text_files_line_by_line(tmp_path: Path) -> None:
    (tmp_path / "mine.hyp").write_text("AMF\nSMF\n", encoding="utf-8")
    (tmp_path / "one.ref").write_text("AMF\nUPF\n", encoding="utf-8")
    (tmp_path / "two.ref").write_text("the AMF\nSMF\n", encoding="utf-8")
    table = read_predictions(tmp_path / "mine.hyp", [tmp_path / "one.ref", tmp_path / "two.ref"])
    assert not table.has_ids
    assert [row.references for row in table.rows] == [("AMF", "the AMF"), ("UPF", "SMF")]


def test_references_of_another_table_go_by_id(tmp_path: Path) -> None:
    predictions = jsonl(tmp_path / "p.jsonl", [{"id": row["id"], "output": row["prediction"]} for row in ROWS])
    gold = jsonl(tmp_path / "g.jsonl", [{k: row[k] for k in ("id", "question", "references")} for row in ROWS[::-1]])
    assert essence(predictions, gold) == essence(jsonl(tmp_path / "rows.jsonl", ROWS))


@pytest.mark.parametrize(
    ("name", "text", "error", "hint"),
    [
        ("x.jsonl", '{"text": "a", "gold": "b"}\n', "no column with predictions; it has: text, gold", "`prediction`"),
        ("x.jsonl", '{"prediction": "a"}\n', "no column with right answers; it has: prediction", "--references"),
        ("x.jsonl", '{"prediction": "a"\n', "x.jsonl:1: not valid JSON", ""),
        ("x.jsonl", '"a"\n', "x.jsonl:1: not a row of named columns", ""),
        ("x.csv", "prediction,reference\na,b,c\n", "x.csv:2: 3 cells under a header of 2", ""),
        ("x.csv", "id,prediction,reference\n,a,b\n", "row 1: the id is empty", "every item"),
        ("x.txt", "", "x.txt is empty", ""),
        ("x.jsonl", "", "is empty", ""),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, text: str, error: str, hint: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        read_predictions(tmp_path / name)
    assert error in caught.value.message
    assert hint in caught.value.hint


def test_what_other_tools_write_for_nothing_and_for_lists(tmp_path: Path) -> None:
    """pandas: NaN for a missing answer, Python's own print of a list; a broken tool: half of a character."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"prediction": NaN, "reference": "a"}\n{"prediction": "x\\ud83d", "reference": ["b", NaN]}\n')
    result = read_predictions(path).rows
    assert [row.prediction for row in result] == [None, "x?"]
    assert result[1].references == ("b",)
    listed = [{"prediction": "b", "reference": "['a', \"b's\"]"}, {"prediction": "c", "reference": "[see 5.2.1]"}]
    rows = read_predictions(table(tmp_path / "x.csv", listed, ",")).rows
    assert [row.references for row in rows] == [("a", "b's"), ("[see 5.2.1]",)]


@pytest.mark.parametrize("text", ["[0, 1]", "[]", '["a", "b"]', "['a']"])
def test_a_text_that_looks_like_a_list_is_one_answer(tmp_path: Path, text: str) -> None:
    row = {"id": "1", "answer": text, "prediction": text}
    [item] = read_predictions(jsonl(tmp_path / "x.jsonl", [row])).rows
    assert (item.prediction, item.references) == (text, (text,))
    for name in ("mine.hyp", "gold.ref"):
        (tmp_path / name).write_text(f"{text}\n", encoding="utf-8")
    [item] = read_predictions(tmp_path / "mine.hyp", [tmp_path / "gold.ref"]).rows
    assert (item.prediction, item.references) == (text, (text,))


def test_a_cell_of_csv_is_a_list_only_where_it_is_one_of_texts(tmp_path: Path) -> None:
    rows = [{"prediction": "[0, 1]", "reference": "[0, 1]"}, {"prediction": "a", "reference": '["a", "b"]'}]
    table_rows = read_predictions(table(tmp_path / "x.csv", rows, ",")).rows
    assert [row.references for row in table_rows] == [("[0, 1]",), ("a", "b")]


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000 + "]" * 100_000])
def test_a_row_of_predictions_that_cannot_be_read_is_named(tmp_path: Path, value: str) -> None:
    (tmp_path / "x.jsonl").write_text(
        f'{{"prediction": "a", "answer": "b"}}\n{{"prediction": "a", "answer": {value}}}\n'
    )
    with pytest.raises(DataError, match=r"^x\.jsonl:2: "):
        read_predictions(tmp_path / "x.jsonl")
    (tmp_path / "x.csv").write_text(f"prediction,answer,reference\na,b,{value}\n")
    assert read_predictions(tmp_path / "x.csv").rows[0].references == (value,)


def test_right_answers_that_contradict_each_other(tmp_path: Path) -> None:
    predictions = jsonl(tmp_path / "p.jsonl", [{"id": 1, "prediction": "b"}])
    twice = [{"id": 1, "reference": "a"}, {"id": 1, "reference": "a"}]
    assert read_predictions(predictions, [jsonl(tmp_path / "g.jsonl", twice)]).rows[0].references == ("a",)
    with pytest.raises(DataError, match="two rows for item '1' with different right answers"):
        read_predictions(predictions, [jsonl(tmp_path / "h.jsonl", [*twice, {"id": 1, "reference": "b"}])])


def test_references_that_do_not_fit(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("a\nb\n", encoding="utf-8")
    (tmp_path / "r.txt").write_text("a\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"but .*r.txt has 1 right answers"):
        read_predictions(tmp_path / "p.txt", [tmp_path / "r.txt"])
    predictions = jsonl(tmp_path / "p.jsonl", [{"id": "a", "prediction": "x"}])
    gold = jsonl(tmp_path / "g.jsonl", [{"id": "b", "reference": "x"}])
    with pytest.raises(DataError, match="no right answer for item 'a'"):
        read_predictions(predictions, [gold])


def test_a_file_of_many_keys_is_refused_without_naming_them_all(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({f"id-{n}": f"answer {n}" for n in range(10_000)}))
    with pytest.raises(DataError) as caught:
        read_predictions(tmp_path / "x.json")
    assert "id-11 … and 9,988 more" in caught.value.message
    assert "--references" in caught.value.hint
    assert len(caught.value.message) < 400
