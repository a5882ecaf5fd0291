"""From a step and an example to a request, and from its completion to a row of knowledge."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.errors import ConfigError, UnderstudyError
from understudy.files import fingerprint, fingerprint_file
from understudy.knowledge.demonstrations import Demonstration, FewShotTurns
from understudy.knowledge.plan import PlannedStep, plan_steps, settings_of
from understudy.knowledge.prompting import Prompts
from understudy.knowledge.quality import is_judged
from understudy.knowledge.quality import reasons as reasons_of
from understudy.knowledge.step import Question, Skip, StepRandom, load_user_steps
from understudy.recipe import EndpointConfig
from understudy.recipe.knowledge import GenerateConfig, SessionsConfig
from understudy.tokens.thoughts import UNCLOSED, without_thought
from understudy.types import Completer, Completion, Example, Knowledge, Message, Provenance, Request


class RequestBuilder:
    """Builds the requests of a step for an example, and the row of what was answered.

    Attributes:
        plan: the steps in their order.
        prompts: ours, with the user's in their place.
        identity: whatever can change the texts, JSON-able.
    """

    def __init__(self, config: GenerateConfig, completer: Completer, demonstrations: Sequence[Demonstration]) -> None:
        load_user_steps(config.own_steps)
        self._endpoint = config.teacher or getattr(completer, "config", None)
        self._config = config
        self._teacher = completer.name
        self.plan = plan_steps(config, self._endpoint)
        self.prompts = Prompts(config.prompts, config.steps)
        self._shots = FewShotTurns(demonstrations, self.prompts, num=config.shots, seed=config.seed)
        self.identity: dict[str, Any] = {
            "teacher": self._teacher,
            "temperature": self._temperature(None),
            "steps": [settings_of(planned, self.prompts.fingerprint(planned.name)) for planned in self.plan],
            "pairs": fingerprint([[pair.critique, pair.revision] for pair in self.prompts.pairs]),
            "own_steps": [fingerprint_file(Path(path).expanduser()) for path in config.own_steps],
            "shots": [config.shots, fingerprint([repr(demonstration) for demonstration in demonstrations])],
            "seed": config.seed,
            "filter": config.filter.model_dump(),
        }
        if any(planned.step.scope == "dataset" for planned in self.plan):
            self.identity["sessions"] = (config.sessions or SessionsConfig()).model_dump()
            self.identity["prompts"] = [
                self.prompts.fingerprint(name) for planned in self.plan for name in planned.step.reads
            ]

    def questions(self, planned: PlannedStep, example: Example, rows: Sequence[Knowledge]) -> list[Question]:
        """The questions of a step.

        Raises:
            Skip: there is none.
            ConfigError: a step of the user's own fails.
        """
        prior = planned.sees(rows)
        if reason := planned.lacks(prior):
            raise Skip(reason)
        random = StepRandom(self._config.seed, example.id, self.prompts.pairs)
        with _step_faults(planned, example):
            questions = list(planned.step.asks(example, prior, random))
        if not questions:
            raise Skip("nothing to ask")
        return questions

    def request(
        self, name: str, planned: PlannedStep, example: Example, question: Question, sample: int
    ) -> tuple[Request, dict]:
        """The request for a question, and the parameters of its provenance."""
        shots = self._shots.before(planned, example)
        turns = self.prompts.turn(planned.name, example, question)
        # A step that writes the whole conversation may begin it with its own system turn, which then replaces ours.
        system = () if turns[0].role == "system" else self.prompts.system
        leading = turns[:1] if turns[0].role == "system" else ()
        messages = (*system, *leading, *shots, *turns[len(leading) :])
        request = Request(name, messages, question.schema, sample, planned.temperature, planned.max_tokens)
        parameters = {
            "prompt": planned.name,
            "prompt_fingerprint": self.prompts.fingerprint(planned.name),
            "temperature": self._temperature(planned.temperature),
            "max_tokens": planned.max_tokens,
            "shots": len(shots) // 2,
            **question.parameters,
        }
        return request, parameters

    def request_of_all(self, name: str, planned: PlannedStep, question: Question) -> tuple[Request, dict]:
        """The same of a step of the data set: its own messages and nothing before them."""
        request = Request(
            *(name, question.messages, question.schema, question.sample, planned.temperature, planned.max_tokens)
        )
        parameters = {
            "temperature": self._temperature(planned.temperature),
            "max_tokens": planned.max_tokens,
            **question.parameters,
        }
        if isinstance(prompt := parameters.get("prompt"), str):
            parameters["prompt_fingerprint"] = self.prompts.fingerprint(prompt)
        return request, parameters

    def row(
        self,
        planned: PlannedStep,
        example: Example,
        question: Question,
        request: Request,
        parameters: Mapping,
        completion: Completion,
    ) -> Knowledge:
        """What became of a question."""
        text, reasons = None, (completion.reason,) if completion.text is None else ()
        answer = None if completion.text is None else without_thought(completion.text)
        if completion.text is not None and answer is None:
            reasons = (f"unfinished: {UNCLOSED}",)
        elif answer is not None:
            try:
                with _step_faults(planned, example):
                    text = planned.step.read(answer)
                reasons = () if text else ("empty: nothing was left of the answer",)
            except Skip as skip:
                reasons = (f"unusable: {skip}",)
        row = Knowledge(
            example.id,
            planned.name,
            text or None,
            question.choice,
            request.sample,
            reasons,
            Provenance(
                self._teacher,
                messages_fingerprint(request.messages),
                parameters,
                completion.input_tokens,
                completion.output_tokens,
                cost_of(self._endpoint, completion.input_tokens, completion.output_tokens),
                round(completion.seconds, 4),
                completion.cached,
            ),
        )
        # What later steps are to build on is judged now, by itself; the rest when all of the example is there.
        if row.kept and is_judged(row):
            return replace(row, reasons=reasons_of(row, example, self._config.filter))
        return row

    def _temperature(self, step_temperature: float | None) -> float | None:
        return step_temperature if step_temperature is not None else getattr(self._endpoint, "temperature", None)


def messages_fingerprint(messages: Iterable[Message]) -> str:
    """What `Provenance.prompt` holds."""
    return fingerprint([[turn.role, turn.content] for turn in messages])


def cost_of(endpoint: EndpointConfig | None, input_tokens: int, output_tokens: int) -> float | None:
    """What a text cost: tokens · price / 10⁶, read and written; None without prices."""
    if endpoint is None or (endpoint.input_price is None and endpoint.output_price is None):
        return None
    return round(
        (input_tokens * (endpoint.input_price or 0.0) + output_tokens * (endpoint.output_price or 0.0)) / 1e6, 12
    )


@contextmanager
def _step_faults(planned: PlannedStep, example: Example) -> Iterator[None]:
    """Whatever a step raises, in one line that names step and example."""
    try:
        yield
    except (Skip, UnderstudyError):
        raise
    except Exception as error:
        raise ConfigError(
            f"step {planned.name} fails on example {example.id!r}: {type(error).__name__}: {error}",
            hint=f"it stands in {planned.step.origin}",
        ) from error
