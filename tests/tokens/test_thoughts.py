"""Of a thought and an answer the answer stays, whoever opened the thought; of a thought that never ends nothing."""

from dataclasses import replace

import pytest

from support.tiny import DATA, examples, parrot, tokenizer
from understudy.errors import RunError
from understudy.evaluation.explanations import generate_task
from understudy.evaluation.predict import dev_scores, predict
from understudy.files import read_jsonl, write_jsonl
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stages import run_stage
from understudy.pipeline.stages.context import as_row
from understudy.recipe import parse_recipe
from understudy.records import AnswersNotes
from understudy.run import Run
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.template import Template
from understudy.tokens.thoughts import has_thought, without_thought

TAGS = ("think", "thinking", "thought", "reasoning")
HALF = "Okay, the user asks why. No.\n</{}>\n\nBecause the pond is still."
ANSWER = "Because the pond is still."


@pytest.mark.parametrize("tag", TAGS)
def test_what_stands_behind_the_closing_tag_is_the_text(tag):
    for text in (HALF, "<{}>\nOkay.\n</{}>\n\n" + ANSWER, "<{}></{}>" + ANSWER, "\n<{}> a </{}> " + ANSWER + "\n"):
        assert without_thought(text.replace("{}", tag)) == ANSWER
        assert has_thought(text.replace("{}", tag))


@pytest.mark.parametrize("tag", TAGS)
def test_a_thought_that_never_closes_leaves_nothing(tag):
    assert without_thought(f"<{tag}>\nOkay, the user asks") is None
    assert without_thought(f"  <{tag}>Okay</{tag}> <{tag}>wait") is None


def test_thoughts_in_a_row_and_within_each_other():
    assert without_thought("<think>a</think>\n<think>b</think>\nc") == "c"
    assert without_thought("<think>a <think>b</think> a</think> c") == "c"
    assert without_thought("<think>a <reasoning>b</reasoning> a</think> c") == "c"
    assert without_thought("hm</think>") == ""


@pytest.mark.parametrize("text", [" It is so. ", "It is <think>so</think>.", "Write <think> first", "", "a < b"])
def test_a_text_without_a_thought_before_it_stays(text):
    assert without_thought(text) == text
    assert not has_thought(text)


THINKING = "no</think>AMF"
UNENDING = "<think>hm"


def thinker(answer):
    """A tokenizer that knows the tags, and a model that says the same to everything."""
    core = tokenizer()
    core.add_tokens(["<think>", "</think>"])
    template = Template(core)
    return template, parrot(template, answer)


def test_predictions_are_what_stands_behind_the_thought_and_count_it():
    template, model = thinker(THINKING)
    reader = ExampleTokenizer(template, DATA)
    rows = predict(model, reader, examples(3), batch_size=2)
    assert [row.prediction for row in rows] == ["AMF"] * 3
    assert reader.notes == {"thoughts before an answer: left out": 3}
    assert [text.text for text in generate_task(model, reader, examples(2), "answer", batch_size=2)] == ["AMF"] * 2


def test_a_prediction_that_never_ends_its_thought_is_empty():
    template, model = thinker(UNENDING)
    reader = ExampleTokenizer(template, DATA)
    rows = predict(model, reader, examples(2), batch_size=2)
    assert [row.prediction for row in rows] == ["", ""]
    assert reader.notes == {"answers that are a thought without end: empty": 2}


def test_right_answers_with_thoughts_are_compared_without_them():
    template, model = thinker(THINKING)
    example = replace(examples(1)[0], answers=("<think>which?</think>\nAMF",))
    reader = ExampleTokenizer(template, DATA)
    assert predict(model, reader, [example], batch_size=1)[0].references == ("AMF",)
    assert dev_scores(reader, [example], batch_size=1)(model)["exact_match"] == 1


@pytest.mark.parametrize(("answer", "kept"), [(THINKING, 3), (UNENDING, 0)])
def test_the_answers_that_a_student_learns_hold_no_thought(tmp_path, answer, kept):
    template, model = thinker(answer)
    for part in (template.tokenizer, model):
        part.save_pretrained(tmp_path / "model")
    section = {"model": str(tmp_path / "model"), "chat_template": template.tokenizer.chat_template}
    recipe = parse_recipe({"teacher": section, "student": section, "output": str(tmp_path / "runs"), "device": "cpu"})
    run = Run.of(recipe)
    run.prepare(recipe)
    unlabelled = [replace(example, answers=()) for example in examples(3)]
    (run.folder / "data").mkdir(parents=True, exist_ok=True)
    write_jsonl(run.folder / "data" / "unlabelled.jsonl", map(as_row, unlabelled))
    write_jsonl(run.folder / "data" / "train.jsonl", [])
    if kept:
        run_stage(stage_of("answers", ""), recipe, run.folder, lambda *_: None)
        rows = list(read_jsonl(run.stage("answers") / "answers.jsonl"))
        assert [row["answers"] for row in rows] == [["AMF"]] * 3
        assert run.notes("answers", AnswersNotes).dropped == {"empty": 0, "unfinished": 0}
    else:
        with pytest.raises(RunError, match="no finished answer to any of 3"):
            run_stage(stage_of("answers", ""), recipe, run.folder, lambda *_: None)
