"""What the stages of a run ask of a teacher on a server: answers to questions, likelihoods of choices."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.completers.capabilities import writer
from understudy.errors import TeacherError
from understudy.evaluation.predict import answers_alone, row_of
from understudy.files import cache_folder
from understudy.models.decoding import Generated
from understudy.models.load import load_example_tokenizer, load_template
from understudy.pipeline.stages.context import Context, Counter
from understudy.recipe import TeacherConfig
from understudy.records import Prediction
from understudy.teachers.remote import scored
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.training.remote import CACHE, prompt_scorer, trial_ids
from understudy.types import Completion, Example, Message, Request, TokenPrompt, is_passing

UNSCORED = "questions whose choices have no likelihood, for the server scores no prompts"


def check_served(context: Context) -> None:
    """Find out whether each server says what the arms of a run read, before anything is trained.

    Raises:
        TeacherError: it scores no prompts, gives too few tokens, or cannot be reached.
    """
    config, recipe = context.recipe.served_teacher, context.recipe
    if config is not None and recipe.signal_arms:
        template = load_example_tokenizer(config, recipe.data).template
        prompt_scorer(config, template, account=context.run.folder.name)
    for other in recipe.teachers.others.values() if recipe.teachers and recipe.signal_arms else ():
        if other.remote:
            prompt_scorer(other, load_template(other.loaded_as), account=context.run.folder.name)


def served_answers(
    context: Context, config: TeacherConfig, tokenizer: ExampleTokenizer, examples: Sequence[Example]
) -> list[Generated]:
    """The server's greedy answer to each example, in order.

    It is sent the token ids of our own rendering where it takes them, else the turns, which it renders itself.

    Raises:
        TeacherError: it cannot be asked; what it has answered is kept.
    """
    counter = Counter(context.progress, len(examples), "questions")
    template, longest = tokenizer.template, tokenizer.data.max_answer_tokens
    endpoint = config.endpoint.model_copy(update={"max_tokens": longest})
    account = context.run.folder.name
    asked, by_ids = writer(
        endpoint, trial_ids(template), cache_folder(CACHE), account=account, stop_ids=template.stop_ids
    )
    if not by_ids:
        tokenizer.add_note("questions that the server rendered itself, for it takes no token ids")
    requests = (_request(number, example, tokenizer, by_ids) for number, example in enumerate(examples))
    answers: dict[int, Generated] = {}
    for completion in asked.complete(requests):
        place = int(completion.id)
        answers[place] = _generated(completion, examples[place])
        counter(1)
    return [answers[place] for place in range(len(examples))]


def _request(number: int, example: Example, tokenizer: ExampleTokenizer, by_ids: bool) -> Request:
    if by_ids:
        return Request(str(number), (), tokens=TokenPrompt(tuple(tokenizer.prompt_ids(example))))
    turns = tokenizer.turns(example)
    return Request(str(number), tuple(Message(turn["role"], turn["content"]) for turn in turns))


def _generated(completion: Completion, example: Example) -> Generated:
    """An answer; an empty one where the server gave none and never will.

    Raises:
        TeacherError: another time it may.
    """
    kind = completion.reason.partition(":")[0]
    if is_passing(completion.reason) or kind == "budget":
        raise TeacherError(
            f"the server gave no answer to {example.id}: {completion.reason}",
            hint="run the same command again: what it has answered is kept; a budget is raised in teacher",
            retryable=kind != "budget",
        )
    finished = kind != "unfinished"
    text = completion.text or ""
    if completion.value is not None:
        text, finished = completion.value.text, completion.value.finished
    return Generated(text.strip(), completion.output_tokens, finished, completion.seconds)


def served_predictions(
    context: Context, config: TeacherConfig, tokenizer: ExampleTokenizer, examples: Sequence[Example]
) -> list[Prediction]:
    """The server's answers to held-out rows, and the likelihood of the choices where it scores prompts."""
    answers = answers_alone(served_answers(context, config, tokenizer, examples), tokenizer)
    choices = _choices(context, config, tokenizer, [example for example in examples if example.choices])
    return [row_of(example, answer, choices.get(example.id)) for example, answer in zip(examples, answers, strict=True)]


def _choices(
    context: Context, config: TeacherConfig, tokenizer: ExampleTokenizer, examples: Sequence[Example]
) -> dict[str, list[float]]:
    """Mean log-probability a token of each choice, its stop token included, by id of the example."""
    if not examples:
        return {}
    try:
        asked = prompt_scorer(config, tokenizer.template, account=context.run.folder.name)
    except TeacherError as error:
        if error.retryable:
            raise
        tokenizer.notes[UNSCORED] = len(examples)
        return {}
    rows = [(example.id, tokenizer.encode(example, choice)) for example in examples for choice in example.choices]
    requests = [
        Request(name, (), tokens=TokenPrompt(tuple(row.ids), len(row.prompt_ids), config.k)) for name, row in rows
    ]
    scores: dict[str, list[float]] = {}
    for (name, _), score in zip(rows, scored(asked, requests), strict=True):
        scores.setdefault(name, []).append(sum(score.chosen) / len(score.chosen))
    return scores
