"""The steps: what is asked of which example, in which words, and who may add one."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from understudy.data.tasks import ANSWER_MARK
from understudy.errors import ConfigError, DataError
from understudy.knowledge import step as registry
from understudy.knowledge import steps
from understudy.knowledge.demonstrations import FewShotTurns, demonstrate, parse_demonstrations, read_demonstrations
from understudy.knowledge.pipeline import teaching_examples
from understudy.knowledge.plan import plan_steps
from understudy.knowledge.prompting import SHIPPED_PROMPTS, Prompts, write_prompts
from understudy.knowledge.step import STEPS, PriorTexts, Question, Skip, StepRandom, load_user_steps
from understudy.recipe.knowledge import GenerateConfig
from understudy.types import Example, Knowledge

TIGER = Example(
    "t", "What do people aim to do at work?", ("complete job",), choices=("learn", "complete job", "wear hats")
)
TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",)), min_size=1)
# What would show if a text was taken for part of a prompt.
CODE = st.sampled_from(
    [
        "{{ 7 * 7 }}",
        "{% raw %}",
        "{# gone #}",
        "{{ answer }}",
        "{%- for x in [] -%}",
        "{{ ''.__class__ }}",
        "{",
        "}}",
        "\n",
        " ",
    ]
)
NASTY = st.lists(TEXT | CODE, min_size=1, max_size=5).map("".join)


@pytest.fixture
def own() -> Iterator[None]:
    """Steps registered by a test go with it; those that a command in this process has left are put aside."""
    before = dict(STEPS)
    for name in [name for name, one in STEPS.items() if one.origin != STEPS["explain"].origin]:
        del STEPS[name]
    yield
    STEPS.clear()
    STEPS.update(before)


@cache
def ours() -> Prompts:
    return Prompts()


def asked(name: str, example: Example, *rows: Knowledge, seed: int = 0) -> list[tuple[int | None, str]]:
    prompts = ours()
    made = STEPS[name].asks(example, PriorTexts(rows), StepRandom(seed, example.id, prompts.pairs))
    return [(ask.choice, prompts.turn(name, example, ask)[-1].content) for ask in made]


def row(name: str, text: str | None, choice: int | None = None, **others: object) -> Knowledge:
    return Knowledge("t", name, text, choice, **others)  # pyright: ignore[reportArgumentType]


# What each step asks ------------------------------------------------------------------------------------------------


def test_explain_shows_the_gold_answer_and_explain_blind_does_not() -> None:
    [(_, told)] = asked("explain", TIGER)
    assert told.startswith("What do people aim to do at work?\nA. learn\nB. complete job\nC. wear hats\n\n")
    assert "The right answer is: complete job\n" in told
    [(_, blind)] = asked("explain_blind", TIGER)
    assert blind.count("complete job") == 1, "as an option only"
    assert f'"{ANSWER_MARK}"' in blind


def test_a_question_without_choices_is_not_asked_for_options() -> None:
    example = Example("o", "What does AMF stand for?", ("Access and Mobility Management Function",), context="5G core.")
    for name in ("explain", "explain_blind", "answer"):
        [(_, text)] = asked(name, example)
        assert text.startswith("5G core.\n\nWhat does AMF stand for?\n\n"), name
        assert "option" not in text, name


def test_what_was_written_blind_is_criticised_only_where_there_is_nothing_else() -> None:
    seeing, blind = row("explain", "People work to finish."), row("explain_blind", "Perhaps to sleep.")
    assert (
        PriorTexts((seeing, blind)).rationale() == PriorTexts((blind, seeing)).rationale() == "People work to finish."
    )
    assert PriorTexts((blind,)).rationale() == "Perhaps to sleep."
    assert PriorTexts((seeing, blind, row("revise", "They finish."))).rationale() == "They finish."


def test_revision_sees_the_first_line_of_the_critique_and_the_request_of_the_same_pair() -> None:
    rows = row("explain", "People work to finish."), row("critique", "\n Says nothing of hats. \nNor of learning.")
    pairs = Prompts().pairs
    for seed in range(30):
        pair = pairs[StepRandom(seed, "t", pairs).pair]
        [(_, critique)], [(_, revision)] = (
            asked("critique", TIGER, *rows, seed=seed),
            asked("revise", TIGER, *rows, seed=seed),
        )
        assert pair.critique in critique
        assert pair.revision in revision
        assert "Critique: Says nothing of hats.\n" in revision
        assert "Nor of learning" not in revision
        assert "Explanation: People work to finish.\n" in critique
        assert "Explanation: People work to finish.\n" in revision


def test_ten_pairs_are_drawn_evenly_and_by_seed_and_id_alone() -> None:
    pairs = Prompts().pairs
    assert len(pairs) == len({pair.critique for pair in pairs}) == len({pair.revision for pair in pairs}) == 10
    drawn = Counter(StepRandom(1, f"e{number}", pairs).pair for number in range(5_000))
    assert all(400 < drawn[place] < 600 for place in range(10))
    assert [StepRandom(1, f"e{n}", pairs).pair for n in range(50)] != [
        StepRandom(2, f"e{n}", pairs).pair for n in range(50)
    ]


@given(
    st.lists(st.sampled_from(["a", "b", "B", "b ", "b.", " a", "c", "d e", "d  e"]), min_size=2, max_size=6), st.data()
)
def test_a_counterfactual_is_every_wrong_choice_and_never_the_gold(choices: list[str], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(choices) - 1))
    example = Example("x", "q", (choices[place],), choices=tuple(choices), meta={"answer_index": place})

    def reads(text: str) -> str:
        return " ".join(text.lower().split()).removesuffix(".")

    wrong = [number for number, text in enumerate(choices) if reads(text) != reads(choices[place])]
    if not wrong:
        with pytest.raises(Skip, match="no wrong choice"):
            asked("counterfactual", example)
        return
    found = asked("counterfactual", example)
    assert [choice for choice, _ in found] == wrong
    assert all(
        f"Suppose that the right answer is: {choices[number]}\n" in text for number, text in found if number is not None
    )


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (Example("x", "q", choices=("a", "b")), "no gold answer"),
        (Example("x", "q", ("a",)), "no choices"),
        (Example("x", "q", ("z",), choices=("a", "b")), "the gold answer is none of the choices"),
    ],
)
def test_a_counterfactual_needs_to_know_the_gold_choice(example: Example, reason: str) -> None:
    with pytest.raises(Skip, match=reason):
        asked("counterfactual", example)


def test_an_answer_goes_by_the_newest_rationale_where_there_is_one() -> None:
    [(_, alone)] = asked("answer", TIGER)
    assert "Explanation" not in alone
    [(_, told)] = asked("answer", TIGER, row("explain", "first"), row("revise", "second"))
    assert "Explanation: second\n" in told
    assert "first" not in told
    [(_, kept)] = asked("answer", TIGER, row("explain", "first"), row("revise", "second", reasons=("short",)))
    assert "Explanation: first\n" in kept


def test_new_questions_are_checked() -> None:
    read = STEPS["new_questions"].read
    assert read('Here: {"question": "q?", "choices": ["x", "Y"], "answer": "y"}') == (
        '{"question": "q?", "choices": ["x", "Y"], "answer": "y"}'
    )
    with pytest.raises(Skip, match="none of the choices"):
        read('{"question": "q?", "choices": ["x", "y"], "answer": "z"}')


def test_words_with_braces_around_a_new_question_do_not_end_the_run() -> None:
    read = STEPS["new_questions"].read
    made = '{"question": "q {n}?", "choices": [], "answer": "y"}'
    assert read(f"<think>as {{x}} says</think>\n{made}") == made
    for text in (f"Here {{x}}: {made}", f"{made} hope {{that}} helps", '{"question": "q?"}', "none"):
        with pytest.raises(Skip, match="unparseable"):
            read(text)


def test_a_prompt_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "explain.jinja").write_bytes("café".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"explain\.jinja is not UTF-8"):
        Prompts(tmp_path).check()


# Prompts ------------------------------------------------------------------------------------------------------------


@given(question=NASTY, context=NASTY, choices=st.lists(NASTY, min_size=2, max_size=3, unique=True), rationale=NASTY)
def test_texts_come_out_of_a_prompt_as_they_went_in(
    question: str, context: str, choices: list[str], rationale: str
) -> None:
    example = Example("t", question, (choices[0],), context=context, choices=tuple(choices))
    options = "".join(f"\n{label}. {text}" for label, text in zip("ABC", choices, strict=False))
    whole = f"{context}\n\n{question}{options}\n\n"
    rows = row("explain", rationale), row("critique", "One point.")
    for name in ("explain", "explain_blind", "critique", "revise", "answer", "new_questions"):
        [(_, text)] = asked(name, example, *rows)
        assert text.startswith(whole), name
    [(_, text)] = asked("critique", example, *rows)
    assert text.startswith(f"{whole}The right answer is: {choices[0]}\n\nExplanation: {rationale}\n\n")
    [(_, text)] = asked("paraphrase", example)
    assert text.startswith(f"{context}\n\n{question}\n\nAsk the same")


def test_a_folder_of_your_own_replaces_ours_file_by_file(tmp_path: Path) -> None:
    (tmp_path / "explain.jinja").write_text("Say why: {{ question }} -> {{ answer }}", encoding="utf-8")
    (tmp_path / "pairs.yaml").write_text(
        yaml.safe_dump([{"critique": "Bad?", "revision": "Better!"}]), encoding="utf-8"
    )
    prompts, usual = Prompts(tmp_path), Prompts()
    assert prompts.turn("explain", TIGER, Question({"answer": "x"}))[0].content == f"Say why: {TIGER.question} -> x"
    assert [(pair.critique, pair.revision) for pair in prompts.pairs] == [("Bad?", "Better!")]
    assert prompts.turn("paraphrase", TIGER, Question()) == usual.turn("paraphrase", TIGER, Question())
    assert prompts.fingerprint("explain") != usual.fingerprint("explain")
    assert prompts.fingerprint("paraphrase") == usual.fingerprint("paraphrase")


@pytest.mark.parametrize(
    ("name", "text", "message", "hint"),
    [
        ("explian.jinja", "x", "there is no prompt", "did you mean `explain.jinja`?"),
        ("explain.jinja", "{{ anwser }}", "'anwser' is undefined", "its folder"),
        ("explain.jinja", "{% for %}", "explain.jinja:1: ", "its folder"),
        ("explain.jinja", "{{ question.__class__.__mro__ }}", "unsafe", "its folder"),
        ("explain.jinja", "{{ choices.append(1) }}", "'append' of 'list' object is unsafe", "its folder"),
        ("pairs.yaml", "- critique: only", "no list of pairs", "each needs"),
        ("pairs.yaml", "[]", "is empty", "remove the file"),
    ],
)
def test_a_bad_prompt_is_named_in_one_line(tmp_path: Path, name: str, text: str, message: str, hint: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")

    def use() -> None:
        prompts = Prompts(tmp_path)
        assert prompts.pairs
        prompts.turn("explain", TIGER, Question({"answer": "x"}))

    with pytest.raises(ConfigError) as refused:
        use()
    assert message in refused.value.message
    assert hint in refused.value.hint


def test_our_prompts_are_copied_whole_and_never_over_others(tmp_path: Path) -> None:
    written = write_prompts(tmp_path / "mine")
    assert (
        {path.name for path in written}
        == {path.name for path in SHIPPED_PROMPTS.iterdir()}
        >= {"pairs.yaml", "system.jinja"}
    )
    assert Prompts(tmp_path / "mine").fingerprint("revise") == Prompts().fingerprint("revise")
    with pytest.raises(ConfigError, match="already"):
        write_prompts(tmp_path / "mine")


def test_every_step_has_a_prompt_that_asks_something_of_its_own() -> None:
    rows = row("explain", "r"), row("critique", "c")
    texts = [
        text
        for name in (
            "explain",
            "explain_blind",
            "critique",
            "revise",
            "counterfactual",
            "answer",
            "paraphrase",
            "new_questions",
        )
        for _, text in asked(name, TIGER, *rows)
    ]
    assert len(set(texts)) == len(texts) == 9


# Demonstrations -----------------------------------------------------------------------------------------------------


def people(num: int) -> tuple[list[Example], list[Knowledge]]:
    examples = [Example(f"d{n}", f"question {n}?", ("yes",), choices=("yes", "no", "maybe")) for n in range(num)]
    rows = [Knowledge(each.id, "explain", f"because {each.id}") for each in examples]
    rows += [Knowledge(each.id, "critique", f"lacking {each.id}\nmore") for each in examples]
    rows += [Knowledge(each.id, "revise", f"better {each.id}") for each in examples]
    rows += [Knowledge(each.id, "counterfactual", f"no {each.id}", choice) for each in examples for choice in (1, 2)]
    return examples, rows


def test_shots_are_the_same_for_every_example_and_never_its_own() -> None:
    examples, rows = people(9)
    config = GenerateConfig()
    planned = {each.name: each for each in plan_steps(config)}
    shots = FewShotTurns(demonstrate(examples, rows), Prompts(), num=7, seed=3)
    common = shots.before(planned["explain"], TIGER)
    assert len(common) == 14
    assert common == shots.before(planned["explain"], Example("other", "q", ("a",)))
    assert [turn.role for turn in common] == ["user", "assistant"] * 7
    shown = [turn.content.removeprefix("because ") for turn in common[1::2]]
    assert len(set(shown)) == 7
    for example in examples:
        own = shots.before(planned["explain"], example)
        assert len(own) == 14
        assert example.id not in [turn.content.removeprefix("because ") for turn in own[1::2]]
    revised = shots.before(planned["revise"], TIGER)
    assert revised[1].content == f"better {shown[0]}"
    assert f"Explanation: because {shown[0]}\n\nCritique: lacking {shown[0]}\n\n" in revised[0].content
    wrong = shots.before(planned["counterfactual"], TIGER)
    assert "Suppose that the right answer is: no\n" in wrong[0].content, "a first text of each before a second of any"
    assert (
        FewShotTurns(demonstrate(examples, rows), Prompts(), num=7, seed=4).before(planned["explain"], TIGER) != common
    )
    assert FewShotTurns(demonstrate(examples, rows), Prompts(), num=0, seed=3).before(planned["explain"], TIGER) == ()


def test_demonstrations_stand_alone_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "people.jsonl"
    path.write_text(
        '{"id": "1", "question": "q?", "choices": ["a", "b"], "answers": ["a"], "step": "explain", "text": "t"}\n'
        '{"id": "1", "step": "counterfactual", "choice": 1, "text": "u"}\n',
        encoding="utf-8",
    )
    [shown] = read_demonstrations(path)
    assert shown.example == Example("1", "q?", ("a",), choices=("a", "b"))
    assert [(each.step, each.text, each.choice) for each in shown.rows] == [
        ("explain", "t", None),
        ("counterfactual", "u", 1),
    ]
    taught = teaching_examples(GenerateConfig(steps=("explain", "counterfactual")), [shown])
    assert [(each.id, each.answers) for each in taught] == [("1/explain/0", ("t",)), ("1/counterfactual/0", ("u",))]
    assert "The right answer is: a\n" in taught[0].question
    assert [turn.role for turn in taught[0].history] == ["system"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"choice": "b"}, "no option 'b'"),
        ({"choice": 2}, "no option 2"),
        ({"choice": -1}, "no option -1"),
        ({"answers": "pond"}, "answers and choices are lists"),
        ({"choices": {"label": ["A"], "text": ["x"]}}, "answers and choices are lists"),
        ({"sample": "first"}, "invalid literal"),
    ],
)
def test_demonstrations_that_would_be_misread_are_refused(fields: dict, message: str) -> None:
    row = {"id": "1", "question": "q?", "choices": ["a", "b"], "answers": ["a"], "step": "counterfactual", "text": "t"}
    with pytest.raises(DataError, match=message):
        parse_demonstrations([row | fields], "people.jsonl")


def test_a_demonstration_has_one_question() -> None:
    rows = [
        {"id": "1", "question": "q?", "step": "explain", "text": "t"},
        {"id": "1", "question": "q?", "choices": ["a", "b"], "answers": ["a"], "step": "critique", "text": "u"},
    ]
    [shown] = parse_demonstrations(rows, "people.jsonl")
    assert (shown.example.question, shown.example.choices, shown.example.answers) == ("q?", ("a", "b"), ("a",))
    with pytest.raises(DataError, match="row 3 is no demonstration: '1' has another question further up"):
        parse_demonstrations([*rows, {"id": "1", "question": "other?", "step": "revise", "text": "v"}], "people.jsonl")


def test_a_row_without_a_text_shows_nothing() -> None:
    rows = [{"id": "1", "question": "q?", "step": "explain", "text": None}, {"id": "1", "step": "explain", "text": "t"}]
    [shown] = parse_demonstrations(rows, "people.jsonl")
    assert [each.text for each in shown.rows] == ["t"]


# The plan -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": ["explian"]}, "no step 'explian'"),
        ({"steps": ["critique"]}, "critique needs rationale before it"),
        ({"steps": ["revise", "explain", "critique"]}, "revise needs critique before it"),
        ({"steps": ["explain", "explain"]}, "twice"),
        ({"steps": ["explain"], "temperatures": {"answer": 0.7}}, "generate.temperatures: there is no step 'answer'"),
        ({"steps": ["explain"], "max_tokens": {"explian": 7}}, "generate.max_tokens: there is no step 'explian'"),
        ({"steps": ["answer"], "samples": 5}, "5 answers at temperature 0 are one answer"),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_steps(GenerateConfig.model_validate(fields))


def test_a_step_sees_what_it_waits_for_and_nothing_that_may_or_may_not_be_there() -> None:
    planned = plan_steps(
        GenerateConfig(steps=("paraphrase", "explain", "critique", "revise", "answer", "explain_blind"))
    )
    assert {each.name: each.known for each in planned} == {
        "paraphrase": (),
        "explain": (),
        "critique": ("explain",),
        "revise": ("explain", "critique"),
        "answer": ("explain", "critique", "revise"),
        "explain_blind": (),
    }
    assert {each.name: each.max_tokens for each in planned} == {
        "paraphrase": 160, "explain": 160, "critique": 300, "revise": 300, "answer": 160, "explain_blind": 160
    }  # fmt: skip


# Steps of one's own -------------------------------------------------------------------------------------------------

SUMMARY = '''
from understudy.knowledge.step import Question, step

@step("summary", needs=("explain",))
def summary(example, known, draw):
    """The explanation in one sentence."""
    yield Question.of(f"Say this in one sentence: {known.text('explain')}")
'''


@pytest.mark.usefixtures("own")
def test_a_step_of_your_own_is_one_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(SUMMARY, encoding="utf-8")
    assert load_user_steps([path]) == ["summary"]
    assert load_user_steps([path]) == ["summary"], "reading it again is no clash"
    assert asked("summary", TIGER, row("explain", "long")) == [(None, "Say this in one sentence: long")]
    [_, planned] = plan_steps(GenerateConfig(steps=("explain", "summary")))
    assert planned.direct == ("explain",)


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (", r"mine.py:1: SyntaxError"),
        ("\nraise ValueError('no')", r"mine.py:2: ValueError: no"),
        ("import nothing_of_that_name", r"mine.py:1: ModuleNotFoundError"),
        ("import sys\nsys.exit(3)", r"mine.py:2: SystemExit"),
        ("x = 1", r"registers no step"),
        (SUMMARY.replace('"summary"', '"explain"'), r"there is a step 'explain' already"),
        (SUMMARY.replace('"summary"', '"my step"'), r"'my step' is no name"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.py"
    path.write_text(text, encoding="utf-8")
    before = set(STEPS)
    with pytest.raises(ConfigError, match=message) as refused:
        load_user_steps([path])
    assert "\n" not in textwrap.dedent(refused.value.message)
    assert set(STEPS) == before


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"no such file: nowhere\.py"):
        load_user_steps(["nowhere.py"])


def test_the_house_has_eight_steps_and_three_write_rationales() -> None:
    ours = {name for name, made in STEPS.items() if made.origin == steps.__file__}
    assert len(ours) == 8
    assert {name for name in ours if registry.is_rationale(name)} == {"explain", "explain_blind", "revise"}
