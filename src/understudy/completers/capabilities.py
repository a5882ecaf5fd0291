"""What a server can do, found out by asking: text, log-probabilities of what it writes, of a given prompt, in full.

Nobody's word is taken for it, neither a server's name nor its documentation's: each is asked for, on a prompt of a few
tokens.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from understudy.completers.cache import CachedAnswer
from understudy.completers.interfaces import Chat, Interface
from understudy.completers.openai_completer import ApiCompleter
from understudy.completers.response_parsing import first_choice
from understudy.completers.scoring import SCORING, Written
from understudy.completers.token_texts import TokenTexts
from understudy.completers.usage import Usage
from understudy.errors import TeacherError
from understudy.recipe import EndpointConfig
from understudy.types import Completion, Message, Request, TokenPrompt, is_passing

TRIAL_RETRIES = 2
"""A server that fails at a trial is asked again so often: some fail at whatever they do not know."""
_UNREACHED = ("connection", "timeout", "rate limit")
_QUESTION = (Message("user", "Say yes."),)


@dataclass(frozen=True)
class Capabilities:
    """What a server was found to do.

    Attributes:
        chat: answers conversations.
        continues: writes behind token ids.
        written: gives log-probabilities of what it writes.
        scoring: how it scores a given prompt (`scoring.SCORING`); empty where it does not.
        k: the most tokens that it was asked for and gave at a place.
        full: gives every token of the vocabulary.
        reasons: what it cannot do → why, in its own words.
    """

    chat: bool = False
    continues: bool = False
    written: bool = False
    scoring: str = ""
    k: int = 0
    full: bool = False
    reasons: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> list[str]:
        """What it can do, by name."""
        parts = ["text"] if self.chat or self.continues else []
        parts += ["log-probabilities of what it writes"] if self.written else []
        parts += [f"log-probabilities of a given prompt (k = {self.k}, by {self.scoring})"] if self.scoring else []
        return [*parts, "full"] if self.full else parts


class _WithLogprobs(Written):
    """Text behind token ids, with the log-probabilities of what is written."""

    def body(self, request: Request) -> dict[str, Any]:
        """See `Interface`."""
        return {**super().body(request), "logprobs": 1}

    def read(self, content: bytes, request: Request, seconds: float) -> CachedAnswer:
        """See `Interface`.

        Raises:
            TeacherError: there are none.
        """
        choice, _, _ = first_choice(content)
        facts = choice.get("logprobs")
        if not isinstance(facts, Mapping) or not any(facts.get(name) for name in ("token_logprobs", "content")):
            raise TeacherError("the server gives no log-probabilities of what it writes")
        return super().read(content, request, seconds)


Open = Callable[[EndpointConfig, Usage], Interface]


def scorer(
    config: EndpointConfig,
    texts: TokenTexts,
    trial: Sequence[int],
    k: int,
    cache_folder: str | os.PathLike[str] | None = None,
    *,
    account: str = "",
) -> ApiCompleter:
    """Whoever scores the prompts of a server, in the first way that it knows.

    Args:
        config: the server.
        texts: of the teacher's tokenizer.
        trial: token ids that it is tried on; kept as an answer, so a server is tried once.
        k: how many of the likeliest tokens it must give.
        cache_folder: where answers are kept.
        account: what the budget is for.

    Raises:
        TeacherError: it scores no prompts, or cannot be reached.
    """
    refusals = []
    for interface in SCORING:
        opened = functools.partial(interface, texts=texts)
        completer = ApiCompleter(_for_trials(config), cache_folder, account=account, interface=opened)
        reason = _try(completer, Request("trial", (), tokens=TokenPrompt(tuple(trial), 1, k)))
        if not reason:
            return ApiCompleter(config, cache_folder, account=account, interface=opened)
        refusals.append(f"{interface.name}: {reason}")
    raise TeacherError(
        f"{config.model} does not score prompts: {'; '.join(refusals)}",
        hint="serve it with vLLM, SGLang or llama-cpp-python, or learn its texts alone: evaluate.arms=[sft,seqkd]",
    )


def writer(
    config: EndpointConfig,
    trial: Sequence[int],
    cache_folder: str | os.PathLike[str] | None = None,
    *,
    account: str = "",
    stop_ids: Sequence[int] = (),
) -> tuple[ApiCompleter, bool]:
    """Whoever answers in text, and whether it is sent token ids; a server that takes none is sent conversations.

    Args:
        config: the server.
        trial: token ids that it is tried on; kept as an answer, so a server is tried once.
        cache_folder: where answers are kept.
        account: what the budget is for.
        stop_ids: tokens that end an answer.

    Raises:
        TeacherError: it cannot be reached.
    """
    opened = functools.partial(Written, stop_ids=stop_ids)
    completer = ApiCompleter(_for_trials(config), cache_folder, account=account, interface=opened)
    reason = _try(completer, Request("trial", (), max_tokens=1, tokens=TokenPrompt(tuple(trial))))
    if reason:
        return ApiCompleter(config, cache_folder, account=account), False
    return ApiCompleter(config, cache_folder, account=account, interface=opened), True


def find_out(config: EndpointConfig, texts: TokenTexts, trial: Sequence[int], ks: Sequence[int]) -> Capabilities:
    """Ask a server for each thing that one may do.

    Args:
        config: the server.
        texts: of the teacher's tokenizer.
        trial: token ids that it is asked about.
        ks: numbers of likeliest tokens to try, ascending; the first that fails ends it.

    Raises:
        TeacherError: it cannot be reached.
    """
    reasons: dict[str, str] = {}
    prompt, written = Request("trial", (), tokens=TokenPrompt(tuple(trial)), max_tokens=1), Written
    trials: dict[str, tuple[Open, Request]] = {
        "chat": (Chat, Request("trial", _QUESTION, max_tokens=16)),
        "continues": (written, prompt),
        "written": (_WithLogprobs, prompt),
    }
    can = {}
    for name, (opened, request) in trials.items():
        reason = _try(ApiCompleter(_for_trials(config), interface=opened), request)
        # An answer that was cut is an answer.
        can[name] = not reason or reason.startswith("unfinished")
        reasons |= {} if can[name] else {name: reason}
    scoring, most = "", 0
    for interface in SCORING:
        most, reason = _most(config, functools.partial(interface, texts=texts), trial, ks)
        if most:
            scoring = interface.name
            reasons |= {"k": reason} if reason else {}
            break
        reasons[interface.name] = reason
    full = False
    if scoring and most == ks[-1]:
        opened = open_scoring(Capabilities(scoring=scoring), texts)
        assert opened is not None
        found, reason = _most(config, opened, trial[:2], [texts.size])
        full = found == texts.size
        reasons |= {} if full else {"full": reason}
    return Capabilities(**can, scoring=scoring, k=most, full=full, reasons=reasons)


def open_scoring(can: Capabilities, texts: TokenTexts) -> Open | None:
    """The interface by which a server was found to score prompts; None where it does not."""
    named = [way for way in SCORING if way.name == can.scoring]
    return functools.partial(named[0], texts=texts) if named else None


def _most(config: EndpointConfig, opened: Open, trial: Sequence[int], ks: Sequence[int]) -> tuple[int, str]:
    """The largest k that works, and why the next does not."""
    most = 0
    for k in ks:
        completer = ApiCompleter(_for_trials(config), interface=opened)
        reason = _try(completer, Request("trial", (), tokens=TokenPrompt(tuple(trial), 1, k)))
        if reason:
            return most, f"k = {k}: {reason}"
        most = k
    return most, ""


def _for_trials(config: EndpointConfig) -> EndpointConfig:
    return config.model_copy(update={"max_retries": min(config.max_retries, TRIAL_RETRIES)})


def _try(completer: ApiCompleter, request: Request) -> str:
    """Why a server does not answer a request; empty where it does.

    Raises:
        TeacherError: it cannot be reached, or the budget is spent.
    """
    try:
        [completion] = completer.complete([request])
    except TeacherError as error:
        return error.message
    if _is_beyond(completion):
        raise TeacherError(
            f"{completer!r} does not answer: {completion.reason}",
            hint="check teacher.base_url and that the server runs",
            retryable=is_passing(completion.reason),
        )
    return completion.reason


def _is_beyond(completion: Completion) -> bool:
    """Whether the fault says nothing of what was asked for."""
    return completion.reason.partition(":")[0] in (*_UNREACHED, "budget")
