"""The steps that come with the package.

| step             | the teacher is given                       | and writes                                    |
|------------------|--------------------------------------------|-----------------------------------------------|
| `explain`        | question, choices, gold answer             | why it is right                               |
| `explain_blind`  | question, choices                          | its thoughts, the mark, an answer             |
| `critique`       | as `explain`, the rationale, a request     | what the rationale lacks                      |
| `revise`         | as `critique`, and the critique's first line | a better rationale                          |
| `counterfactual` | question, choices, a wrong one as if right | why it is right; once for every wrong choice  |
| `answer`         | question, choices, the newest rationale    | an answer; `samples` of them                  |
| `paraphrase`     | question                                   | the question in other words                   |
| `new_questions`  | question, choices, gold answer             | another: JSON of question, choices, answer    |

Explanation, critique, revision and counterfactual are those of arXiv 2504.16056, where the counterfactual was drawn for
option (a) only, the gold one included; here it is every wrong one and never the gold. The prompts are ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from understudy.completers.faults import Fault
from understudy.completers.response_parsing import read_value
from understudy.data.option_mentions import folded
from understudy.data.tasks import ANSWER_MARK, wrong_places
from understudy.knowledge.step import RATIONALE, PriorTexts, Question, Skip, StepRandom, step
from understudy.types import Example

NEW_QUESTION = {
    "type": "object",
    "properties": {
        "question": {"type": "string", "pattern": r"\S"},
        "choices": {"type": "array", "items": {"type": "string", "pattern": r"\S"}},
        "answer": {"type": "string", "pattern": r"\S"},
    },
    "required": ["question", "choices", "answer"],
    "additionalProperties": False,
}
"""What `new_questions` has to answer; `choices` is empty where the example has none."""


def gold(example: Example) -> str:
    """The answer to argue for.

    Raises:
        Skip: the example has none.
    """
    if not example.labelled:
        raise Skip("no gold answer")
    return example.answers[0]


def wrong_choices(example: Example) -> list[int]:
    """The places of the options that are not right; an option that reads like the gold answer is right too.

    Raises:
        Skip: no gold answer, no choices, or the gold answer is none of them.
    """
    gold(example)
    if not example.choices:
        raise Skip("no choices")
    wrong = list(wrong_places(example))
    if len(wrong) == len(example.choices):
        raise Skip("the gold answer is none of the choices")
    if not wrong:
        raise Skip("no wrong choice")
    return wrong


@step("explain", rationale=True)
def explain(example: Example, known: PriorTexts, draw: StepRandom) -> Iterator[Question]:
    """Why the gold answer is right."""
    yield Question({"answer": gold(example)})


@step("explain_blind", rationale=True)
def explain_blind(example: Example, known: PriorTexts, draw: StepRandom) -> Iterator[Question]:
    """Thoughts that end in an answer, the gold one hidden: a check of what the teacher knows by itself."""
    yield Question({"mark": ANSWER_MARK})


@step("critique", needs=(RATIONALE,), max_tokens=300)
def critique(example: Example, known: PriorTexts, draw: StepRandom) -> Iterator[Question]:
    """What the rationale lacks, by a request drawn for the example."""
    request = draw.pairs[draw.pair].critique
    yield Question(
        {"answer": gold(example), "rationale": known.rationale(), "request": request}, parameters={"pair": draw.pair}
    )


@step("revise", needs=("critique",), rationale=True, max_tokens=300)
def revise(example: Example, known: PriorTexts, draw: StepRandom) -> Iterator[Question]:
    """A better rationale, by the first line of the critique and the request that belongs to the critique's."""
    lines = (known.text("critique") or "").strip().splitlines()
    yield Question(
        {
            "answer": gold(example),
            "rationale": known.rationale(),
            "critique": lines[0].strip(),
            "request": draw.pairs[draw.pair].revision,
        },
        parameters={"pair": draw.pair},
    )


@step("counterfactual", max_tokens=512)
def counterfactual(example: Example, known: PriorTexts, draw: StepRandom) -> Iterator[Question]:
    """Why a wrong choice is right, as if it was: once for every wrong choice."""
    for place in wrong_choices(example):
        yield Question({"answer": example.choices[place]}, choice=place)


@step("answer", after=(RATIONALE,), sampled=True)
def answer(example: Example, known: PriorTexts, draw: StepRandom) -> Iterator[Question]:
    """The teacher's own answer, by the newest rationale where one was asked for."""
    yield Question({"rationale": known.rationale()})


@step("paraphrase")
def paraphrase(example: Example, known: PriorTexts, draw: StepRandom) -> Iterator[Question]:
    """The question in other words."""
    yield Question()


@step("new_questions", max_tokens=300)
class NewQuestions:
    """Another question of the same kind, with its answer."""

    def asks(self, example: Example, known: PriorTexts, draw: StepRandom) -> Iterator[Question]:
        """One new question an example."""
        yield Question({"answer": gold(example)}, schema=NEW_QUESTION)

    def read(self, text: str) -> str:
        """The JSON value in one line."""
        try:
            value = read_value(text, NEW_QUESTION)
        except Fault as fault:
            # Words around the object are no fault of the question.
            try:
                value = read_value(text[text.find("{") : text.rfind("}") + 1], NEW_QUESTION)
            except Fault:
                raise Skip(str(fault)) from fault
        if value["choices"] and folded(value["answer"]) not in map(folded, value["choices"]):
            raise Skip("the answer is none of the choices")
        return json.dumps(value, ensure_ascii=False)
