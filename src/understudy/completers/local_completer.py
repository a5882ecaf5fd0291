"""A language model in this process, as a `Completer`: in batches, with the same cache and the same checks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from understudy.completers.budget import Amount, Budget
from understudy.completers.cache import AnswerCache, CachedAnswer, clean, request_key
from understudy.completers.faults import Fault
from understudy.completers.response_parsing import read_value
from understudy.completers.usage import Usage
from understudy.files import fingerprint
from understudy.recipe import Device, EndpointConfig, ModelConfig
from understudy.types import Completion, Request

if TYPE_CHECKING:
    from understudy.models.load import Loaded
    from understudy.models.sampling import Sampling


@dataclass(frozen=True)
class _Admitted:
    """A request that the budget has room for: its prompt, and what was reserved for it."""

    prompt: list[int]
    reserved: Amount


class LocalCompleter:
    """Answers with a model of this process; loaded at the first question that the cache cannot answer.

    Requests are drawn and answered `concurrency` at a time. At temperature 0 every sample of a request is the same
    answer; above it each is drawn with a seed that follows from the conversation and the number of the sample, so
    asking again draws the same (as far as `models.sampling` says). An answer that breaks its schema is therefore not
    asked for again.

    Attributes:
        config: the model and its limits.
        usage: what was asked so far.
    """

    def __init__(
        self,
        config: EndpointConfig,
        cache_folder: str | os.PathLike[str] | None = None,
        *,
        account: str = "",
        section: ModelConfig | None = None,
        weights: str | None = None,
        device: Device = "auto",
        seed: int = 0,
    ) -> None:
        """Prepare to answer; nothing is loaded yet.

        Args:
            config: the model and its limits.
            cache_folder: as in `completers.factory.completer`.
            account: as in `completers.factory.completer`.
            section: how the model is loaded; default: as `config.model` names it.
            weights: a folder with other weights for it, such as fine-tuned ones; the cache must then be their own.
            device: where the model goes.
            seed: of weights that are fresh.
        """
        self.config = config
        self._section = section or ModelConfig(model=config.model)
        self._weights = weights
        self._device: Device = device
        self._seed = seed
        self.usage = Usage()
        self._cache = AnswerCache(cache_folder)
        ledger = self._cache if account else AnswerCache()
        self._budget = Budget(ledger, f"{account}/{config.model}", config)

    @property
    def name(self) -> str:
        """The model's name."""
        return self.config.model

    def __repr__(self) -> str:
        return f"LocalCompleter({self.config.model!r})"

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """One completion a request, batch by batch.

        Raises:
            ModelError: the model cannot be loaded.
        """
        source = iter(requests)
        while batch := list(islice(source, self.config.concurrency)):
            keys = [self._key(request) for request in batch]
            cached = {key: self._cache.get(key) for key in keys}
            new = {key: request for key, request in zip(keys, batch, strict=True) if cached[key] is None}
            outcomes: dict[str, CachedAnswer | Fault] = {
                key: answer for key, answer in cached.items() if answer is not None
            }
            outcomes |= self._answer(new)
            for key, request in zip(keys, batch, strict=True):
                # The first of several equal requests paid for all.
                yield self._completion(request, outcomes[key], paid=new.pop(key, None) is not None)

    def _key(self, request: Request) -> str:
        config = self.config
        return request_key(config.model, request, temperature=config.temperature, max_tokens=config.max_tokens)

    @cached_property
    def _model(self) -> Loaded:
        from understudy.errors import ModelError
        from understudy.models.load import Loaded, load_model, load_template, pick_device
        from understudy.tokens.template_checks import embedding_fault, without_embedding

        section, weights = self._section, self._weights
        template = load_template(section, weights=weights)
        model = load_model(section, pick_device(self._device), weights=weights, seed=self._seed)
        columns: Any = model.get_input_embeddings().num_embeddings
        if tokens := without_embedding(template, columns):
            why, hint = embedding_fault(section.model, tokens, columns)
            raise ModelError(why, hint=hint)
        return Loaded(model, template)

    def _answer(self, requests: dict[str, Request]) -> dict[str, CachedAnswer | Fault]:
        """Answers of the model, or faults, by key; what does not fit the budget waits for what those before it cost."""
        outcomes: dict[str, CachedAnswer | Fault] = {}
        while waiting := {key: request for key, request in requests.items() if key not in outcomes}:
            outcomes |= self._answer_within_budget(waiting)
        return outcomes

    def _answer_within_budget(self, requests: dict[str, Request]) -> dict[str, CachedAnswer | Fault]:
        """Of the first that fit the budget together, one at least; those of one length limit go through together."""
        admitted, outcomes = self._admit(requests)
        keys_by_length: dict[int, list[str]] = {}
        for key in admitted:
            keys_by_length.setdefault(self._max_tokens(requests[key]), []).append(key)
        for max_tokens, keys in keys_by_length.items():
            samplings = [self._sampling(requests[key]) for key in keys]
            prompts = {key: admitted[key].prompt for key in keys}
            for key, answer in self._generate(prompts, max_tokens, samplings).items():
                outcomes[key] = self._settled(key, requests[key], answer, admitted[key].reserved)
        return outcomes

    def _admit(self, requests: dict[str, Request]) -> tuple[dict[str, _Admitted], dict[str, CachedAnswer | Fault]]:
        """The first requests that the budget has room for, and the faults of those that can never be answered."""
        admitted: dict[str, _Admitted] = {}
        faults: dict[str, CachedAnswer | Fault] = {}
        for key, request in requests.items():
            prompt, max_tokens = self._prompt(request), self._max_tokens(request)
            if reason := self._too_long(prompt, max_tokens):
                faults[key] = Fault("request", reason)
            elif self._budget.try_reserve(most := self._budget.most(request, max_tokens)):
                admitted[key] = _Admitted(prompt, most)
            elif admitted:
                break  # What is reserved may be given back in part once it is answered.
            else:
                faults[key] = Fault("budget", self._budget.why().removeprefix("budget: "))
        return admitted, faults

    def _max_tokens(self, request: Request) -> int:
        return self.config.max_tokens if request.max_tokens is None else request.max_tokens

    def _too_long(self, prompt: list[int], max_tokens: int) -> str:
        """Why prompt and answer do not fit into the model; empty where they do."""
        from understudy.models.generate import writing_kind

        model = self._model.model
        limit = getattr(model.config, "max_position_embeddings", None)
        if limit is None or max(writing_kind(model).positions(len(prompt), max_tokens)) <= limit:
            return ""
        return f"{len(prompt)} tokens and an answer of {max_tokens} do not fit into the model's {limit}"

    def _prompt(self, request: Request) -> list[int]:
        turns = [{"role": turn.role, "content": turn.content} for turn in request.messages]
        return self._model.template.prompt_ids(turns)

    def _sampling(self, request: Request) -> Sampling:
        from understudy.models.sampling import Sampling

        temperature = self.config.temperature if request.temperature is None else request.temperature
        # Without the model's name: the same weights in another folder draw the same.
        turns = [[turn.role, clean(turn.content)] for turn in request.messages]
        return Sampling(temperature, int(fingerprint([turns, request.sample]), 16))

    def _generate(
        self, prompts: dict[str, list[int]], max_tokens: int, samplings: list[Sampling]
    ) -> dict[str, tuple[CachedAnswer, bool]]:
        from understudy.models.generate import generate

        answers = generate(
            self._model.model,
            self._model.template,
            list(prompts.values()),
            max_new_tokens=max_tokens,
            batch_size=self.config.concurrency,
            samplings=samplings,
        )
        pairs = zip(prompts.items(), answers, strict=True)
        return {
            key: (CachedAnswer(answer.text, len(ids), answer.tokens, answer.seconds), answer.finished)
            for (key, ids), answer in pairs
        }

    def _settled(
        self, key: str, request: Request, generated: tuple[CachedAnswer, bool], reserved: Amount
    ) -> CachedAnswer | Fault:
        answer, finished = generated
        self.usage.calls += 1
        self.usage.input_tokens += answer.input_tokens
        self.usage.output_tokens += answer.output_tokens
        self._budget.settle(reserved, self._budget.amount(answer.input_tokens, answer.output_tokens))
        try:
            if not finished:
                raise Fault("unfinished", "the answer reached max_tokens")
            if not answer.text:
                raise Fault("empty", "the model wrote nothing")
            if request.schema is not None:
                read_value(answer.text, request.schema)
        except Fault as fault:
            self.usage.faults[fault.kind] += 1
            return fault
        self._cache.put(key, self.config.model, answer)
        return answer

    def _completion(self, request: Request, outcome: CachedAnswer | Fault, *, paid: bool) -> Completion:
        self.usage.requests += 1
        if isinstance(outcome, Fault):
            self.usage.missing[outcome.kind] += 1
            return Completion(request.id, None, reason=str(outcome))
        self.usage.answered += 1
        self.usage.cached += not paid
        value = None if request.schema is None else read_value(outcome.text, request.schema)
        seconds = outcome.seconds if paid else 0.0
        return Completion(
            request.id, outcome.text, value, "", outcome.input_tokens, outcome.output_tokens, seconds, cached=not paid
        )
