"""Files in, rows out: every kind of file, where each row came from, and files that cannot be read."""

import csv
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.data.json_rows import from_document, from_lines
from understudy.data.load import load_splits, read_examples
from understudy.data.read import read_source
from understudy.data.table_rows import comma_separated, tab_separated
from understudy.errors import DataError
from understudy.recipe import DataConfig

ROWS = [{"question": f"Wo liegt {n}?", "answer": f"dört, «{n}»\nund hier"} for n in range(3)]


GOOD_LINE = '{"question": "good", "answer": "a"}'


def write(path: Path, kind: str) -> Path:
    path = path / f"data.{kind}"
    if kind == "jsonl":
        path.write_text("\ufeff" + "\n\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), "utf-8")
    elif kind == "json":
        path.write_text(json.dumps(ROWS, indent=2), "utf-8")
    elif kind == "parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), path)
    else:
        with path.open("w", newline="", encoding="utf-8") as handle:
            writer = csv.DictWriter(handle, ["question", "answer"], delimiter="\t" if kind == "tsv" else ",")
            writer.writeheader()
            writer.writerows(ROWS)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "tsv", "parquet"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path: Path, kind: str) -> None:
    source = read_source(str(write(tmp_path, kind)))
    assert [row.value for row in source.rows] == ROWS
    assert [row.id for row in source.rows] == ["data-1", "data-2", "data-3"]
    assert len(source.fingerprint) == 16


@pytest.mark.parametrize(
    ("kind", "lines"),
    [("jsonl", [1, 3, 5]), ("json", [2, 6, 10]), ("csv", [2, 4, 6]), ("tsv", [2, 4, 6]), ("parquet", [1, 2, 3])],
)
def test_every_row_knows_its_line(tmp_path: Path, kind: str, lines: list[int]) -> None:
    source = read_source(str(write(tmp_path, kind)))
    assert [row.where for row in source.rows] == [f"data.{kind}:{line}" for line in lines]


def test_a_saved_datasets_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    table = datasets.Dataset.from_list(ROWS)
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": table, "test": table.select([0])}).save_to_disk(tmp_path / "two")
    assert [row.value for row in read_source(str(tmp_path / "one")).rows] == ROWS
    assert len(read_source(str(tmp_path / "two"), hub_split="test").rows) == 1
    with pytest.raises(DataError, match="has no split 'dev'; it has: train, test"):
        read_source(str(tmp_path / "two"), hub_split="dev")


@pytest.mark.parametrize("name", ["no.csv", "no.jsonl", "no/such.zip", "no-folder"])
def test_a_missing_file_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"^no such file: ") as caught:
        read_source(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_mistyped_folder_is_not_sought_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in ("data/questions", "./questions"):
        with pytest.raises(DataError, match=r"^no such file: "):
            read_source(name)


def test_an_unknown_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "data.xlsx").write_bytes(b"PK")
    with pytest.raises(DataError, match="unknown kind of file"):
        read_source(str(tmp_path / "data.xlsx"))


@pytest.mark.parametrize(
    ("name", "text"),
    [("e.jsonl", ""), ("e.json", " \n"), ("e.json", "[]"), ("e.csv", "question,answer\n"), ("e.jsonl", "\n\n")],
)
def test_an_empty_data_set_is_one_line(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match="is empty"):
        read_source(str(tmp_path / name))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("b.json", b'[\n{"a": 1},\n{"a" 2}]', r"^b\.json:3: not valid JSON"),
        ("b.json", b"\xff\xfe[]", r"^b\.json is not UTF-8 \(byte 0\)"),
        ("b.csv", b"a,a\n1,2\n", r"^b\.csv:1: the column 'a' stands twice"),
        ("b.parquet", b"PAR0", r"^b\.parquet is not a readable Parquet file"),
        ("b.zip", b"PK", r"b\.zip is not a readable zip"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_source(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_line_that_is_no_json_is_one_bad_row_and_its_text_is_kept() -> None:
    good, bad, last = from_lines('{"a": 1}\n{"a": \n{"a": 2}')
    assert (good.value, last.value, last.line) == ({"a": 1}, {"a": 2}, 3)
    assert (bad.value, bad.line) == ('{"a": ', 2)
    assert bad.fault.startswith("not valid JSON")


def test_records_that_do_not_fit_the_header_keep_their_text_and_line() -> None:
    text = 'a,b\n1,2\n1,2,3\n"x\ny",2\n\n"open" z,1\n7\n8,9\n'
    items = list(comma_separated(text, "t.csv"))
    assert [item.line for item in items] == [2, 3, 4, 7, 8, 9]
    assert [bool(item.fault) for item in items] == [False, True, False, True, True, False]
    assert items[1].value == "1,2,3\n"
    assert items[1].fault == "3 cells under a header of 2"
    assert items[2].value == {"a": "x\ny", "b": "2"}
    assert items[-1].value == {"a": "8", "b": "9"}


def test_a_quotation_mark_that_is_never_closed_costs_its_own_row() -> None:
    rows = "".join(f"q{n},a{n}\n" for n in range(50))
    items = list(comma_separated(f'question,answer\nfirst,"never closed\n{rows}', "t.csv"))
    assert (items[0].value, items[0].line) == ('first,"never closed\n', 2)
    assert items[0].fault == "broken record: a quotation mark that is never closed"
    assert [(item.value["answer"], item.line) for item in items[1:]] == [(f"a{n}", n + 3) for n in range(50)]
    # What breaks off in the middle of one long cell is one bad row.
    [item] = comma_separated('question,answer\nfirst,"a text of\nseveral lines\nthat breaks off\n', "t.csv")
    assert item.fault.startswith("broken record")


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("t.jsonl", [GOOD_LINE, '{"question": "Z\xfcrich?", "answer": "b"}', GOOD_LINE]),
        ("t.csv", ["question,answer", "good,a", "Z\xfcrich?,b", "good,a"]),
        ("t.tsv", ["question\tanswer", "good\ta", "Z\xfcrich?\tb", "good\ta"]),
    ],
)
def test_bytes_that_are_no_utf8_cost_their_own_row(tmp_path: Path, name: str, lines: list[str]) -> None:
    path = tmp_path / name
    path.write_bytes(b"\n".join(line.encode("latin-1" if "xfc" in ascii(line) else "utf-8") for line in lines))
    splits = load_splits(
        DataConfig(source=str(path), dev=0, test=0, on_bad_row="quarantine"), quarantine_path=tmp_path / "quarantine"
    )
    assert [example.question for example in splits.train] == ["good", "good"]
    number = 2 + (not name.endswith("jsonl"))
    [bad_row] = splits.notes["bad_rows"]
    assert bad_row.startswith(f"{name}:{number}: not UTF-8 at character ")
    assert json.loads((tmp_path / "quarantine").read_text())["reason"].startswith("not UTF-8")
    path.write_bytes("Größe,Antwort\n".encode("latin-1"))
    with pytest.raises(DataError, match=rf"^{name} is not UTF-8 \(byte 2\)"):
        read_source(str(path))


@pytest.mark.parametrize("mark", [";", "\t", "|"])
def test_other_separators_of_spreadsheets(tmp_path: Path, mark: str) -> None:
    (tmp_path / "t.csv").write_text(f"question{mark}answer\nWhere, exactly?{mark}here\n")
    assert read_source(str(tmp_path / "t.csv")).rows[0].value == {"question": "Where, exactly?", "answer": "here"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('["q", ["1. a", "2. b"], "2"]', [["q", ["1. a", "2. b"], "2"]]),  # one row of ORAN-Bench
        ('["q", ["a"], "2"]\n["r", ["b"], "1"]', [["q", ["a"], "2"], ["r", ["b"], "1"]]),
        ('[{"a": 1}, {"a": 2}]', [{"a": 1}, {"a": 2}]),
        ('{"question 1": {"a": 1}, "question 2": {"a": 2}}', [{"a": 1}, {"a": 2}]),
        ('{"question 1": {"a": 1}, "question 1": {"a": 2}}', [{"a": 1}, {"a": 2}]),  # equal keys: nothing is lost
        ('{"version": "1.1", "data": [{"a": 1}, {"a": 2}]}', [{"a": 1}, {"a": 2}]),
        (
            '{"id": 1, "question": {"stem": "s"}, "answerKey": "A"}',
            [{"id": 1, "question": {"stem": "s"}, "answerKey": "A"}],
        ),
    ],
)
def test_layouts_of_a_json_file(text: str, values: list) -> None:
    assert [item.value for item in from_document(text, "f.json")] == values


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(
    rows=st.lists(st.dictionaries(st.text(), JSON, max_size=4), min_size=1, max_size=6),
    indent=st.sampled_from([None, 2]),
)
def test_json_arrays_and_lines_give_back_what_was_written(rows: list[dict], indent: int | None) -> None:
    array = list(from_document(json.dumps(rows, indent=indent, ensure_ascii=False), "f"))
    assert [item.value for item in array] == rows
    assert [item.value for item in from_lines("\n".join(map(json.dumps, rows)))] == rows


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(str.strip)


def written(rows: list[tuple[str, str]], delimiter: str) -> str:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, delimiter=delimiter).writerows([("a", "b"), *rows])
    return buffer.getvalue()


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_comma_separated_tables_give_back_what_was_written(rows: list[tuple[str, str]]) -> None:
    items = list(comma_separated(written(rows, ","), "f"))
    assert [tuple(item.value.values()) for item in items] == rows


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_tab_separated_tables_give_back_what_was_written_or_name_the_row(rows: list[tuple[str, str]]) -> None:
    items = list(tab_separated(written(rows, "\t"), "f"))
    sound = [tuple(item.value.values()) for item in items if not item.fault]
    assert set(sound) <= set(rows)
    assert sound == rows or any("quotation marks" in item.fault for item in items)


def tsv(text: str) -> list[list[str] | str]:
    """Cells of each record of a TSV file under the header `question`, `answer`; the fault of a bad one."""
    items = tab_separated(f"question\tanswer\n{text}", "t.tsv")
    return [item.fault.partition(",")[0] if item.fault else list(item.value.values()) for item in items]


EITHER = "a cell in quotation marks"


@pytest.mark.parametrize(
    ("text", "records"),
    [
        # Three rows of a file whose writer does not quote, or two of one that does: none is lost in silence.
        ('What is\t"foo\nWho is\tbar"\nWhere\there\n', [EITHER, EITHER, ["Where", "here"]]),
        ('What is\t"foo"\nWhere\there\n', [EITHER, ["Where", "here"]]),
        ('What is 5" wide?\tthe "S" one\n', [['What is 5" wide?', 'the "S" one']]),
        ('What is\t"foo" and bar\n', [["What is", '"foo" and bar']]),
        ('What is\t"never closed\nWhere\there\n', [["What is", '"never closed'], ["Where", "here"]]),
        # What is certain elsewhere in the file decides.
        (
            'How\tsay "hi"\nWhat is\t"foo\nWho is\tbar"\n',
            [["How", 'say "hi"'], ["What is", '"foo'], ["Who is", 'bar"']],
        ),
        ('How\t"say ""hi"""\nWhat is\t"foo"\n', [["How", 'say "hi"'], ["What is", "foo"]]),
        # Only one reading fits.
        ('What is\t"a\ttab"\nWho\t"two\nlines"\n', [["What is", "a\ttab"], ["Who", "two\nlines"]]),
    ],
)
def test_quotation_marks_in_tab_separated_files(text: str, records: list[list[str] | str]) -> None:
    assert tsv(text) == records


def test_a_tab_separated_file_with_a_quoted_header_quotes_throughout() -> None:
    items = tab_separated('"question"\t"answer"\n"What"\t"foo"\n', "t.tsv")
    assert [item.value for item in items] == [{"question": "What", "answer": "foo"}]


# One row that cannot be read costs that row and no other.

LONG, DEEP = "9" * 5000, "[" * 100_000 + "]" * 100_000


def bad_rows(path: Path, text: str) -> tuple[list[str], list[str]]:
    path.write_text(text, encoding="utf-8")
    reading = read_examples(DataConfig(source=str(path)), str(path))
    return [example.question for example in reading.examples], [str(fault) for fault in reading.faults]


BAD = [
    (f'{{"question": "q", "answer": {LONG}}}', "a number of 5,000 digits"),
    (f'{{"question": "q", "answer": {DEEP}}}', "not valid JSON: nested deeper than 100 levels"),
    ('{"question": "q", "answer": "a", "answer": "b"}', "the key 'answer' stands twice"),
    ('{"question": "q", "answer": 1e400}', "answer: an infinite number"),
    ('{"question": "q\\u0000", "answer": "b"}', "question: a NUL at character 2"),
]
GOOD = '{"question": "good", "answer": "a"}'


@pytest.mark.parametrize(("row", "reason"), BAD)
@pytest.mark.parametrize("layout", ["{}\n{}\n{}", "[{},\n{},\n{}]", '{{"data": [{},\n{},\n{}]}}'])
def test_a_row_that_cannot_be_read_is_one_bad_row(tmp_path: Path, layout: str, row: str, reason: str) -> None:
    name = "t.jsonl" if layout.startswith("{}") else "t.json"
    questions, faults = bad_rows(tmp_path / name, layout.format(GOOD, row, GOOD))
    assert questions == ["good", "good"]
    assert faults == [f"{name}:2: {reason}"]


def test_json_lines_under_another_ending_begin_with_a_bad_row(tmp_path: Path) -> None:
    questions, faults = bad_rows(tmp_path / "t.txt", f"{BAD[0][0]}\n{GOOD}\n")
    assert (questions, faults) == (["good"], ["t.txt:1: a number of 5,000 digits"])


def test_rows_by_key_outlive_one_that_cannot_be_read(tmp_path: Path) -> None:
    rows = ",\n".join(f'"question {n}": {row}' for n, row in enumerate((GOOD, BAD[2][0], GOOD)))
    questions, faults = bad_rows(tmp_path / "t.json", f"{{{rows}}}")
    assert (questions, faults) == (["good", "good"], ["t.json:2: the key 'answer' stands twice"])


def test_questions_of_an_article_outlive_one_that_cannot_be_read(tmp_path: Path) -> None:
    answers = '"answers": [{"text": "c", "answer_start": 0}]'
    good, bad = f'{{"id": "a", "question": "q", {answers}}}', f'{{"id": "b", "question": "r", {answers}, "n": {LONG}}}'
    text = f'{{"data": [{{"title": "t", "paragraphs": [{{"context": "c d", "qas": [{good}, {bad}]}}]}}]}}'
    questions, faults = bad_rows(tmp_path / "t.json", text)
    assert questions == ["q"]
    assert faults == ["t.json:1 paragraphs[0].qas[1]: a number of 5,000 digits"]


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        (DEEP, "answers: not valid JSON: nested deeper than 100 levels"),
        (f'"[""a"", {LONG}]"', "answers: a number of 5,000 digits"),
        ("a\0b", "a NUL in the row, which no text has"),
    ],
)
def test_a_cell_that_cannot_be_read_is_one_bad_row(tmp_path: Path, cell: str, reason: str) -> None:
    questions, faults = bad_rows(tmp_path / "t.csv", f"question,answers\ngood,a\nbad,{cell}\n")
    assert (questions, faults) == (["good"], [f"t.csv:3: {reason}"])


def test_numbers_of_any_length_that_name_no_option_are_bad_rows(tmp_path: Path) -> None:
    questions, faults = bad_rows(tmp_path / "t.csv", f"question,option 1,option 2,answer\ngood,a,b,1\nbad,a,b,{LONG}\n")
    assert questions == ["good"]
    assert faults[0].startswith("t.csv:3: answer: '9999")
    rows = f'["good", ["1. a", "2. b"], "1"]\n["bad", ["1. a", "2. b"], "{LONG}"]\n'
    questions, faults = bad_rows(tmp_path / "t.jsonl", rows)
    assert questions == ["good"]
    assert "is not among the 2 options" in faults[0]


def test_a_json_document_that_breaks_off_behind_a_bad_row_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(f'[{{"a": {LONG}}}, {{"b": 1}}')
    with pytest.raises(DataError, match=r"^t\.json:1: not valid JSON: a value that does not end"):
        read_source(str(tmp_path / "t.json"))


# Bounds.


def test_a_table_of_a_million_columns_is_refused_at_its_header(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",".join(f"c{n}" for n in range(1_000_000)) + "\n")
    with pytest.raises(DataError, match=r"^t\.csv:1: a header of 1,000,000 columns; a table may have 10,000"):
        read_source(str(tmp_path / "t.csv"))


@pytest.mark.parametrize(
    ("field", "limit"), [("question", "1,000,000"), ("answer", "1,000,000"), ("context", "5,000,000")]
)
def test_a_row_that_no_model_reads_is_a_bad_row(tmp_path: Path, field: str, limit: str) -> None:
    row = {"question": "q", "answer": "a", "context": "c"} | {field: "word " * 20_000_000}
    path = tmp_path / "t.jsonl"
    path.write_text(f"{GOOD}\n{json.dumps(row)}\n")
    config = DataConfig(source=str(path), dev=0, test=0, on_bad_row="quarantine")
    splits = load_splits(config, quarantine_path=tmp_path / "quarantine.jsonl")
    assert splits.notes["bad_rows"] == [f"t.jsonl:2: {field}: 99,999,999 characters; {limit} are the most"]
    assert (tmp_path / "quarantine.jsonl").stat().st_size < 1_000_000


def test_a_zip_that_unpacks_to_more_than_memory_holds_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "t.zip"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("t.csv", "w", force_zip64=True) as member,
    ):
        for _ in range(1501):
            member.write(bytes(1_000_000))
    with pytest.raises(DataError, match=r"t\.csv unpacks to 1,501,000,000 bytes; 1,000,000,000 are the most"):
        read_source(str(path))


# TeleQnA is published as one JSON text in an AES-encrypted zip.

TELEQNA = {
    f"question {n}": {"question": f"What is {n}?", "option 1": "a", "option 2": "b", "answer": "option 2: b"}
    for n in range(4)
}
PASSWORD_ENV = "UNDERSTUDY_TEST_PASSWORD"


@pytest.fixture
def encrypted(tmp_path: Path) -> Path:
    pyzipper = pytest.importorskip("pyzipper", reason="the extra understudy-distil[zip] is not installed")
    path = tmp_path / "TeleQnA.zip"
    with pyzipper.AESZipFile(path, "w", compression=pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES) as archive:
        archive.setpassword(b"right")
        archive.writestr("TeleQnA.txt", json.dumps(TELEQNA, indent=1))
    return path


def _read_zip(path: Path, password_env: str = "") -> Any:
    return read_examples(DataConfig(source=str(path), password_env=password_env), str(path))


def test_an_encrypted_zip_opens_with_its_password(encrypted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "right")
    reading = _read_zip(encrypted, PASSWORD_ENV)
    assert reading.format == "teleqna"
    assert [example.id for example in reading.examples] == list(TELEQNA)


def test_a_wrong_password_is_one_line(encrypted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "a-guess")
    with pytest.raises(DataError, match="the password does not open") as caught:
        _read_zip(encrypted, PASSWORD_ENV)
    assert "a-guess" not in str(caught.value)


def test_a_password_that_nobody_gave(encrypted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PASSWORD_ENV, raising=False)
    with pytest.raises(DataError, match="needs a password"):
        _read_zip(encrypted)
    with pytest.raises(DataError, match=f"{PASSWORD_ENV} is empty or not set"):
        _read_zip(encrypted, PASSWORD_ENV)


def test_without_the_extra_the_line_says_what_to_install(encrypted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSWORD_ENV, "right")
    monkeypatch.setitem(__import__("sys").modules, "pyzipper", None)
    with pytest.raises(DataError, match="AES-encrypted") as caught:
        _read_zip(encrypted, PASSWORD_ENV)
    assert caught.value.hint == "pip install 'understudy-distil[zip]'"


def test_a_plain_zip_and_one_with_two_data_files(tmp_path: Path) -> None:
    path = tmp_path / "plain.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README.txt", "words")
        archive.writestr("inner/qa.csv", "question,answer\nq,a\n,a\n")
    reading = _read_zip(path)
    assert reading.examples[0].id == "qa-1"
    assert str(reading.faults[0]) == "plain.zip/inner/qa.csv:3: question: empty"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("more.csv", "question,answer\nq,a\n")
    with pytest.raises(DataError, match=r"exactly one data file; it holds inner/qa\.csv, more\.csv"):
        _read_zip(path)
