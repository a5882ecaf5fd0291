"""Formats on small files written here: TeleQnA, TeleQuAD, the everyday layouts, and what makes a row bad."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.data.benchmark_formats import UNANSWERABLE
from understudy.data.choices import resolve, resolve_all
from understudy.data.formats import FORMATS, detect
from understudy.data.load import load_splits, read_examples
from understudy.data.rows import BadRow, Cell, Row
from understudy.errors import ConfigError, DataError
from understudy.recipe import DataConfig
from understudy.types import Example, Message

TELEQNA = {
    "question 0": {
        "question": "Which function terminates N2? [3GPP Release 15]",
        "option 1": "SMF",
        "option 2": "AMF",
        "option 3": "UPF",
        "answer": "option 2: AMF",
        "explanation": "N2 runs between the RAN and the AMF.",
        "category": "Standards specifications",
    },
    "question 7": {
        "question": "Which function anchors the user plane?",
        "option 1": "UPF",
        "option 2": "NRF",
        "option 3": "UDM",
        "option 4": "PCF",
        "option 5": "AUSF",
        "answer": "option 1: UPF",
        "explanation": "The UPF is the anchor.",
        "category": "Lexicon",
    },
}

TELEQUAD = {
    "version": "2.0",
    "data": [
        {
            "title": "TS 23.501",
            "paragraphs": [
                {
                    "context": "The AMF terminates N2. The SMF terminates N11.",
                    "qas": [
                        {
                            "id": "t1",
                            "question": "What terminates N2?",
                            "answers": [{"text": "The AMF", "answer_start": 0}, {"text": "The AMF", "answer_start": 0}],
                            "is_impossible": False,
                            "type": "fact",
                        },
                        {
                            "id": "t2",
                            "question": "What terminates N6?",
                            "answers": [],
                            "plausible_answers": [{"text": "The SMF", "answer_start": 23}],
                            "is_impossible": True,
                            "type": "unanswerable",
                        },
                    ],
                }
            ],
        }
    ],
}


def read(tmp_path: Path, value: Any, *, name: str = "data.json", labelled: bool = True, **config: Any):
    path = tmp_path / name
    text = value if isinstance(value, str) else json.dumps(value, indent=1)
    path.write_text(text, encoding="utf-8")
    return read_examples(DataConfig(source=str(path), **config), str(path), labelled=labelled)


def adapt(name: str, value: Any, labelled: bool = True) -> Example:
    return FORMATS[name].adapt(Row(value, "file:1", "file-1"), labelled)


@pytest.mark.parametrize("name", ["data.json", "TeleQnA.txt"])
def test_teleqna(tmp_path: Path, name: str) -> None:
    reading = read(tmp_path, TELEQNA, name=name)
    assert reading.format == "teleqna"
    first, second = reading.examples
    assert (first.id, first.answers, first.choices) == ("question 0", ("AMF",), ("SMF", "AMF", "UPF"))
    assert first.rationales == ("N2 runs between the RAN and the AMF.",)
    assert first.meta == {"category": "Standards specifications", "answer_index": 1}
    assert len(second.choices) == 5


def test_teleqna_label_and_text_must_agree(tmp_path: Path) -> None:
    wrong = {"question 0": TELEQNA["question 0"] | {"answer": "option 1: AMF"}, "question 7": TELEQNA["question 7"]}
    (fault,) = read(tmp_path, wrong).faults
    assert str(fault) == "data.json:2: answer: 'option 1: AMF' does not agree with option 1, 'SMF'"


def test_an_option_between_two_others_may_not_be_empty() -> None:
    row = TELEQNA["question 7"] | {"option 2": ""}
    with pytest.raises(BadRow, match="option 2: empty"):
        adapt("teleqna", row)
    assert len(adapt("teleqna", TELEQNA["question 7"] | {"option 5": None}).choices) == 4


def test_the_place_of_an_answer_moves_with_the_blanks_that_go() -> None:
    row = {
        "id": "a",
        "question": "Who?",
        "context": "  The AMF ends N2.",
        "answers": [{"text": " AMF", "answer_start": 5}],
    }
    example = adapt("squad", row)
    assert example.context is not None
    assert example.context[example.meta["answer_start"] :].startswith("AMF ends")
    columns = row | {"answers": {"text": [" AMF"], "answer_start": [5]}}
    assert adapt("squad", columns).meta == example.meta
    assert "answer_start" not in adapt("squad", row | {"answers": [{"text": "AMF", "answer_start": None}]}).meta


def test_telequad_keeps_type_and_says_what_is_unanswerable(tmp_path: Path) -> None:
    reading = read(tmp_path, TELEQUAD)
    assert reading.format == "squad"
    first, second = reading.examples
    assert first.answers == ("The AMF",)
    assert first.meta == {"title": "TS 23.501", "type": "fact", "answer_start": 0}
    assert second.answers == (UNANSWERABLE,)
    assert second.meta == {"title": "TS 23.501", "type": "unanswerable", "impossible": True}
    assert first.context == second.context == "The AMF terminates N2. The SMF terminates N11."


def test_unlabelled_telequad_does_not_tell_what_is_unanswerable(tmp_path: Path) -> None:
    for example in read(tmp_path, TELEQUAD, labelled=False).examples:
        assert example.answers == ()
        assert "impossible" not in example.meta


def test_flat_squad_of_the_hub() -> None:
    row = {"id": "a", "context": "c d", "question": "q", "answers": {"text": ["c"], "answer_start": [0]}}
    assert detect([row]) == "squad"
    assert adapt("squad", row).answers == ("c",)
    assert adapt("squad", row | {"answers": {"text": [], "answer_start": []}}).answers == (UNANSWERABLE,)


def test_a_broken_paragraph_is_one_bad_row_with_its_place(tmp_path: Path) -> None:
    article = TELEQUAD["data"][0]
    broken = {"data": [article | {"paragraphs": [*article["paragraphs"], {"context": "c"}]}]}
    reading = read(tmp_path, broken)
    assert len(reading.examples) == 2
    assert str(reading.faults[0]) == "data.json:3 paragraphs[1]: no list `qas` of questions"


def test_messages_learn_the_last_turn() -> None:
    turns = [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ("user", "N2?"), ("assistant", "AMF")]
    row = {"messages": [{"role": role, "content": text} for role, text in turns], "kind": "chat"}
    example = adapt("messages", row)
    assert example.question == "N2?"
    assert example.answers == ("AMF",)
    assert example.history == (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello"))
    assert example.meta == {"kind": "chat"}
    assert adapt("messages", row, labelled=False).question == "N2?"
    assert adapt("messages", {"messages": json.dumps(row["messages"])}).answers == ("AMF",)  # a cell of a table


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([], r"^messages: expected a list"),
        ([{"role": "user", "content": "q"}], r"^messages\[0\]\.role: the last turn"),
        ([{"role": "boss", "content": "q"}], r"^messages\[0\]\.role: 'boss' is none of"),
        ([{"role": "user", "content": ["q"]}], r"^messages\[0\]\.content: expected text, found a list"),
        ([{"role": "assistant", "content": "a"}], r"^messages: the turn before the answer"),
    ],
)
def test_bad_messages_are_named_by_turn(turns: list, message: str) -> None:
    with pytest.raises(BadRow, match=message):
        adapt("messages", {"messages": turns})


def test_prompt_and_completion_in_both_forms() -> None:
    turns = {
        "prompt": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}],
        "completion": [{"role": "assistant", "content": "a"}],
    }
    assert adapt("prompt", {"prompt": "q", "completion": "a"}).answers == ("a",)
    example = adapt("prompt", turns)
    assert (example.question, example.answers, example.history) == ("q", ("a",), (Message("system", "s"),))


def test_prompt_that_begins_with_a_bracket_is_text() -> None:
    assert adapt("prompt", {"prompt": "[N2] what is it?", "completion": "a"}).question == "[N2] what is it?"


@pytest.mark.parametrize(
    ("choices", "answer", "place"),
    [
        (["a x", "b x", "c x"], "Option 3", 2),
        (["a x", "b x", "c x"], "3", 2),
        (["a x", "b x", "c x"], "(2)", 1),
        (["a x", "b x", "c x"], "B", 1),
        (["a x", "b x", "c x"], "b)", 1),
        (["a x", "b x", "c x"], 0, 0),
        (["a x", "b x", "c x"], "B x.", 1),
        (["a x", "b x", "c x"], "C: c x", 2),
        (["2", "3", "4"], "3", 1),  # the text goes before the number
        (["C", "D", "A"], "A", 2),
    ],
)
def test_ways_to_name_an_option(choices: list[str], answer: Any, place: int) -> None:
    assert resolve(answer, choices, "answer") == place


@pytest.mark.parametrize(
    "answer",
    [
        *("B", "b)", "(B)", "[B]", "B.", "Option B", "option b", "Choice B", "**B**", "__B__", "`B`", "**B)**", "- B"),
        *("**B**.", "- B)", "* **B.**", "• B", "– B)", "Answer: B", "The correct answer is B.", "**Option B**"),
        *("**Option B:** b x", "B) b x", "- B) b x", "**B**: b x", "**B. b x**", "B - b x", "B – b x", "[B] b x"),
        *("- b x", "**b x**", "b  x."),
    ],
)
def test_a_letter_names_its_option_in_whatever_dress(answer: str) -> None:
    assert resolve(answer, ["a x", "b x", "c x"], "answer") == 1


def test_an_answer_that_is_a_number_is_an_option_before_it_counts_one() -> None:
    assert resolve("Answer: 3", ["7", "3", "5"], "answer") == 1
    assert resolve("Option 3", ["7", "3", "5"], "answer") == 2
    assert resolve("Answer: 2", ["7", "3", "5"], "answer") == 1


def test_options_that_bring_their_labels_along_are_named_without_them() -> None:
    choices = ["A) AMF", "B) SMF", "C) UPF"]
    for answer in ("SMF", "B", "B) SMF", "**B) SMF**", "option B: SMF"):
        assert resolve(answer, choices, "answer") == 1


def test_an_option_differs_from_its_answer_by_blanks_or_case_only_where_no_other_does() -> None:
    choices = ["Vehicle-to-infrastructure (V2I)", "Vehicle-to-vehicle (V2V)", "mW", "MW"]
    assert resolve("Vehicle-to-infrastructure(V2I)", choices, "answer") == 0
    assert resolve("option 2: vehicle-to-vehicle(V2V).", choices, "answer") == 1
    assert [resolve(answer, choices, "answer") for answer in ("mW", "MW", "MW.")] == [2, 3, 3]
    with pytest.raises(BadRow, match="'mw' may be option 3 or option 4"):
        resolve("mw", choices, "answer")


@pytest.mark.parametrize(
    ("answer", "places"),
    [
        ("A, C", [0, 2]),
        ("A,C", [0, 2]),
        ("C and A", [2, 0]),
        ("A; C", [0, 2]),
        ("A/C", [0, 2]),
        ("A & C", [0, 2]),
        ("**A**, **C**", [0, 2]),
        ("**A, C**", [0, 2]),
        ("Option 1, Option 3", [0, 2]),
        ("1, 3", [0, 2]),
        ("1,3", [0, 2]),
        ("- A\n- C", [0, 2]),
        ("- A) a, x\n- C) c, x", [0, 2]),
        ("A) a, x, C) c, x", [0, 2]),
        ("a, x; c, x", [0, 2]),
        (["A", "C"], [0, 2]),
        ([0, 2], [0, 2]),
        (["a, x", "Option 3"], [0, 2]),
        ("A, A", [0]),
        ("B", [1]),
    ],
)
def test_several_right_options(answer: Any, places: list[int]) -> None:
    choices = ("a, x", "b, x", "c, x")
    assert resolve_all(answer, choices, "answer") == places
    for name, row in {
        "qa": {"question": "q", "choices": list(choices), "answer": answer},
        "teleqna": {"question": "q", **{f"option {n}": text for n, text in enumerate(choices, 1)}, "answer": answer},
        "telco_mcq": {"Question": "q", **{f"Option {n}": text for n, text in enumerate(choices, 1)}, "Answer": answer},
        "csqa": {"question": "q", "choices": {"label": ["A", "B", "C"], "text": choices}, "answerKey": answer},
    }.items():
        example = adapt(name, row)
        assert example.answers == tuple(choices[place] for place in places)
        assert example.meta["answer_index"] == places[0]
        assert example.meta.get("answer_indices", [places[0]]) == places
        assert adapt(name, row, labelled=False).answers == ()


@pytest.mark.parametrize("answer", ["A, D", "A, b y", [], ["A", "D"], "and", ", "])
def test_several_options_one_of_which_is_none_are_a_bad_row(answer: Any) -> None:
    with pytest.raises(BadRow, match=r"^answer"):
        resolve_all(answer, ["a x", "b x", "c x"], "answer")


def test_a_number_with_a_comma_is_no_pair_of_options() -> None:
    with pytest.raises(BadRow, match="'1,2' is not among"):
        resolve_all("1,2", ["1,5", "2,5", "3,5"], "answer")


def test_oran_bench_with_several_right_numbers() -> None:
    value = ["q", ["1. a", "2. b", "3. c"], "1, 3"]
    example = adapt("oran_bench", value)
    assert (example.answers, example.meta) == (("a", "c"), {"answer_index": 0, "answer_indices": [0, 2]})
    assert adapt("oran_bench", [*value[:2], ["1", "3"]]).answers == ("a", "c")


def header(layout: str, count: int) -> str:
    names = {
        "telco_mcq": [f"Option {n}" for n in range(1, count + 1)],
        "teleqna": [f"option {n}" for n in range(1, count + 1)],
        "underscores": [f"option_{n}" for n in range(1, count + 1)],
        "letters": [f"Choice {chr(64 + n)}" for n in range(1, count + 1)],
        "mmlu": [chr(64 + n) for n in range(1, count + 1)],
    }[layout]
    small = layout in ("teleqna", "underscores")
    return ",".join(["question" if small else "Question", *names, "answer" if small else "Answer", "Explanation"])


@pytest.mark.parametrize("layout", ["telco_mcq", "teleqna", "underscores", "letters", "mmlu"])
@pytest.mark.parametrize("count", [2, 3, 4, 5, 7, 12])
def test_every_option_column_is_read(tmp_path: Path, layout: str, count: int) -> None:
    cells = [f"text {n}" for n in range(1, count + 1)]
    last = "ABCDEFGHIJKL"[count - 1]
    rows = [f"full?,{','.join(cells)},{last},because", f"fewer?,{','.join(cells[:2])}{',' * (count - 2)},B,because"]
    full, fewer = read(tmp_path, "\n".join([header(layout, count), *rows]), name="t.csv").examples
    assert full.choices == tuple(cells)
    assert full.answers == (cells[-1],)
    assert full.meta["answer_index"] == count - 1
    assert (fewer.choices, fewer.answers) == (tuple(cells[:2]), ("text 2",))


def test_options_counted_from_0_are_named_so() -> None:
    row = {"question": "q", "option 0": "a", "option 1": "b", "option 2": "c", "answer": "Option 2"}
    assert adapt("qa", row).answers == ("c",)
    assert adapt("qa", row | {"answer": "0"}).answers == ("a",)
    assert adapt("qa", row | {"answer": "B"}).answers == ("b",)


@pytest.mark.parametrize("options", [["one", "two"], {"A": "one", "B": "two"}, Cell('["one", "two"]')])
def test_options_under_that_name_are_read(options: Any) -> None:
    example = adapt("qa", {"question": "q", "options": options, "answer": "B"})
    assert (example.choices, example.answers) == (("one", "two"), ("two",))


def test_reference_answers_in_any_number_of_columns(tmp_path: Path) -> None:
    names = ",".join(f"Candidate Answer {n}" for n in range(1, 12))
    text = f"Question,{names}\nq,{','.join(f'a{n}' for n in range(1, 12))}\nr,b1{',' * 10}\n"
    first, second = read(tmp_path, text, name="t.csv").examples
    assert first.answers == tuple(f"a{n}" for n in range(1, 12))
    assert (second.answers, second.meta) == (("b1",), {})


def test_an_answer_spelled_otherwise_than_its_option_is_taken_and_counted(tmp_path: Path) -> None:
    options = {"option 1": "Vehicle-to-vehicle (V2V)", "option 2": "Vehicle-to-infrastructure (V2I)"}
    answers = [
        "option 2: Vehicle-to-infrastructure(V2I)",
        "vehicle-to-vehicle (V2V).",
        "option 1: Vehicle-to-vehicle (V2V)",
    ]
    rows = {f"question {n}": {"question": f"q{n}", **options, "answer": answer} for n, answer in enumerate(answers)}
    reading = read(tmp_path, rows)
    assert [example.answers[0] for example in reading.examples] == [options["option 2"], *[options["option 1"]] * 2]
    assert reading.blemishes == {"answers told from their option by blanks, case or a full stop": 2}
    splits = load_splits(DataConfig(source=str(tmp_path / "data.json"), dev=0, test=0))
    assert splits.notes["blemishes"] == reading.blemishes


def test_an_empty_further_answer_is_left_out_and_counted(tmp_path: Path) -> None:
    def answers(*texts: str) -> list[dict]:
        return [{"text": text, "answer_start": 0} for text in texts]

    qas = [
        {"id": "a", "question": "q", "answers": answers("c", ""), "is_impossible": False},
        {"id": "b", "question": "r", "answers": answers("c", "c d"), "is_impossible": False},
        {"id": "c", "question": "s", "answers": answers("", "c"), "is_impossible": False},
    ]
    reading = read(tmp_path, {"data": [{"paragraphs": [{"context": "c d", "qas": qas}]}]})
    assert [example.answers for example in reading.examples] == [("c",), ("c", "c d")]
    assert reading.blemishes == {"further answers that were empty": 1}
    assert [fault.reason for fault in reading.faults] == ["empty"]
    assert adapt("qa", {"question": "q", "answers": ["a", " ", "b"]}).answers == ("a", "b")
    with pytest.raises(BadRow, match=r"^answers\[0\]: empty"):
        adapt("qa", {"question": "q", "answers": ["", "a"]})


@pytest.mark.parametrize(
    ("name", "row", "field"),
    [
        ("messages", {"messages": [{"content": "q"}]}, "messages[0].role"),
        ("messages", {"messages": [{"role": "user"}]}, "messages[0].content"),
        ("messages", {}, "messages"),
        ("squad", {"question": "q", "context": "c", "answers": [{"answer_start": 1}]}, "answers[0].text"),
        ("squad", {"question": "q", "context": "c"}, "answers"),
        ("csqa", {"question": {"choices": ["a", "b"]}, "answerKey": "A"}, "question.stem"),
        ("csqa", {"choices": ["a", "b"], "answerKey": "A"}, "question.stem"),
        ("csqa", {"question": "q", "answerKey": "A"}, "question.choices"),
        ("csqa", {"question": "q", "choices": ["a", "b"]}, "answerKey"),
        ("qa", {"question": "q"}, "answer"),
        ("prompt", {"prompt": "q"}, "completion"),
    ],
)
def test_a_field_that_is_absent_is_called_that(name: str, row: dict, field: str) -> None:
    with pytest.raises(BadRow) as caught:
        adapt(name, row)
    assert str(caught.value) == f"{field}: absent"


@pytest.mark.parametrize("answer", ["Option 4", "0", "D", 3, -1, "d x", "A: b x", "", None, True, 1.5])
def test_an_answer_that_is_no_option_is_a_bad_row(answer: Any) -> None:
    with pytest.raises(BadRow, match=r"^answer: "):
        resolve(answer, ["a x", "b x", "c x"], "answer")


def test_own_labels_go_before_everything_else() -> None:
    choices = [{"label": "X", "text": "Y"}, {"label": "Y", "text": "X"}]
    example = adapt("qa", {"question": "q", "choices": choices, "answer": "X"})
    assert example.answers == ("Y",)


@pytest.mark.parametrize(
    "choices",
    [
        ["one", "two"],
        '["one", "two"]',
        {"label": ["A", "B"], "text": ["one", "two"]},
        [{"label": "A", "text": "one"}, {"label": "B", "text": "two"}],
    ],
)
def test_choices_in_every_layout(choices: Any) -> None:
    example = adapt("qa", {"question": "q", "choices": choices, "answer": "B"})
    assert (example.choices, example.answers) == (("one", "two"), ("two",))


def test_columns_that_merely_begin_like_options_are_none() -> None:
    row = {"question": "q", "answer": "a", "options": "fast, cheap", "choices_note": "n"}
    example = adapt("qa", row)
    assert example.choices == ()
    assert example.meta == {"options": "fast, cheap", "choices_note": "n"}


def test_several_answers_and_a_system_prompt() -> None:
    example = adapt("qa", {"question": "q", "answers": ["a", "b"], "system": "s", "rationale": "r"})
    assert (example.answers, example.rationales, example.history) == (("a", "b"), ("r",), (Message("system", "s"),))


def test_table_headers_may_be_capitalised(tmp_path: Path) -> None:
    reading = read(tmp_path, "Question,Answer,Topic\nWhat?,That,x\n", name="t.csv")
    assert reading.examples[0].answers == ("That",)
    assert reading.examples[0].meta == {"Topic": "x"}


def test_columns_are_renamed_and_errors_speak_of_the_users_own(tmp_path: Path) -> None:
    text = "Query,Reply\nWhat?,That\nWho?,\n"
    reading = read(tmp_path, text, name="t.csv", columns={"question": "Query", "answer": "Reply"})
    assert reading.examples[0].question == "What?"
    assert str(reading.faults[0]) == "t.csv:3: Reply: empty"


def test_a_missing_column_is_one_line_with_those_there_are(tmp_path: Path) -> None:
    for text, config in [
        ("Query,Reply\nWhat?,That\n", {"format": "qa"}),
        ("Query,Reply\nWhat?,That\n", {"columns": {"question": "Quest", "answer": "Reply"}}),
        ("Query,Remark\nWhat?,That\n", {}),
        ("Title,Reply\nWhat?,That\n", {}),
    ]:
        with pytest.raises(DataError) as caught:
            read(tmp_path, text, name="t.csv", **config)
        assert text.partition("\n")[0].replace(",", ", ") in caught.value.message
        assert "data.columns" in caught.value.hint


def test_many_columns_are_not_all_named(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        read(tmp_path, ",".join(f"c{n}" for n in range(5000)) + "\n" + "," * 4998 + "x,y\n", name="t.csv")
    assert len(caught.value.message) < 400
    assert "c11 … and 4,988 more" in caught.value.message


@pytest.mark.parametrize(
    ("header", "guessed"),
    [
        ("Query,Reply", "Query as question, Reply as answer"),
        ("question,Response", "Response as answer"),
        ("user-input,answer", "user-input as question"),
        ("input,output", "input as question, output as answer"),
        ("prompt,response", "response as completion"),
    ],
)
def test_columns_that_are_plainly_meant_are_guessed_and_said(tmp_path: Path, header: str, guessed: str) -> None:
    reading = read(tmp_path, f"{header}\nWhat?,That\nWho?,\n", name="t.csv")
    assert [(example.question, example.answers) for example in reading.examples] == [("What?", ("That",))]
    assert str(reading.faults[0]) == f"t.csv:3: {header.partition(',')[2]}: empty"
    splits = load_splits(DataConfig(source=str(tmp_path / "t.csv"), dev=0, test=0, on_bad_row="quarantine"))
    assert splits.notes["columns_guessed"] == guessed


def test_an_instruction_with_an_input_and_an_output(tmp_path: Path) -> None:
    row = {"instruction": "Shorten.", "input": "A long text.", "output": "Text."}
    example = read(tmp_path, json.dumps(row), name="t.jsonl").examples[0]
    assert (example.question, example.context, example.answers) == ("Shorten.", "A long text.", ("Text.",))


def test_what_went_into_meta_instead_of_the_id_is_said(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("question_id,question,answer,Topic\n7,q,a,radio\n8,r,b,core\n")
    notes = load_splits(DataConfig(source=str(tmp_path / "t.csv"), dev=0, test=0)).notes
    assert notes["columns_kept_in_meta"] == "question_id, Topic"
    assert notes["ids"] == (
        "made of file and row; data.columns={id: question_id} takes those of question_id, which went into meta"
    )
    config = DataConfig(source=str(tmp_path / "t.csv"), dev=0, test=0, columns={"id": "question_id"})
    splits = load_splits(config)
    assert [example.id for example in splits.train] == ["7", "8"]
    assert splits.notes["columns_kept_in_meta"] == "Topic"
    assert "ids" not in splits.notes


def test_format_and_columns_of_one_source(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("Frage,Antwort,Reply\nq,a,no\n")
    (tmp_path / "dev.csv").write_text("Domanda,Antwort\nr,b\n")
    article = TELEQUAD["data"][0]
    (tmp_path / "test.json").write_text(json.dumps({"data": [article]}))
    config = DataConfig(
        source=str(tmp_path / "train.csv"),
        dev_source=str(tmp_path / "dev.csv"),
        test_source=str(tmp_path / "test.json"),
        format={"source": "qa", "dev": "qa"},
        columns={
            "source": {"question": "Frage", "answer": "Antwort"},
            "dev": {"question": "Domanda", "answer": "Antwort"},
        },
    )
    splits = load_splits(config)
    assert [(rows[0].question, rows[0].answers[0]) for rows in (splits.train, splits.dev, splits.test)] == [
        ("q", "a"),
        ("r", "b"),
        ("What terminates N2?", "The AMF"),
    ]
    assert [source["format"] for source in splits.notes["sources"]] == ["qa", "qa", "squad"]
    common = DataConfig(columns={"question": "Frage", "answer": "A", "test": {"question": "Domanda"}})
    assert common.columns_of("test") == {"question": "Domanda", "answer": "A"}
    assert common.columns_of("dev") == {"question": "Frage", "answer": "A"}


@pytest.mark.parametrize("config", [{"format": {"tset": "qa"}}, {"columns": {"tset": {"question": "q"}}}])
def test_a_source_that_there_is_not_is_named_with_the_nearest(config: dict) -> None:
    with pytest.raises(ValueError, match=r"there is no source 'tset': did you mean `test`\?"):
        DataConfig(**config)


def test_sharegpt_rows_learn_the_last_turn() -> None:
    turns = [("system", "Be brief."), ("human", "Hi"), ("gpt", "Hello"), ("human", "N2?"), ("gpt", "AMF")]
    row = {"id": "s1", "conversations": [{"from": name, "value": text} for name, text in turns], "lang": "en"}
    assert detect([row]) == "sharegpt"
    example = adapt("sharegpt", row)
    assert (example.id, example.question, example.answers, example.meta) == ("s1", "N2?", ("AMF",), {"lang": "en"})
    assert example.history == (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Hello"))
    apart = {"system": "Be brief.", "conversations": row["conversations"][1:]}
    assert adapt("sharegpt", apart).history == example.history
    assert adapt("sharegpt", row, labelled=False).answers == ()
    tools = [("human", "q"), ("function_call", "f()"), ("observation", "1"), ("gpt", "a"), ("human", "r"), ("GPT", "b")]
    called = adapt("sharegpt", {"conversations": [{"from": name, "value": text} for name, text in tools]})
    assert [turn.role for turn in called.history] == ["user", "assistant", "tool", "assistant"]
    assert (called.question, called.answers) == ("r", ("b",))


@pytest.mark.parametrize(
    ("turns", "message"),
    [
        ([{"from": "human", "value": "q"}], r"^conversations\[0\]\.from: the last turn"),
        ([{"from": "boss", "value": "q"}], r"^conversations\[0\]\.from: 'boss' is none of human, gpt"),
        ([{"value": "q"}], r"^conversations\[0\]\.from: absent"),
        ([], r"^conversations: expected a list of messages with `from` and `value`"),
    ],
)
def test_bad_sharegpt_rows_are_named_by_turn(turns: list, message: str) -> None:
    with pytest.raises(BadRow, match=message):
        adapt("sharegpt", {"conversations": turns})


def test_answers_are_needed_in_training_only(tmp_path: Path) -> None:
    text = "question\nWhat?\n"
    with pytest.raises(DataError, match="no column 'answer'"):
        read(tmp_path, text, name="t.csv")
    assert read(tmp_path, text, name="t.csv", labelled=False).examples[0].question == "What?"


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"format": "squat"}, "did you mean `squad`"),
        ({"columns": {"questoin": "q"}}, "did you mean `question`"),
    ],
)
def test_misspelt_settings_name_the_nearest(tmp_path: Path, config: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(tmp_path, "q,answer\na,b\n", name="t.csv", **config)


def test_an_id_that_stands_twice_is_a_bad_row(tmp_path: Path) -> None:
    rows = [{"id": "x", "question": f"q{n}", "answer": "a"} for n in range(2)]
    (fault,) = read(tmp_path, "\n".join(map(json.dumps, rows)), name="t.jsonl").faults
    assert str(fault) == "t.jsonl:2: id: 'x' already stands at t.jsonl:1"


def test_lone_surrogates_are_found_before_a_tokenizer_finds_them(tmp_path: Path) -> None:
    rows = '{"question": "ok?", "answer": "a"}\n{"question": "bad \\ud800", "answer": "a"}\n'
    (fault,) = read(tmp_path, rows, name="t.jsonl").faults
    assert (fault.where, fault.field) == ("t.jsonl:2", "question")


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda text: text.strip()
)


@given(question=TEXT, answer=TEXT, context=TEXT)
def test_text_of_any_script_comes_back(question: str, answer: str, context: str) -> None:
    row = json.loads(json.dumps({"question": question, "answer": [answer], "context": context}))
    row["answers"] = row.pop("answer")
    example = adapt("qa", row)
    assert (example.question, example.answers, example.context) == (
        question.strip(),
        (answer.strip(),),
        context.strip(),
    )


@given(choices=st.lists(st.text("abcxyz ", min_size=2).map(str.strip).filter(lambda t: len(t) > 1), min_size=2))
def test_every_option_is_found_by_text_number_and_letter(choices: list[str]) -> None:
    for place, choice in enumerate(choices[:26]):
        assert choices[resolve(choice, choices, "answer")] == choice
        assert resolve(place, choices, "answer") == place
        assert resolve(f"Option {place + 1}", choices, "answer") == place
        assert resolve(f"{chr(65 + place)}", choices, "answer") == place


def test_json_in_a_cell_is_read_where_several_texts_are_meant_and_only_there() -> None:
    assert adapt("qa", {"question": "q", "answers": Cell('["a", "b"]')}).answers == ("a", "b")
    assert adapt("qa", {"question": "q", "answer": Cell('["a", "b"]')}).answers == ('["a", "b"]',)
    assert adapt("qa", {"question": "q", "answers": Cell("[1, 2]")}).answers == ("[1, 2]",)
    assert adapt("prompt", {"prompt": '["a"] is what?', "completion": '{"json": 1}'}).answers == ('{"json": 1}',)


LISTLIKE = '[{"role": "assistant", "content": "x"}]'


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("qa", {"question": "q", "answers": LISTLIKE}),
        ("qa", {"question": "q", "answers": [LISTLIKE]}),
        ("squad", {"question": "q", "context": "c", "answers": LISTLIKE}),
        ("prompt", {"prompt": "q", "completion": LISTLIKE}),
    ],
)
def test_text_that_looks_like_a_list_is_text_where_the_format_tells_them_apart(name: str, row: dict) -> None:
    assert adapt(name, row).answers == (LISTLIKE,)
    assert adapt("qa", row | {"question": "q", "answers": ["a"], "rationales": "[0, 1]"}).rationales == ("[0, 1]",)


def test_a_cell_of_a_csv_file_holds_several_answers_as_json(tmp_path: Path) -> None:
    text = 'question,answers\nq,"[""a"", ""b""]"\nr,"[0, 1]"\n'
    first, second = read(tmp_path, text, name="t.csv").examples
    assert (first.answers, second.answers) == (("a", "b"), ("[0, 1]",))
