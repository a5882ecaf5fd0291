"""Right answers in files of their own: every layout of data, and how they find their predictions."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from understudy.errors import ConfigError, DataError
from understudy.evaluation.given_answers import given_answers
from understudy.evaluation.prediction_files import FileOptions, read_predictions
from understudy.evaluation.systems import System, read_systems
from understudy.recipe import DataConfig

CHOICES = ["Rome", "Paris", "Oslo", "Bern"]
NAMES = ["q0", "q1", "q2"]


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def document(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def table(path: Path, rows: list[dict[str, Any]], delimiter: str = ",") -> Path:
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
    return path


def options(*references: Path, final: tuple[str, ...] = (), **data: Any) -> FileOptions:
    return FileOptions(references=references, data=DataConfig(**data), final_answer=final)


def read(path: Path, files: FileOptions | None = None) -> System:
    [system] = read_systems([str(path)], options=files)
    return system


def question(n: int) -> str:
    return f"Which capital, {n}?"


def predictions(folder: Path, *texts: Any, **more: Any) -> Path:
    rows = [{"id": f"q{n}", "prediction": text, **more} for n, text in enumerate(texts)]
    return jsonl(folder / "mine.jsonl", rows)


# -- choices ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        *((text, "Oslo") for text in ("option 3", "Option 3", "C", "c", "(C)", "c.", "**C**", "Oslo", " oslo. ", "3")),
        *((text, "Oslo") for text in ("C) Oslo", "Option C: Oslo", "(C) Oslo", "C. Oslo", "**C) Oslo**")),
        *((text, "Oslo") for text in ("The correct answer is (C).", "Answer: C", 2, "<think>A? no</think>C")),
        *((text, text) for text in ("E", "option 5", "C) Paris", "A and C", "no idea", "It is not Oslo")),
        (7, "7"),
    ],
)
def test_an_option_is_named_as_in_data(tmp_path: Path, text: Any, kept: str) -> None:
    gold = jsonl(tmp_path / "g.jsonl", [{"id": "q0", "question": "?", "choices": CHOICES, "answer": "option 3"}])
    beside = read(predictions(tmp_path, text, choices=CHOICES, answer="C"))
    elsewhere = read(predictions(tmp_path, text), options(gold))
    for system in (beside, elsewhere):
        [row] = system.rows
        assert (row.prediction, row.references) == (kept, ("Oslo",))


def test_how_options_were_named_is_said_in_one_line(tmp_path: Path) -> None:
    texts = ["Oslo", "C", "option 1", "B) Paris", "no idea", "A and C", None]
    system = read(predictions(tmp_path, *texts, choices=CHOICES, answer="C"))
    assert system.notes == (
        "mine: 1 of 7 items have no prediction and count as empty answers",
        "mine: 4 of 6 answers to multiple-choice items name an option (1 by its text, 1 by label and text, 2 by number "
        "or letter); 2 name none, or several, and are compared as text",
    )


def test_right_answers_beside_the_predictions_are_options_too(tmp_path: Path) -> None:
    rows = [
        {"prediction": "B", "answer": 1, "choices": CHOICES},
        {"prediction": "B", "answer": ["A", "option 2"], "choices": CHOICES},
        {"prediction": "B", "answer": "A, B", "choices": {"label": ["A", "B"], "text": ["Rome", "Paris"]}},
        {"prediction": "B", "answer": "Madrid", "choices": CHOICES},
        {"prediction": "B", "answer": "B", "choices": []},
    ]
    system = read(jsonl(tmp_path / "p.jsonl", rows))
    assert [row.references for row in system.rows] == [
        ("Paris",),
        ("Rome", "Paris"),
        ("Rome", "Paris"),
        ("Madrid",),
        ("B",),
    ]
    assert [row.prediction for row in system.rows] == ["Paris", "Paris", "Paris", "Paris", "B"]
    assert "p: 1 right answers of multiple-choice items name no option and are compared as text" in system.notes


def test_options_in_columns_of_a_table(tmp_path: Path) -> None:
    rows = [{"prediction": "b", "answer": "B", "A": "Rome", "B": "Paris"}]
    assert read(table(tmp_path / "p.csv", rows)).rows[0].prediction == "Paris"
    printed = [{"prediction": "2", "label": "b", "choices": "['Rome', 'Paris']"}]
    [row] = read(table(tmp_path / "q.csv", printed)).rows
    assert (row.prediction, row.references) == ("Paris", ("Paris",))


def test_labels_counted_from_0_are_those_of_the_row(tmp_path: Path) -> None:
    """Options that are numbers, with labels from 0: label before text, and a right answer is not read twice."""
    row = {"question": "?", "option_0": "1", "option_1": "2", "option_2": "3", "answer": "0"}
    gold = jsonl(tmp_path / "g.jsonl", [{"id": f"q{n}", **row} for n in range(3)])
    for layout in ("auto", "qa"):
        system = read(predictions(tmp_path, "option 0", "0", "1"), options(gold, format=layout))
        assert [row.prediction for row in system.rows] == ["1", "1", "2"]
        assert [row.references for row in system.rows] == [("1",)] * 3


def test_what_only_looks_like_options_is_left_alone(tmp_path: Path) -> None:
    row = {"prediction": "B", "reference": "B", "options": {"temperature": 0}}
    [item] = read(jsonl(tmp_path / "p.jsonl", [row])).rows
    assert (item.prediction, item.choices) == ("B", ())
    with pytest.raises(DataError, match=r"^p\.jsonl:1: choices: 1 option; a choice needs two"):
        read(jsonl(tmp_path / "p.jsonl", [{"prediction": "B", "reference": "B", "choices": ["x"]}]))


# -- layouts ---------------------------------------------------------------------------------------------------------


def layouts(folder: Path) -> dict[str, Path]:
    """The same three questions, whose right answer is Paris, as every layout of data writes them."""
    import pyarrow
    import pyarrow.parquet

    named = {f"option {n}": text for n, text in enumerate(CHOICES, start=1)}
    teleqna = {name: {"question": question(n), **named, "answer": "option 2: Paris"} for n, name in enumerate(NAMES)}
    csqa = [
        {
            "id": name,
            "answerKey": "B",
            "question": {
                "stem": question(n),
                "choices": [{"label": label, "text": text} for label, text in zip("ABCD", CHOICES, strict=True)],
            },
        }
        for n, name in enumerate(NAMES)
    ]
    qa = [{"id": name, "question": question(n), "answer": "Paris"} for n, name in enumerate(NAMES)]
    turns = [
        {"id": name, "conversations": [{"from": "human", "value": question(n)}, {"from": "gpt", "value": "Paris"}]}
        for n, name in enumerate(NAMES)
    ]
    messages = [
        {
            "id": name,
            "messages": [{"role": "user", "content": question(n)}, {"role": "assistant", "content": "Paris"}],
        }
        for n, name in enumerate(NAMES)
    ]
    prompts = [{"id": name, "prompt": question(n), "completion": "Paris"} for n, name in enumerate(NAMES)]
    squad = [
        {"id": name, "question": question(n), "answers": [{"text": "Paris", "answer_start": 3}]}
        for n, name in enumerate(NAMES)
    ]
    articles = {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": "In Paris.", "qas": squad}]}]}
    flat = [
        {"id": name, "question": question(n), "context": "x", "answers": {"text": ["Paris"], "answer_start": [3]}}
        for n, name in enumerate(NAMES)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(flat), folder / "flat.parquet")
    with zipfile.ZipFile(folder / "zipped.zip", "w") as archive:
        archive.writestr("teleqna.txt", json.dumps(teleqna))
    found = {
        "teleqna": document(folder / "teleqna.txt", teleqna),
        "zip": folder / "zipped.zip",
        "csqa": jsonl(folder / "csqa.jsonl", csqa),
        "csv": table(folder / "qa.csv", qa),
        "tsv": table(folder / "qa.tsv", qa, "\t"),
        "json": document(folder / "qa.json", qa),
        "sharegpt": jsonl(folder / "sharegpt.jsonl", turns),
        "messages": jsonl(folder / "messages.jsonl", messages),
        "prompt": jsonl(folder / "prompt.jsonl", prompts),
        "squad": document(folder / "squad.json", articles),
        "parquet": folder / "flat.parquet",
        "gsm8k": jsonl(folder / "gsm8k.jsonl", [{**row, "answer": "Seine.\n#### Paris"} for row in qa]),
        "by_id": document(folder / "by_id.json", dict.fromkeys(NAMES, "Paris")),
    }
    found["telco_mcq"] = table(
        folder / "mcq.csv",
        [
            {"id": name, "Question": question(n), **{k.title(): v for k, v in named.items()}, "Answer": "2"}
            for n, name in enumerate(NAMES)
        ],
    )
    return found


def test_right_answers_in_every_layout_of_data(tmp_path: Path) -> None:
    for name, path in layouts(tmp_path).items():
        system = read(predictions(tmp_path, "Paris", "Rome", "paris"), options(path))
        assert [row.id for row in system.rows] == NAMES, name
        assert [row.references for row in system.rows] == [("Paris",)] * 3, name
        assert [row.question for row in system.rows] == [None if name == "by_id" else question(n) for n in range(3)]
        assert system.notes[0].endswith("found by id"), name
        if name in ("teleqna", "zip", "csqa", "telco_mcq"):
            assert system.rows[2].prediction == "Paris", name


def test_oran_bench_and_telco_long(tmp_path: Path) -> None:
    """Layouts without ids: by order, said; the numbers before the options go."""
    oran = tmp_path / "fin.json"
    oran.write_text("\n".join(json.dumps([question(n), ["1. Rome", "2. Paris"], "2"]) for n in range(2)))
    system = read(predictions(tmp_path, "2", "B) Paris"), options(oran))
    assert [(row.prediction, row.references) for row in system.rows] == [("Paris", ("Paris",))] * 2
    assert system.notes[0] == "mine.jsonl: right answers of fin.json (oran_bench) found by order"
    candidates = {f"Candidate Answer {n}": text for n, text in enumerate(("Paris", "the city of Paris", ""), start=1)}
    long = table(tmp_path / "long.csv", [{"Question": question(0), **candidates}])
    [row] = read(predictions(tmp_path, "x"), options(long)).rows
    assert row.references == ("Paris", "the city of Paris")


def test_plain_lines_that_end_in_txt_stay_lines(tmp_path: Path) -> None:
    for lines in ("Paris\nRome\n", "[0, 1]\n[2]\n", '"Paris"\n"Rome"\n'):
        (tmp_path / "gold.txt").write_text(lines)
        system = read(predictions(tmp_path, "a", "b"), options(tmp_path / "gold.txt"))
        assert [row.references for row in system.rows] == [(line,) for line in lines.splitlines()]
        assert system.notes[0] == "mine.jsonl: right answers of gold.txt (plain text) found by order"


# -- columns and format ----------------------------------------------------------------------------------------------


OWN = [
    {"Nr": name, "Frage": question(n), "Option A": "Rome", "Option B": "Paris", "Lösung": "B"}
    for n, name in enumerate(NAMES)
]


def test_columns_of_ones_own_in_both_files(tmp_path: Path) -> None:
    gold = table(tmp_path / "own.csv", OWN)
    mine = jsonl(tmp_path / "p.jsonl", [{"No": f"q{n}", "Reply": "B"} for n in (2, 0, 1)])
    for layout, also in (("auto", {}), ("qa", {"question": "Frage"})):
        data = {"columns": {"id": "Nr", "answer": "Lösung", **also}, "format": layout}
        system = read(predictions(tmp_path, "A", "B", "b) Paris"), options(gold, **data))
        assert [row.prediction for row in system.rows] == ["Rome", "Paris", "Paris"]
        assert [row.references for row in system.rows] == [("Paris",)] * 3
    data = {"columns": {"answer": "Lösung", "question": "Frage", "prediction": "Reply"}}
    system = read(mine, options(gold, **data))
    assert [row.prediction for row in system.rows] == ["Paris"] * 3
    assert system.notes[0] == "p.jsonl: right answers of own.csv (table) found by order"


def test_a_prediction_column_of_ones_own_beside_the_right_answers(tmp_path: Path) -> None:
    rows = [{"id": "1", "Reply": "x", "Gold": "y", "label": "z"}]
    [row] = read(jsonl(tmp_path / "p.jsonl", rows), options(columns={"prediction": "Reply", "answer": "Gold"})).rows
    assert (row.prediction, row.references) == ("x", ("y",))


def test_answer_is_the_prediction_where_right_answers_stand_elsewhere(tmp_path: Path) -> None:
    mine = jsonl(tmp_path / "p.jsonl", [{"id": "1", "answer": "x"}])
    gold = jsonl(tmp_path / "g.jsonl", [{"id": "1", "answer": "y"}])
    [row] = read(mine, options(gold)).rows
    assert (row.prediction, row.references) == ("x", ("y",))


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        ({"columns": {"answr": "Lösung"}}, "--columns: there is no field 'answr'", "did you mean `answer`?"),
        ({"columns": {"answer": "Lösung", "context": "Buch"}}, "--columns context=Buch: no file has this", "FIELD=COL"),
        ({}, "cannot tell the format of", "--columns"),
        ({"format": "squad"}, "has no column 'question'", "--columns"),
        ({"format": "csv"}, "--format: there is no format 'csv'", "csqa"),
    ],
)
def test_columns_and_formats_that_do_not_fit(tmp_path: Path, data: dict[str, Any], message: str, hint: str) -> None:
    gold = table(tmp_path / "own.csv", OWN)
    with pytest.raises((DataError, ConfigError)) as caught:
        read(predictions(tmp_path, "A", "B", "C"), options(gold, **data))
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert "data." not in f"{caught.value.message} {caught.value.hint}"


def test_a_bad_row_of_right_answers_is_named(tmp_path: Path) -> None:
    gold = layouts(tmp_path)["csqa"]
    gold.write_text(gold.read_text().replace('"answerKey": "B"', '"answerKey": "F"', 1))
    with pytest.raises(DataError, match=r"^csqa\.jsonl:1: answerKey: 'F' is not among the 4 options"):
        read(predictions(tmp_path, "A", "B", "C"), options(gold))


def test_bad_rows_can_be_left_out_and_keep_their_place(tmp_path: Path) -> None:
    """By order, by question row by row (the question stands twice), and by id: the other items keep their answers."""
    rows = [["Who?", ["1. Rome", "2. Paris"], "2"], ["", ["1. Rome", "2. Paris"], "1"], ["Who?", ["1. a", "2. b"], "1"]]
    oran = jsonl(tmp_path / "fin.json", rows)
    plain = jsonl(tmp_path / "p.jsonl", [{"prediction": text} for text in "221"])
    asked = [
        {"question": "Who?", "prediction": "2"},
        {"question": "", "prediction": "2"},
        {"question": "Who?", "prediction": "1"},
    ]
    for mine, how in ((plain, "order"), (jsonl(tmp_path / "q.jsonl", asked), "question")):
        with pytest.raises(DataError, match=r"^fin\.json:2: question: empty \(") as caught:
            read(mine, options(oran))
        assert "--data on_bad_row=quarantine" in caught.value.hint
        system = read(mine, options(oran, on_bad_row="quarantine"))
        assert [(row.prediction, row.references) for row in system.rows] == [
            ("Paris", ("Paris",)),
            ("2", ()),
            ("a", ("a",)),
        ]
        assert system.notes[0].endswith(f"found by {how}; 1 of its 3 items are bad rows, which give none")
    csqa = layouts(tmp_path)["csqa"]
    csqa.write_text(csqa.read_text().replace('"answerKey": "B"', '"answerKey": "F"', 1))
    system = read(predictions(tmp_path, "A", "B", "C"), options(csqa, on_bad_row="quarantine"))
    assert [(row.id, row.references) for row in system.rows] == [("q0", ()), ("q1", ("Paris",)), ("q2", ("Paris",))]


# -- pairing ---------------------------------------------------------------------------------------------------------


def test_items_without_ids_are_found_by_their_question_and_get_the_right_answers_ids(tmp_path: Path) -> None:
    gold = jsonl(tmp_path / "g.jsonl", [{"id": n, "question": question(n), "answer": f"a{n}"} for n in range(4)])
    one = jsonl(tmp_path / "one.jsonl", [{"question": question(n), "prediction": f"p{n}"} for n in (2, 0, 3)])
    two = jsonl(tmp_path / "two.jsonl", [{"question": f"{question(n)} ", "prediction": "x"} for n in (0, 2, 3)])
    first, second = read_systems([str(one), str(two)], options=options(gold))
    assert [(row.id, row.prediction, row.references) for row in first.rows] == [
        ("2", "p2", ("a2",)),
        ("0", "p0", ("a0",)),
        ("3", "p3", ("a3",)),
    ]
    assert {row.id for row in first.rows} == {row.id for row in second.rows}
    assert first.has_ids
    assert first.notes == (
        "one.jsonl: right answers of g.jsonl (table) found by question; 1 of its 4 items have no prediction and are "
        "not scored",
    )


def test_without_any_ids_items_come_in_the_order_of_the_right_answers(tmp_path: Path) -> None:
    gold = jsonl(tmp_path / "g.jsonl", [{"question": question(n), "answer": f"a{n}"} for n in range(3)])
    mine = jsonl(tmp_path / "p.jsonl", [{"question": question(n), "prediction": f"p{n}"} for n in (2, 0, 1)])
    system = read(mine, options(gold))
    assert [(row.id, row.prediction, row.references) for row in system.rows] == [
        ("1", "p0", ("a0",)),
        ("2", "p1", ("a1",)),
        ("3", "p2", ("a2",)),
    ]
    assert not system.has_ids


def test_ids_of_another_kind_give_way_to_questions(tmp_path: Path) -> None:
    gold = jsonl(tmp_path / "g.jsonl", [{"id": f"u-{n}", "question": question(n), "answer": f"a{n}"} for n in (1, 0)])
    mine = jsonl(tmp_path / "p.jsonl", [{"doc_id": n, "question": question(n), "prediction": "x"} for n in range(2)])
    assert [(row.id, row.references) for row in read(mine, options(gold)).rows] == [("u-0", ("a0",)), ("u-1", ("a1",))]


def test_a_question_that_stands_twice(tmp_path: Path) -> None:
    """By order where the questions agree row by row; else nobody can tell which answer is meant."""
    rows = [{"question": "Who?", "answer": "a"}, {"question": "Who?", "answer": "b"}]
    mine = jsonl(tmp_path / "p.jsonl", [{"question": "Who?", "prediction": text} for text in "xy"])
    assert [row.references for row in read(mine, options(jsonl(tmp_path / "g.jsonl", rows))).rows] == [("a",), ("b",)]
    with pytest.raises(DataError, match=r"two rows for question 'Who\?' with different right answers"):
        read(mine, options(jsonl(tmp_path / "g.jsonl", [*rows, {"question": "When?", "answer": "c"}])))


def test_questions_that_stand_in_one_file_alone(tmp_path: Path) -> None:
    gold = jsonl(tmp_path / "g.jsonl", [{"question": question(n), "answer": f"a{n}"} for n in range(2)])
    mine = jsonl(tmp_path / "p.jsonl", [{"question": question(n), "prediction": "x"} for n in (1, 7)])
    with pytest.raises(DataError, match=r"no right answer for the question 'Which capital, 7\?'"):
        read(mine, options(gold))
    prompts = jsonl(tmp_path / "q.jsonl", [{"prompt": f"<user>{question(n)}", "prediction": "x"} for n in range(2)])
    system = read(prompts, options(gold))  # a rendered prompt is another text: by order, and that is said
    assert [row.references for row in system.rows] == [("a0",), ("a1",)]
    assert system.notes[0].endswith("found by order")
    with pytest.raises(DataError, match=r"has 3 predictions, but .* has 2 right answers"):
        read(jsonl(tmp_path / "r.jsonl", [{"prediction": "x"}] * 3), options(gold))


# -- SQuAD -----------------------------------------------------------------------------------------------------------


def test_squads_own_files(tmp_path: Path) -> None:
    """The official script's figures of these four, by hand: exact 2/4 (s1 but for the article, s2 left open)."""
    questions = [
        {"id": "s1", "question": "1?", "is_impossible": False, "answers": [{"text": "AMF", "answer_start": 4}]},
        {"id": "s2", "question": "2?", "is_impossible": True, "answers": []},
        {"id": "s3", "question": "3?", "is_impossible": True, "answers": []},
        {"id": "s4", "question": "4?", "is_impossible": False, "answers": [{"text": "AMF", "answer_start": 4}]},
    ]
    gold = document(tmp_path / "dev.json", {"data": [{"paragraphs": [{"context": "The AMF.", "qas": questions}]}]})
    mine = document(tmp_path / "pred.json", {"s1": "the AMF", "s2": "", "s3": "AMF", "s4": ""})
    system = read(mine, options(gold))
    assert [(row.id, row.prediction, row.references) for row in system.rows] == [
        ("s1", "the AMF", ("AMF",)),
        ("s2", "unanswerable", ("unanswerable",)),
        ("s3", "AMF", ("unanswerable",)),
        ("s4", "", ("AMF",)),
    ]
    assert "2 of 4 questions are left open by their context" in system.notes[-1]
    nothing = jsonl(tmp_path / "p.jsonl", [{"id": "s2", "prediction": None}])
    assert read(nothing, options(gold)).rows[0].prediction == "", "not answered is not answered with nothing"


def test_texts_by_id_without_right_answers_or_in_another_file(tmp_path: Path) -> None:
    texts = {f"id-{n}": "x" * 2000 for n in range(100)}
    with pytest.raises(DataError) as caught:
        read(document(tmp_path / "x.json", texts))
    assert "holds texts by id (id-0, id-1, " in caught.value.message
    assert len(caught.value.message) < 400
    with pytest.raises(DataError, match="no column with predictions; it has: text, gold"):
        read(jsonl(tmp_path / "x.jsonl", [{"text": "a", "gold": "b"}]))


# -- final answers ---------------------------------------------------------------------------------------------------


def test_final_answers_of_predictions_and_of_right_answers(tmp_path: Path) -> None:
    rows = [
        {"prediction": "9 + 9. #### 18", "answer": "Count.\n#### 18"},
        {"prediction": "It is 19", "answer": "#### 19"},
        {"prediction": "<think>#### 3</think>So\n#### 20.", "answer": "20"},
    ]
    mine = jsonl(tmp_path / "p.jsonl", rows)
    whole = read(mine)
    assert whole.rows[0].prediction == "9 + 9. #### 18"
    assert "--final-answer takes it out" in whole.notes[-1]
    system = read(mine, options(final=("####",)))
    assert [(row.prediction, row.references) for row in system.rows] == [
        ("18", ("18",)),
        ("", ("19",)),
        ("20", ("20",)),
    ]
    assert system.notes[1:] == (
        "p: final answers behind `####` taken out of 2 of 3 predictions; the others hold none and count as "
        "empty answers",
        "p: final answers taken out of 2 of 3 right answers; the others are compared whole",
    )


def test_a_final_answer_names_an_option(tmp_path: Path) -> None:
    row = {"prediction": "Rome is in Italy.\nAnswer: (B)", "answer": "Answer: B", "choices": CHOICES}
    [item] = read(jsonl(tmp_path / "p.jsonl", [row]), options(final=("Answer:",))).rows
    assert (item.prediction, item.references) == ("Paris", ("Paris",))


def test_gsm8ks_right_answers_need_no_mark(tmp_path: Path) -> None:
    gold = jsonl(tmp_path / "g.jsonl", [{"question": "How many?", "answer": "Count.\n#### 18"}])
    mine = jsonl(tmp_path / "p.jsonl", [{"question": "How many?", "prediction": "The answer is 18."}])
    system = read(mine, options(gold, final=("The answer is",)))
    assert [(row.prediction, row.references) for row in system.rows] == [("18", ("18",))]


def test_items_as_they_are_written_are_not_changed(tmp_path: Path) -> None:
    table_read = read_predictions(predictions(tmp_path, "C", choices=CHOICES, answer="C"))
    given_answers("mine", table_read.items, ["####"])
    assert [(item.prediction, item.references) for item in table_read.items] == [("C", ("Oslo",))]
