"""How servers are asked about token ids: the log-probabilities of a given prompt, and what the model writes behind it.

```text
interface   server                       asked at          tokens are sent as   their likeliest come as
Vllm        vLLM                         /completions      ids                  prompt_logprobs: {id: …} a place
Sglang      SGLang                       /generate         ids                  input_top_logprobs: [[logp, id, text] …]
Echo        llama-cpp-python's server    /completions      text                 logprobs.top_logprobs: {text: logp}
```

Whatever the form, an answer that is not of the very tokens that were sent ends the work: a teacher with another
tokenizer teaches nonsense without an error. `Echo` sends text, so it compares what every token writes; tokens whose
text several write are left to the tail.
"""

from __future__ import annotations

import base64
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import urljoin

import numpy as np

from understudy.completers.cache import CachedAnswer, clean
from understudy.completers.faults import Fault
from understudy.completers.response_parsing import CUT, document_of, first_choice
from understudy.completers.token_texts import TokenTexts
from understudy.completers.usage import Usage
from understudy.errors import TeacherError
from understudy.recipe import EndpointConfig
from understudy.types import Continuation, Request, TokenPrompt, TokenScores

LEAST = -1e4
"""Log-probability of what has none."""
_MARGIN = 8
"""So many more than twice as many tokens are asked for where some have a text that is not theirs alone."""

Place = tuple[Sequence[tuple[int, float]], float]
"""(token, log-probability) of the likeliest at a place, and the log-probability of the token that stands there."""


class _Scoring(ABC):
    """What the interfaces that score have in common.

    Args:
        config: the endpoint.
        usage: what was done otherwise than asked is noted there.
        texts: of the teacher's tokenizer.
    """

    name: ClassVar[str]
    path: ClassVar[str] = "/completions"

    def __init__(self, config: EndpointConfig, usage: Usage, texts: TokenTexts) -> None:
        self.config, self.texts = config, texts

    def address(self, base_url: str) -> str:
        """See `Interface`."""
        return self.path

    def learn(self, body: dict[str, Any], message: str) -> bool:
        """See `Interface`: nothing can be left out."""
        return False

    @abstractmethod
    def body(self, request: Request) -> dict[str, Any]:
        """See `Interface`."""

    def read(self, content: bytes, request: Request, seconds: float) -> CachedAnswer:
        """See `Interface`.

        Raises:
            TeacherError: the server does not score prompts in this way, scored other tokens, or gave fewer than k.
        """
        prompt = _prompt_of(request)
        places, read, written = self.places(content, prompt)
        return CachedAnswer(packed(_best(places, prompt.k)), read, written, seconds)

    @abstractmethod
    def places(self, content: bytes, prompt: TokenPrompt) -> tuple[Sequence[Place], int, int]:
        """What a body says of each place from `first` on, and the tokens read and written."""

    def value(self, text: str, request: Request) -> TokenScores:
        """See `Interface`."""
        prompt = _prompt_of(request)
        return unpacked(text, len(prompt.ids) - prompt.first, prompt.k)


class Vllm(_Scoring):
    """vLLM: `prompt_logprobs`."""

    name = "vLLM's prompt_logprobs"

    def body(self, request: Request) -> dict[str, Any]:
        """See `Interface`."""
        prompt = _prompt_of(request)
        return {**_one_token(self.config, request), "prompt": list(prompt.ids), "prompt_logprobs": prompt.k}

    def places(self, content: bytes, prompt: TokenPrompt) -> tuple[Sequence[Place], int, int]:
        """See the base class: the token that stands at a place is among its entries, the others by rank."""
        choice, tokens, _ = first_choice(content)
        stated = choice.get("prompt_logprobs")
        if not isinstance(stated, list):
            raise _not_scored(self.name)
        _check_count(len(stated), len(prompt.ids))
        return [
            self._place(stated[place], prompt.ids[place]) for place in range(prompt.first, len(prompt.ids))
        ], *tokens

    def _place(self, stated: Any, token: int) -> Place:
        if not isinstance(stated, Mapping):
            raise _not_scored(self.name)
        entries = [(int(name), _logp(entry)) for name, entry in stated.items()]
        chosen = dict(entries).get(token)
        if chosen is None:
            raise _other_tokens()
        return entries, chosen


class Sglang(_Scoring):
    """SGLang's own `/generate`, which stands beside `/v1`."""

    name = "SGLang's /generate"

    def address(self, base_url: str) -> str:
        """See `Interface`."""
        return urljoin(base_url, "/generate")

    def body(self, request: Request) -> dict[str, Any]:
        """See `Interface`."""
        prompt = _prompt_of(request)
        temperature = 1.0 if request.temperature is None else request.temperature
        return {
            "input_ids": list(prompt.ids),
            "sampling_params": {"max_new_tokens": 1, "temperature": temperature},
            "return_logprob": True,
            "top_logprobs_num": prompt.k,
            # Of the token where it begins it says nothing, for nothing stands before it.
            "logprob_start_len": prompt.first - 1,
        }

    def places(self, content: bytes, prompt: TokenPrompt) -> tuple[Sequence[Place], int, int]:
        """See the base class: entries are (log-probability, token, text)."""
        document = document_of(content)
        facts = document.get("meta_info")
        if not isinstance(facts, Mapping) or not isinstance(facts.get("input_token_logprobs"), list):
            raise _not_scored(self.name)
        _check_count(int(facts.get("prompt_tokens") or 0), len(prompt.ids))
        wanted = len(prompt.ids) - prompt.first
        chosen, likeliest = (facts.get(name) or [] for name in ("input_token_logprobs", "input_top_logprobs"))
        if min(len(chosen), len(likeliest)) < wanted:
            raise _not_scored(self.name)
        if [int(entry[1]) for entry in chosen[-wanted:]] != list(prompt.ids[prompt.first :]):
            raise _other_tokens()
        places = [
            ([(int(token), _logp(logp)) for logp, token, *_ in entries or ()], _logp(own[0]))
            for own, entries in zip(chosen[-wanted:], likeliest[-wanted:], strict=True)
        ]
        return places, int(facts.get("prompt_tokens") or 0), int(facts.get("completion_tokens") or 0)


class Echo(_Scoring):
    """Completions that give the prompt back with its log-probabilities: `llama-cpp-python`'s own server."""

    name = "completions with echo"

    def body(self, request: Request) -> dict[str, Any]:
        """See `Interface`."""
        prompt = _prompt_of(request)
        return {
            **_one_token(self.config, request),
            "prompt": clean(self.texts.sent(prompt.ids)),
            "echo": True,
            "logprobs": 2 * prompt.k + _MARGIN,
        }

    def places(self, content: bytes, prompt: TokenPrompt) -> tuple[Sequence[Place], int, int]:
        """See the base class: tokens are named by their texts."""
        choice, (read, written), _ = first_choice(content)
        facts = choice.get("logprobs")
        names = ("tokens", "token_logprobs", "top_logprobs")
        lists: list[Any] = [facts.get(name) for name in names] if isinstance(facts, Mapping) else [None]
        if any(not isinstance(values, list) for values in lists):
            raise _not_scored(self.name)
        tokens, chosen, likeliest = lists
        if read:
            _check_count(read, len(prompt.ids))
        if len(tokens) < len(prompt.ids) or len(chosen) < len(prompt.ids) or len(likeliest) < len(prompt.ids):
            raise _not_scored(self.name)  # It gives back what it wrote, and not what it read.
        places = []
        for place in range(prompt.first, len(prompt.ids)):
            text = self.texts.text([prompt.ids[place]])
            if "\ufffd" not in text + tokens[place] and tokens[place].strip() != text.strip():
                raise _other_tokens()
            known = ((self.texts.ids.get(name), logp) for name, logp in (likeliest[place] or {}).items())
            places.append(([(token, _logp(logp)) for token, logp in known if token is not None], _logp(chosen[place])))
        return places, read, written


SCORING: tuple[type[_Scoring], ...] = (Vllm, Sglang, Echo)
"""The ways in which a server may score a prompt, in the order in which they are tried."""


class Written:
    """Text behind token ids, by the completions that most servers have.

    Args:
        config: the endpoint.
        usage: what was done otherwise than asked is noted there.
        stop_ids: tokens that end an answer; a server that does not take them stops where its own model ends.
    """

    def __init__(self, config: EndpointConfig, usage: Usage, stop_ids: Sequence[int] = ()) -> None:
        self.config, self.usage, self.stop_ids = config, usage, list(stop_ids)

    def address(self, base_url: str) -> str:
        """See `Interface`."""
        return "/completions"

    def body(self, request: Request) -> dict[str, Any]:
        """See `Interface`."""
        config = self.config
        return {
            "model": config.model,
            "prompt": list(_prompt_of(request).ids),
            "max_tokens": config.max_tokens if request.max_tokens is None else request.max_tokens,
            "temperature": config.temperature if request.temperature is None else request.temperature,
            **({"stop_token_ids": self.stop_ids} if self.stop_ids else {}),
        }

    def read(self, content: bytes, request: Request, seconds: float) -> CachedAnswer:
        """See `Interface`.

        Raises:
            TeacherError: the server read another number of tokens than were sent.
        """
        choice, (read, written), cost = first_choice(content)
        text = choice.get("text")
        if not isinstance(text, str):
            raise Fault("unreadable", "the endpoint answered 200 without a text", tokens=cost, unusable=True)
        if read:
            _check_count(read, len(_prompt_of(request).ids))
        finished = str(choice.get("finish_reason") or "").lower() not in CUT
        return CachedAnswer(json.dumps([clean(text), finished]), read, written, seconds)

    def value(self, text: str, request: Request) -> Continuation:
        """See `Interface`."""
        written, finished = json.loads(text)
        return Continuation(written, finished)

    def learn(self, body: dict[str, Any], message: str) -> bool:
        """See `Interface`."""
        if "stop_token_ids" not in body or "stop_token_ids" not in message:
            return False
        self.stop_ids = []
        self.usage.note(f"the endpoint does not take stop_token_ids; it was asked without ({message})")
        return True


class Drawn(Written):
    """Several texts behind one prompt, drawn independently; the answer is a list of them.

    Args:
        config: the endpoint.
        usage: what was done otherwise than asked is noted there.
        number: how many; a server may give fewer.
    """

    def __init__(self, config: EndpointConfig, usage: Usage, number: int) -> None:
        super().__init__(config, usage)
        self.number = number

    def body(self, request: Request) -> dict[str, Any]:
        """See `Interface`."""
        return {**super().body(request), "n": self.number}

    def read(self, content: bytes, request: Request, seconds: float) -> CachedAnswer:
        """See `Interface`."""
        _, (read, written), _ = first_choice(content)
        choices = document_of(content).get("choices") or []
        texts = [choice.get("text") for choice in choices if isinstance(choice, Mapping)]
        return CachedAnswer(
            json.dumps([clean(text) for text in texts if isinstance(text, str)]), read, written, seconds
        )

    def value(self, text: str, request: Request) -> Any:
        """See `Interface`."""
        return


def packed(places: Sequence[Place]) -> str:
    """Scores as the text of an answer: base64 of ids `[n, k]` int32, their log-probabilities and those of the tokens
    that stand there, float32.
    """
    entries = np.array([entries for entries, _ in places], np.float64).reshape(len(places), -1, 2)
    chosen = np.array([logp for _, logp in places], "<f4")
    parts = (entries[:, :, 0].astype("<i4"), entries[:, :, 1].astype("<f4"), chosen)
    return base64.b64encode(b"".join(part.tobytes() for part in parts)).decode("ascii")


def unpacked(text: str, count: int, k: int) -> TokenScores:
    """The scores that `packed` put into a text.

    Raises:
        Fault: the text holds something else.
    """
    raw = base64.b64decode(text)
    if len(raw) != 8 * count * k + 4 * count:
        raise Fault("unparseable", f"{len(raw):,} bytes are no scores of {count:,} tokens, {k} each")
    size = 4 * count * k
    ids, logp = (np.frombuffer(raw[:size], "<i4"), np.frombuffer(raw[size : 2 * size], "<f4"))
    shape = (count, k)
    return TokenScores(
        tuple(map(tuple, ids.reshape(shape).tolist())),
        tuple(map(tuple, logp.reshape(shape).tolist())),
        tuple(np.frombuffer(raw[2 * size :], "<f4").tolist()),
    )


def _best(places: Sequence[Place], k: int) -> Sequence[Place]:
    """Each place with its k likeliest.

    Raises:
        TeacherError: there are fewer.
    """
    best = [(sorted(entries, key=lambda entry: (-entry[1], entry[0]))[:k], chosen) for entries, chosen in places]
    fewest = min((len(entries) for entries, _ in best), default=k)
    if fewest < k:
        raise TeacherError(
            f"the server gave {fewest} of the {k} likeliest tokens that it was asked for",
            hint=f"set teacher.k to {fewest or 1} or less, or let the server give more (vLLM: --max-logprobs)",
        )
    return best


def _logp(value: Any) -> float:
    """A log-probability as it came: a number, or within what names it."""
    number = value.get("logprob") if isinstance(value, Mapping) else value
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise Fault("unreadable", f"{clean(repr(number))[:40]} is no log-probability", unusable=True)
    return max(float(number), LEAST)


def _one_token(config: EndpointConfig, request: Request) -> dict[str, Any]:
    # Servers want to write something, and at temperature 1 none of them divides anything.
    temperature = 1.0 if request.temperature is None else request.temperature
    return {"model": config.model, "max_tokens": 1, "temperature": temperature}


def _prompt_of(request: Request) -> TokenPrompt:
    assert request.tokens is not None, "this interface is asked about tokens"
    return request.tokens


def _check_count(counted: int, sent: int) -> None:
    if counted != sent:
        raise TeacherError(
            f"{sent:,} tokens were sent, and the server counted {counted:,}",
            hint="it adds or joins tokens: `understudy doctor RECIPE` looks at its tokenizer and template",
        )


def _other_tokens() -> TeacherError:
    return TeacherError(
        "the server scored other tokens than were sent",
        hint="its tokenizer is another one: name that of its model in teacher.tokenizer",
    )


def _not_scored(name: str) -> TeacherError:
    return TeacherError(f"the server gives no log-probabilities of a prompt by {name}")


class ReadText:
    """How many tokens a server makes of a text, and which where it says so (vLLM): to compare its tokenizer with ours.

    Args:
        config: the endpoint.
        usage: not needed here.
    """

    def __init__(self, config: EndpointConfig, usage: Usage) -> None:
        self.config = config

    def address(self, base_url: str) -> str:
        """See `Interface`."""
        return "/completions"

    def body(self, request: Request) -> dict[str, Any]:
        """See `Interface`: the text is the conversation's one turn."""
        return {**_one_token(self.config, request), "prompt": clean(request.messages[0].content), "prompt_logprobs": 0}

    def read(self, content: bytes, request: Request, seconds: float) -> CachedAnswer:
        """See `Interface`: the answer is the count and, from the second on, the ids."""
        choice, (read, written), _ = first_choice(content)
        stated = choice.get("prompt_logprobs")
        places = stated[1:] if isinstance(stated, list) else []
        ids = [int(next(iter(place))) for place in places if isinstance(place, Mapping) and len(place) == 1]
        known = ids if len(ids) == len(places) else []
        return CachedAnswer(json.dumps([read or len(places) + 1, known]), read, written, seconds)

    def value(self, text: str, request: Request) -> None:
        """See `Interface`."""
        return

    def learn(self, body: dict[str, Any], message: str) -> bool:
        """See `Interface`."""
        return False
