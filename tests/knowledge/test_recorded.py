"""Recorded outputs: the published ones of a 540B teacher as a whole, and what is refused."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.data.load import read_examples
from understudy.data.tasks import split_answer
from understudy.errors import DataError
from understudy.knowledge import step as registry
from understudy.knowledge.learned_texts import with_rationales
from understudy.knowledge.recorded import NEXT_QUESTION, ParsedOutput, import_recorded, parse_output, read_recorded
from understudy.knowledge.store import as_row, read_step
from understudy.knowledge.text_statistics import figures
from understudy.knowledge.votes import votes
from understudy.recipe import DataConfig
from understudy.recipe.knowledge import FilterConfig, GenerateConfig
from understudy.types import Example, Knowledge, Provenance

CHOICES = ("aquarium", "zoo", "old skyscaper", "museum", "pond")
WHOLE = {"step": "explain", "text": "x", "reasons": []}
STUDY = "commonsense/distilling_step_by_step"
RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
OUTPUTS = json.loads((RESULTS / "recorded_rationales.json").read_text(encoding="utf-8"))["tables"]["outputs"]["rows"]


@pytest.fixture(scope="module")
def palm(shared):
    """The questions and, for each, the rows that their recorded outputs became."""
    config = DataConfig(source=str(shared / STUDY / "cqa_train.json"))
    examples = read_examples(config, config.source).examples
    return examples, list(read_recorded(shared / STUDY / "palm", examples))


def test_the_published_outputs_are_read_almost_all(palm):
    """Three of 9,741 end in "one of these four"."""
    examples, rows = palm
    assert [row.id for row in rows] == [example.id for example in examples]
    unread = [row for row in rows if row.text is None]
    assert len(unread) == 3
    assert 1 - len(unread) / len(rows) >= 0.995
    assert {row.reasons for row in unread} == {("unparseable: its answer names no option",)}
    for row in rows:
        assert row.step == "explain_blind"
        if row.text is not None:
            rationale, answer = split_answer(row.text)
            assert all((rationale, answer))
            assert NEXT_QUESTION not in row.text
    assert (rows[1000].provenance.teacher, rows[1000].provenance.parameters) == ("train_CoT_1.json", {"row": 0})


def test_published_accuracies_of_the_teacher_come_out(palm, shared):
    """Three ways to score an output that is cut before "\\n\\nQ:", in per cent of all 9,741.

    - the gold option's text, case aside, stands behind its last "So the answer is": 77.9;
    - a letter stands right behind "So the answer is" and its option reads like the gold one: 75.8;
    - the first letter behind "So the answer is", also after "either", does: 76.8.

    And stricter, as the filter counts: the output settles on one option and it is the gold one: 75.4.
    """
    examples, rows = palm
    files = sorted((shared / STUDY / "palm").glob("train_CoT_*.json"))
    tails = [
        text.split(NEXT_QUESTION)[0].rpartition("So the answer is")[2].strip()
        for file in files
        for text in json.loads(file.read_text())
    ]
    contained = direct = first = 0
    for example, row, tail in zip(examples, rows, tails, strict=True):
        gold = example.answers[0]
        contained += gold.lower() in tail.lower()
        output = parse_output(f"It is so. So the answer is {tail}", example.choices)
        if isinstance(output, ParsedOutput) and output.places:
            right = example.choices[output.places[0]] == gold
            first += right
            direct += right and tail.startswith("(")
        assert (row.text is None) == isinstance(output, str)
    num = len(examples)
    strict = figures(rows, examples)["explain_blind"]
    found = [len(rows) - 3, contained, direct, first, strict.leads_to_gold * strict.written]
    assert [round(100 * share / num, 1) for share in found[1:]] == [77.9, 75.8, 76.8, 75.4]
    assert [row["share"] for row in OUTPUTS[:5]] == pytest.approx([count / num for count in found])


def test_recorded_outputs_are_taken_over_and_sifted(palm, shared, tmp_path):
    examples, rows = palm
    config = GenerateConfig(steps=("explain_blind",), filter=FilterConfig(leads_to_answer=True))
    some = examples[:2500:2]
    record = import_recorded(shared / STUDY / "palm", some, config, tmp_path)
    step = record.steps["explain_blind"]
    assert record.examples == 1250
    assert step.written == record.finished
    assert step.kept + step.rejected["answer"] + step.rejected.get("restates", 0) >= step.written
    assert 0.7 < step.kept / 1250 < 0.8
    kept = {row.id: row.text for row in read_step(tmp_path, "explain_blind")}
    assert kept == {row.id: row.text for row in rows[:2500:2]}


def test_what_the_filter_takes_of_the_whole_recording_and_what_the_texts_are_like(palm, shared, tmp_path):
    """The figures of docs/results.md, as docs/results/recorded_rationales.json has them."""
    examples, _ = palm
    config = GenerateConfig(steps=("explain_blind",), filter=FilterConfig(leads_to_answer=True))
    step = import_recorded(shared / STUDY / "palm", examples, config, tmp_path).steps["explain_blind"]
    assert (step.asked, step.written, step.kept) == (9741, 9738, 7341)
    assert step.rejected == {"answer": 2394, "restates": 3}
    texts = figures(read_step(tmp_path, "explain_blind"), examples)["explain_blind"]
    answer, restates, kept, words, distractors, names = OUTPUTS[5:]
    assert [row["count"] for row in (OUTPUTS[0], answer, restates, kept)] == [9738, 2394, 3, 7341]
    assert (words["words_mean"], words["words_median"]) == pytest.approx((texts.words_mean, texts.words_median))
    assert distractors["number"] == pytest.approx(texts.distractors_mean)
    assert names["share"] == pytest.approx(texts.names_answer)


def test_human_explanations_are_joined_by_id(palm, shared):
    examples, _ = palm
    rows = list(read_recorded(shared / "commonsense/cos_e/cose_train_v1.11_processed.jsonl", examples[:100]))
    assert [row.id for row in rows] == [example.id for example in examples[:100]]
    assert rows[0].text == "webmath is designed to help you solve"
    assert {row.step for row in rows} == {"explain"}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("Fish live there. So the answer is (e).", ParsedOutput("Fish live there.", "pond", (4,))),
        ("Tall. So the answer is (c) old skyscraper.\n\nQ: More", ParsedOutput("Tall.", "old skyscaper", (2,))),
        ("Odd. So the answer is (b) lamp.", ParsedOutput("Odd.", "lamp", (1,))),
        ("Odd. So the answer is (g) lamp.", ParsedOutput("Odd.", "lamp", ())),
        (
            "X. So the answer is either (a) aquarium, (b) zoo, or (e) pond.",
            ParsedOutput("X.", "aquarium or zoo or pond", (0, 1, 4)),
        ),
        ("X. The answer is: pond", ParsedOutput("X.", "pond", (4,))),
        ("The answer is wet. So the answer is (E) pond", ParsedOutput("The answer is wet.", "pond", (4,))),
        ("So the answer is (a) aquarium.", "unparseable: nothing stands before its answer"),
        ("Fish.\n\nQ: So the answer is (a)", "unparseable: it states no answer"),
        ("Fish. So the answer is one of these.", "unparseable: its answer names no option"),
        ("", "unparseable: it states no answer"),
    ],
)
def test_outputs_taken_apart(output, expected):
    assert parse_output(output, CHOICES) == expected


@given(st.text(max_size=80), st.text(max_size=40), st.lists(st.text(min_size=1, max_size=8), min_size=2, max_size=5))
def test_any_output_can_be_taken_apart(before, after, choices):
    found = parse_output(f"{before} So the answer is {after}", choices)
    if isinstance(found, ParsedOutput):
        assert all((found.rationale, found.answer))
        assert all(0 <= place < len(choices) for place in found.places)


EXAMPLES = (
    Example("a", "Where do fish live?", ("pond",), choices=CHOICES),
    Example("b", "Where are old things?", ("museum",), choices=CHOICES),
)


def written(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_columns_beside_the_text(tmp_path):
    path = written(
        tmp_path / "notes.jsonl",
        {"id": "b", "explanation": "Old things are shown.", "answer": "(d)"},
        {"id": "a", "rationale": "Fish are shown.", "choice": "zoo"},
        {"id": "a", "rationale": "Fish swim.", "step": "revise"},
        {"id": "a", "text": " ", "choice": 0},
        {"id": "elsewhere", "text": "no matter"},
    )
    rows = list(read_recorded(path, EXAMPLES))
    assert [(row.id, row.step, row.text, row.choice) for row in rows] == [
        ("a", "counterfactual", "Fish are shown.", 1),
        ("a", "revise", "Fish swim.", None),
        ("a", "counterfactual", None, 0),
        ("b", "explain_blind", "Old things are shown. So the answer is: museum", None),
    ]
    assert rows[2].reasons == ("empty: no text was recorded",)
    assert rows[3].provenance == Provenance("notes.jsonl", parameters={"row": 0})


@pytest.mark.parametrize(
    ("answer", "text"),
    [(0, "x So the answer is: aquarium"), (1, "x So the answer is: zoo"), ("1", "x So the answer is: aquarium")],
)
def test_an_answer_by_its_number_is_counted_as_in_data(tmp_path, answer, text):
    """Whole numbers from 0, numbers in text from 1 (`data.choices.resolve`)."""
    path = written(tmp_path / "x.jsonl", {"id": "a", "text": "x", "answer": answer})
    row = next(read_recorded(path, EXAMPLES))
    assert (row.step, row.text) == ("explain_blind", text)


def test_half_a_character_is_written_as_a_question_mark(tmp_path):
    path = written(tmp_path / "x.jsonl", {"id": "a", "text": "so \ud800 be it"})
    import_recorded(path, EXAMPLES, GenerateConfig(steps=("explain",)), tmp_path / "out")
    assert next(read_step(tmp_path / "out", "explain")).text == "so ? be it"


def test_rows_of_knowledge_come_back_as_they_were(tmp_path):
    rows = [
        Knowledge("a", "explain", "Fish.", provenance=Provenance("t", "p", {"temperature": 0.5}, 3, 4, 0.1, 2.0)),
        Knowledge("b", "explain", None, reasons=("server: 500",)),
    ]
    written(tmp_path / "explain.jsonl", *map(as_row, rows))
    assert list(read_recorded(tmp_path / "explain.jsonl", EXAMPLES)) == rows
    assert list(read_recorded(tmp_path, EXAMPLES)) == rows


def test_who_has_no_output_says_so(tmp_path):
    path = written(tmp_path / "x.jsonl", {"id": "b", "text": "Old."})
    assert [(row.id, row.reasons) for row in read_recorded(path, EXAMPLES)] == [
        ("a", ("missing: no output was recorded",)),
        ("b", ()),
    ]


def by_order(folder, outputs, questions=EXAMPLES):
    (folder / "outputs").mkdir()
    for number, texts in enumerate(outputs):
        # Ten files and more: 10 comes after 9.
        (folder / "outputs" / f"part_{number + 9}.json").write_text(json.dumps(texts))
    rows = [
        {"id": one.id, "question": one.question, "choices": one.choices, "answer": one.answers[0]} for one in questions
    ]
    written(folder / "questions.jsonl", *rows)
    return folder / "outputs"


@pytest.mark.parametrize("choice", [{}, {"choice": 1}])
def test_of_two_texts_in_one_place_the_first_is_learned_and_the_other_is_told(tmp_path, choice):
    texts = ["Ponds are still and shallow water.", "Nobody sweeps goldfish out of garden pools."]
    path = written(tmp_path / "x.jsonl", *({"id": "a", "text": text, **choice} for text in ["", *texts]))
    step = "counterfactual" if choice else "explain"
    record = import_recorded(path, EXAMPLES, GenerateConfig(steps=(step,)), tmp_path / "out")
    assert [(row.text, row.reasons) for row in read_step(tmp_path / "out", step) if row.id == "a"] == [
        (None, ("empty: no text was recorded",)),
        (texts[0], ()),
        (texts[1], ("duplicate: an earlier text of this example and step is learned",)),
    ]
    assert record.steps[step].rejected == {"duplicate": 1}
    [learned, _] = with_rationales(EXAMPLES, tmp_path / "out", "explain")
    assert (learned.counterfactuals[1] if choice else learned.rationale) == texts[0]


def test_several_answers_of_one_example_are_samples(tmp_path):
    rows = [{"id": "a", "step": "answer", "text": text} for text in ("pond", "zoo", "pond")]
    rows.insert(1, {"id": "a", "step": "answer", "text": "pond", "sample": 7})
    config = GenerateConfig(steps=("answer",))
    import_recorded(written(tmp_path / "x.jsonl", *rows), EXAMPLES, config, tmp_path / "out")
    answers = [row for row in read_step(tmp_path / "out", "answer") if row.id == "a"]
    assert [(row.sample, row.text) for row in answers] == [(0, "pond"), (7, "pond"), (1, "zoo"), (2, "pond")]
    assert all(row.kept for row in answers)
    assert votes(answers, EXAMPLES[0]).num == 4


def test_outputs_without_ids_are_joined_by_order_then_by_id(tmp_path):
    folder = by_order(tmp_path, [["Wet. So the answer is (e)."], ["Old. So the answer is (d)."]])
    rows = list(read_recorded(folder, EXAMPLES[::-1]))
    assert [(row.id, row.text) for row in rows] == [
        ("b", "Old. So the answer is: museum"),
        ("a", "Wet. So the answer is: pond"),
    ]
    assert [row.provenance.teacher for row in rows] == ["part_10.json", "part_9.json"]


def test_a_file_of_questions_that_is_named_goes_before_those_that_lie_there(tmp_path):
    folder = by_order(tmp_path, [["Wet. So the answer is (e)."], ["Old. So the answer is (d)."]])
    beside = next(folder.parent.rglob("questions.jsonl"))
    elsewhere = tmp_path / "elsewhere" / "asked.jsonl"
    elsewhere.parent.mkdir()
    elsewhere.write_text(beside.read_text())
    written(beside, {"id": "z", "question": "Another?", "answer": "x"})
    written(folder / "more.jsonl", {"id": "y", "question": "Yet another?", "answer": "x"})
    with pytest.raises(DataError, match="2 outputs"):
        list(read_recorded(folder, EXAMPLES))
    config = GenerateConfig(steps=("explain_blind",), recorded=str(folder), recorded_questions=str(elsewhere))
    import_recorded(folder, EXAMPLES, config, tmp_path / "out")
    assert [row.text for row in read_step(tmp_path / "out", "explain_blind")] == [
        "Wet. So the answer is: pond",
        "Old. So the answer is: museum",
    ]


def test_lengths_that_differ_are_refused_in_one_line(tmp_path):
    folder = by_order(tmp_path, [["Wet. So the answer is (e)."], ["x", "y"]])
    with pytest.raises(DataError, match=r"^3 outputs in .* for 2 readable questions in .*questions\.jsonl") as raised:
        list(read_recorded(folder, EXAMPLES))
    assert "\n" not in str(raised.value)


def test_another_question_under_the_same_id_is_refused(tmp_path):
    other = (EXAMPLES[0], Example("b", "Something else?", ("museum",), choices=CHOICES))
    folder = by_order(tmp_path, [["Wet. So the answer is (e)."], ["x"]], other)
    with pytest.raises(DataError, match="b is another question"):
        list(read_recorded(folder, EXAMPLES))


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        ([{"id": "z", "text": "x"}], "no output for any of the 2 examples"),
        ([{"text": "x"}], "row 1 has no id"),
        ([{"id": "a", "words": "x"}], "row 1 has no text"),
        ([{"id": "a", "text": "x", "choice": "lamp"}], "choice 'lamp' is none of its options"),
        ([{"id": "a", "text": "x", "sample": "first"}], "row 1: sample 'first' is no number"),
        ([{"id": "a", "text": "x", "answer": 5}], "choice 5 is none of its options"),
        ([{"id": "a", "text": ["x", "y"]}], "row 1: text is no text"),
        ([{"id": "a", **WHOLE, "choice": 5}], "choice 5 is none of its options"),
        ([{"id": "a", **WHOLE, "text": 5}], "row 1 is no row of knowledge: look at its text"),
        ([{"id": "a", **WHOLE, "sample": None}], "look at its sample"),
        ([{"id": "a", **WHOLE, "reasons": "bad"}], "look at its reasons"),
        ([{"id": "a", **WHOLE, "provenance": {"model": "t"}}], "row 1 is no row of knowledge: .*'model'"),
        ([], "no output for any"),
    ],
)
def test_files_that_cannot_be_used_are_refused(tmp_path, rows, match):
    with pytest.raises(DataError, match=match):
        list(read_recorded(written(tmp_path / "x.jsonl", *rows), EXAMPLES))


def test_folders_that_cannot_be_used_are_refused(tmp_path):
    with pytest.raises(DataError, match="no recorded outputs"):
        list(read_recorded(tmp_path, EXAMPLES))
    (tmp_path / "one.json").write_text('["x"]')
    with pytest.raises(DataError, match="which questions"):
        list(read_recorded(tmp_path, EXAMPLES))
    (tmp_path / "one.json").write_text('["x", 3]')
    written(tmp_path / "q.jsonl", {"id": "a", "question": "q", "answer": "x"})
    with pytest.raises(DataError, match="no list of texts"):
        list(read_recorded(tmp_path, EXAMPLES))


def test_rationales_of_a_step_of_your_own_are_judged(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "STEPS", dict(registry.STEPS))
    own = tmp_path / "own.py"
    own.write_text(
        "from understudy.knowledge.step import Question, step\n"
        '@step("short", rationale=True)\ndef short(example, known, draw):\n    yield Question.of("Why?")\n'
    )
    path = written(tmp_path / "x.jsonl", {"id": "a", "step": "short", "text": EXAMPLES[0].answers[0]})
    import_recorded(path, EXAMPLES, GenerateConfig(steps=("short",), own_steps=(str(own),)), tmp_path / "out")
    [reason] = next(read_step(tmp_path / "out", "short")).reasons
    assert reason.startswith("restates")


def test_steps_that_were_not_recorded_are_named(tmp_path):
    path = written(tmp_path / "x.jsonl", {"id": "a", "text": "Old."})
    with pytest.raises(DataError, match=r"rows of explain, and generate\.steps asks for revise"):
        import_recorded(path, EXAMPLES, GenerateConfig(steps=("revise",)), tmp_path / "out")


@pytest.mark.parametrize("row", [{"rationale": "TEXT", "answer": "pond"}, {**WHOLE, "text": "TEXT"}])
def test_recorded_thoughts_are_left_out(tmp_path, row):
    examples = [Example(f"e{n}", "Where is still water?", ("pond",), choices=CHOICES) for n in range(3)]
    texts = ["Okay. No.\n</think>\n\nThe pond is still.", "<thought>Okay, pond", "The pond is still."]
    lines = [{**row, "id": f"e{n}"} | {k: text for k, v in row.items() if v == "TEXT"} for n, text in enumerate(texts)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    half, unclosed, plain = read_recorded(tmp_path / "rows.jsonl", examples)
    assert half.text == plain.text
    assert "Okay" not in half.text
    assert (unclosed.text, unclosed.reasons) == (None, ("unfinished: a thought that was never closed",))


def test_the_thought_before_an_output_is_no_rationale():
    output = "It is a tiger? So the answer is (a).\n</think>\n\nThe pond is still. So the answer is (e) pond."
    assert parse_output(output, CHOICES) == ParsedOutput("The pond is still.", "pond", (4,))
    assert parse_output("<think>So the answer is (a)", CHOICES) == "unfinished: a thought that was never closed"
