"""A teacher writes about examples: what is asked, in which steps, and what is there already."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace

from understudy.completers.factory import build_completer
from understudy.errors import ConfigError, TeacherError
from understudy.knowledge import session_steps as _session_steps  # noqa: F401  (registers them)
from understudy.knowledge import steps as _steps  # noqa: F401  (registers them)
from understudy.knowledge.demonstrations import Demonstration, demonstrated_turns, read_demonstrations
from understudy.knowledge.generation import Progress
from understudy.knowledge.parts import Parts
from understudy.knowledge.plan import plan_steps
from understudy.knowledge.prompting import Prompts
from understudy.knowledge.quality import Filter
from understudy.knowledge.requests import RequestBuilder
from understudy.knowledge.session_knowledge import write_session_knowledge
from understudy.knowledge.step import load_user_steps
from understudy.knowledge.step_counts import count_steps, empty_steps
from understudy.knowledge.store import questions_of, read_step, unfinish
from understudy.recipe.knowledge import GenerateConfig
from understudy.records import WritingNotes
from understudy.types import Completer, Example


def generate(
    examples: Iterable[Example],
    config: GenerateConfig,
    completer: Completer,
    folder: str | os.PathLike[str],
    *,
    demonstrations: Sequence[Demonstration] = (),
    progress: Progress | None = None,
) -> WritingNotes:
    """Have a teacher write about examples; what is in the folder already is not asked for again.

    Args:
        examples: with unique ids; drawn as there is room.
        config: steps, prompts, settings.
        completer: who writes; its cache is what makes every call once when the process is killed.
        folder: of the rows (`knowledge/store.py`).
        demonstrations: shown before each question.
        progress: called with (finished, of how many or 0, note).

    Returns:
        How it went; the same call later goes on with what is left: what failed for a reason that may pass, and, in a
        step of which nothing was kept, whatever did not come at all.

    Raises:
        ConfigError: the section is wrong, or a prompt or a step of your own fails.
        TeacherError: the teacher will answer nothing at all; what was written stays.
        RunError: the folder cannot be written.
    """
    builder = RequestBuilder(config, completer, demonstrations)
    parts = Parts(builder, examples)
    try:
        with parts.open(folder) as store:
            notes = parts.run(store, config, completer, _filter(config, folder), progress)
    except (TeacherError, KeyboardInterrupt):
        _reopen(folder, empty_steps(count_steps(folder, parts.files)))
        raise
    notes = replace(notes, steps=count_steps(folder, parts.written_files(folder)))
    reopened = _reopen(folder, empty_steps(notes.steps))
    write_session_knowledge(folder, parts.names, parts.domains)
    return replace(notes, finished=notes.finished - reopened, left=notes.left + reopened)


def _reopen(folder: str | os.PathLike[str], empty_steps: Iterable[str]) -> int:
    """Where nothing came of a step the fault is none of the questions': whoever has no text there is asked about again.

    Returns:
        The number of these examples.
    """
    lost: dict[bool, set[str]] = {False: set(), True: set()}
    for step in empty_steps:
        asks_of_all = step.endswith(questions_of(""))
        lost[asks_of_all] |= {row.id for row in read_step(folder, step) if row.text is None and row.provenance}
        lost[asks_of_all] |= {step.removesuffix(questions_of(""))} if asks_of_all else set()
    if lost[True]:
        unfinish(folder, lost[True])  # The questions, and the step that builds on them.
    return unfinish(folder, lost[False]) if lost[False] else 0


def check(config: GenerateConfig) -> None:
    """Refuse what can be refused before anything is asked or loaded: steps, prompts, settings, demonstrations, teacher.

    Raises:
        ConfigError: something of it is wrong.
        DataError: the file of demonstrations is.
    """
    if config.recorded_questions and not config.recorded:
        raise ConfigError(
            "generate.recorded_questions says which questions a recording answers, and there is none",
            hint="name the recording in generate.recorded, or leave the field out",
        )
    load_user_steps(config.own_steps)
    plan_steps(config, config.teacher)
    prompts = Prompts(config.prompts, config.steps)
    assert prompts.pairs
    prompts.check()
    if config.demonstrations is not None:
        read_demonstrations(config.demonstrations)
    if config.teacher is not None:
        build_completer(config.teacher)


def _filter(config: GenerateConfig, folder: str | os.PathLike[str]) -> Filter:
    """The filter, with what was kept earlier in mind."""
    row_filter = Filter(config.filter)
    if config.filter.near_duplicate is not None:
        for name in config.steps:
            for row in read_step(folder, name):
                row_filter.remember(row)
    return row_filter


def teaching_examples(config: GenerateConfig, demonstrations: Sequence[Demonstration]) -> list[Example]:
    """The demonstrations as rows to fine-tune a teacher on: each step's question, without shots, and what people wrote.

    Raises:
        ConfigError: as in `generate`.
    """
    load_user_steps(config.own_steps)
    prompts = Prompts(config.prompts, config.steps)
    examples = []
    for planned in plan_steps(config.model_copy(update={"samples": 1})):
        for demonstration in demonstrations:
            for place, (turns, text) in enumerate(demonstrated_turns(demonstration, planned, prompts, config.seed)):
                *earlier, last = (*prompts.system, *turns)
                name = f"{demonstration.example.id}/{planned.name}/{place}"
                examples.append(Example(name, last.content, (text,), history=tuple(earlier)))
    return examples
