"""The stages of a student that uses what is known of sessions: what it is shown, what it learns, what it answers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from understudy import build
from understudy.completers.factory import build_completer
from understudy.data.sessions import is_session, session_of
from understudy.data.tasks import split_answer
from understudy.errors import ConfigError, TeacherError
from understudy.evaluation.predict import dev_scores, group_of, row_of
from understudy.files import cache_folder, write_jsonl
from understudy.knowledge.session_knowledge import SESSIONS
from understudy.models.decoding import Generated
from understudy.pipeline.kinds import reads_own_knowledge, stage_of
from understudy.pipeline.stages.context import Context, Counter, rows_of
from understudy.pipeline.stages.jobs import gold_job
from understudy.recipe import EndpointConfig, KnowledgeConfig
from understudy.records import AnswerCost, Prediction
from understudy.sessions.answer_forms import answer_schema
from understudy.sessions.joining import knowledge_in
from understudy.sessions.knowledge import SessionKnowledge
from understudy.sessions.lessons import lessons
from understudy.sessions.retrieval import Retriever, Shown, refuse_held_out
from understudy.sessions.title_clusters import with_categories
from understudy.tokens.collate import ExampleRows
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.prompts import messages
from understudy.tokens.task_rows import encode_groups
from understudy.training.remote import CACHE
from understudy.training.session import TrainingJob
from understudy.types import Completion, Example, Message, Request, is_passing

LEFT_OUT = "pieces of knowledge left out: knowledge.tokens or data.max_length has no room for them"


def knowledge_of(context: Context) -> SessionKnowledge:
    """What is known of the training sessions; nothing where the recipe uses nothing.

    Raises:
        ConfigError: there is no knowledge in the folder.
        DataError: it rests on sessions of the test split.
    """
    config = _config(context)
    if not config.formats:
        return SessionKnowledge()
    own = reads_own_knowledge(context.run_recipe, context.recipe.arm(context.stage.argument))
    knowledge = SessionKnowledge.read(own_folder(context)) if own else knowledge_in(config.folder or "")
    held_out, train = (map(session_of, rows_of(context.run, role)) for role in ("test", "train"))
    refuse_held_out(knowledge, held_out, train, "this run's knowledge" if own else str(config.folder))
    return knowledge


def own_folder(context: Context) -> Path:
    """Where the stage `generate` of this run leaves what it knows of sessions."""
    return context.run.stage(stage_of("generate").name) / SESSIONS


def retriever_of(context: Context) -> Retriever:
    """Looks up what is known; it has seen training sessions alone.

    Raises:
        ConfigError: the rows are no sessions.
    """
    config, rows = _config(context), rows_of(context.run, "train")
    if not all(map(is_session, rows)):
        raise ConfigError("knowledge is of sessions of items, and these rows are none", hint="see data.source")
    train = [session_of(row) for row in rows]
    return Retriever(
        knowledge_of(context),
        train,
        formats=config.formats,
        neighbours=config.neighbours,
        thoughts_before=config.thoughts == "before",
        how=config.vectors,
        model=context.recipe.evaluate.embedding_model,
        categorise=_categorise(train, config.vectors),
    )


def _categorise(train: Sequence[Any], how: str) -> Callable[[Any], Any] | None:
    """Clusters of titles where no training session has a category, as the patterns were mined."""
    clusters = with_categories(train, how=how)[2]
    return None if clusters is None else lambda session: clusters.categorised([session])[0]


def shown_rows(
    retriever: Retriever, config: KnowledgeConfig, tokenizer: ExampleTokenizer, examples: Sequence[Example]
) -> list[Shown]:
    """The rows as a student is put them: as they are, or with what is known, within the budget.

    Knowledge costs what it adds to the prompt in the tokens of the student, template and turns included.

    Args:
        retriever: looks up.
        config: budget, and whether anything stands in the prompt.
        tokenizer: of the student.
        examples: sessions of any split.

    Raises:
        TooLong: a session is too long by itself.
    """
    if not config.in_prompt:
        return [Shown(example) for example in examples]
    longest = tokenizer.data.max_length - tokenizer.data.max_answer_tokens

    def fits(row: Example) -> bool:
        length = _length(tokenizer, row)
        return length <= longest and length - bare(row.id) <= config.tokens

    by_id = {example.id: example for example in examples}

    @functools.cache
    def bare(id: str) -> int:
        return _length(tokenizer, by_id[id])

    shown = retriever.shown(examples, fits)
    if left_out := sum(one.left_out for one in shown):
        tokenizer.notes[LEFT_OUT] = tokenizer.notes.get(LEFT_OUT, 0) + left_out
    return shown


def _length(tokenizer: ExampleTokenizer, example: Example) -> int:
    return len(tokenizer.template.prompt_ids(messages(example, tokenizer.data.system)))


def informed_job(context: Context) -> TrainingJob:
    """What a student is taught of sessions and of what is known of them.

    Raises:
        ConfigError: see `knowledge_of` and `retriever_of`.
        DataError: the same.
    """
    config, size = _config(context), context.recipe.evaluate.batch_size
    retriever, rows = retriever_of(context), rows_of(context.run, "train")

    def dev_score(tokenizer: ExampleTokenizer, dev: Sequence[Example]) -> Any:
        uncounted = dataclasses.replace(tokenizer, notes={})
        shown = [one.example for one in shown_rows(retriever, config, uncounted, dev)]
        return dev_scores(tokenizer, shown, batch_size=size)

    def encode(student: ExampleTokenizer, *_: Any) -> Sequence[Any]:
        return _encoded(retriever, config, student, rows)

    job = gold_job(context.recipe, rows)
    return dataclasses.replace(job, encode=encode, objective=lambda *_: build.gold_objective(), dev_score=dev_score)


def _encoded(
    retriever: Retriever, config: KnowledgeConfig, student: ExampleTokenizer, rows: Sequence[Example]
) -> list[ExampleRows]:
    shown = [one.example for one in shown_rows(retriever, config, student, rows)]
    before = config.thoughts == "before"
    groups = lessons(shown, retriever.statements, retriever.thoughts, weight=config.weight, before=before)
    return encode_groups(groups, student)


# -- answers -----------------------------------------------------------------------------------------------------------


def put_with_knowledge(context: Context, tokenizer: ExampleTokenizer, rows: Sequence[Example]) -> list[Example]:
    """The held-out rows as the arm is asked them; what was shown is written down beside the answers."""
    shown = shown_rows(retriever_of(context), _config(context), tokenizer, rows)
    write_jsonl(
        context.folder / "shown.jsonl",
        (
            {
                "id": one.example.id,
                "tokens": _length(tokenizer, one.example) - _length(tokenizer, row),
                "neighbours": list(one.neighbours),
                "lines": list(one.lines),
                "left_out": one.left_out,
            }
            for one, row in zip(shown, rows, strict=True)
        ),
    )
    return [one.example for one in shown]


def of_rows(answers: Sequence[Prediction], rows: Sequence[Example]) -> list[Prediction]:
    """Answers under the rows as every arm has them: without what was shown, thoughts before an answer taken off."""
    return [
        dataclasses.replace(
            answer,
            context=row.context,
            group=group_of(row),
            prediction=split_answer(answer.prediction or "")[1] or answer.prediction,
        )
        for answer, row in zip(answers, rows, strict=True)
    ]


def served(
    context: Context, endpoint: EndpointConfig, tokenizer: ExampleTokenizer, rows: Sequence[Example], constrained: bool
) -> tuple[list[Prediction], AnswerCost]:
    """The answers of a model on a server, held to a JSON schema where they are constrained, and what they cost.

    Raises:
        TeacherError: it cannot be asked; what it has answered is kept.
    """
    counter = Counter(context.progress, len(rows), "answers")
    config = endpoint.model_copy(update={"max_tokens": tokenizer.data.max_answer_tokens})
    completer = build_completer(config, cache_folder(CACHE), account=context.run.folder.name)
    done: dict[int, Completion] = {}
    for completion in completer.complete(
        _request(number, row, tokenizer, constrained) for number, row in enumerate(rows)
    ):
        _refuse_passing(completion, rows[int(completion.id)])
        done[int(completion.id)] = completion
        counter(1)
    answers = [row_of(row, _generated(done[number]), None) for number, row in enumerate(rows)]
    return answers, _served_cost(endpoint, list(done.values()))


def _request(number: int, row: Example, tokenizer: ExampleTokenizer, constrained: bool) -> Request:
    turns = tuple(Message(turn["role"], turn["content"]) for turn in messages(row, tokenizer.data.system))
    schema = answer_schema(len(session_of(row).items)) if constrained else None
    return Request(str(number), turns, schema=schema)


def _refuse_passing(completion: Completion, row: Example) -> None:
    """An answer that another time may come stops the run; one that never will is empty."""
    budget = completion.reason.startswith("budget")
    if is_passing(completion.reason) or budget:
        raise TeacherError(
            f"the server gave no answer to {row.id}: {completion.reason}",
            hint="run the same command again: what it has answered is kept; a budget is raised in knowledge.endpoint",
            retryable=not budget,
        )


def _generated(completion: Completion) -> Generated:
    finished = completion.reason.partition(":")[0] != "unfinished"
    return Generated((completion.text or "").strip(), completion.output_tokens, finished, completion.seconds)


def _served_cost(endpoint: EndpointConfig, done: Sequence[Completion]) -> AnswerCost:
    read, written = sum(c.input_tokens for c in done), sum(c.output_tokens for c in done)
    prices = (endpoint.input_price, endpoint.output_price)
    priced = None if prices == (None, None) else (read * (prices[0] or 0) + written * (prices[1] or 0)) / 1e6
    return AnswerCost(len(done), read, written, sum(c.seconds for c in done), money=priced)


def _config(context: Context) -> KnowledgeConfig:
    assert context.recipe.knowledge is not None, "the recipe has no section `knowledge`"
    return context.recipe.knowledge
