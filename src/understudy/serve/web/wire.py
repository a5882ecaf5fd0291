"""Answers in OpenAI's forms, whole and as events of a stream."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from understudy.serve.cascade import Verdict
from understudy.serve.work import Token

DONE = b"data: [DONE]\n\n"


@dataclass
class Choice:
    """One answer of several, as far as it has come.

    Attributes:
        index: which.
        verdict: whose it is.
        text: all that was written.
        tokens: likewise.
        finish: why it ended; None while it has not.
        prompt_tokens: read.
        completion_tokens: written.
    """

    index: int
    verdict: Verdict
    text: str = ""
    tokens: list[Token] = field(default_factory=list)
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True)
class Envelope:
    """What is around the answers of one request.

    Attributes:
        id: of the request.
        kind: of the endpoint.
        model: as it was asked for.
        run: name of the run, which stands for the weights.
        num_top: likeliest tokens that are told; None: none.
        each: answers to one prompt.
        created: seconds since 1970.
    """

    id: str
    kind: Literal["chat", "text"]
    model: str
    run: str
    num_top: int | None = None
    each: int = 1
    created: int = field(default_factory=lambda: int(time.time()))

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """The answer to a request that is not streamed."""
        name = "chat.completion" if self.kind == "chat" else "text_completion"
        return self._frame(name) | {
            "choices": [self._choice(choice) for choice in choices],
            "usage": usage(choices, self.each),
            "understudy": facts(choices[0].verdict),
        }

    def chunk(self, choice: Choice, text: str, tokens: Sequence[Token], *, first: bool) -> dict[str, Any]:
        """One event of a stream."""
        logprobs = self._logprobs(tokens) if self.num_top is not None and tokens else None
        row: dict[str, Any] = {"index": choice.index, "logprobs": logprobs, "finish_reason": choice.finish}
        if self.kind == "text":
            row["text"] = text
        else:
            role = {"role": "assistant"} if first else {}
            row["delta"] = role | ({"content": text} if text or first else {})
        frame = self._frame("chat.completion.chunk" if self.kind == "chat" else "text_completion")
        extra = {"understudy": facts(choice.verdict)} if first or choice.finish else {}
        return frame | {"choices": [row]} | extra

    def usage_chunk(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """The last event of a stream that is to end with the counts."""
        frame = self._frame("chat.completion.chunk" if self.kind == "chat" else "text_completion")
        return frame | {"choices": [], "usage": usage(choices, self.each)}

    def _frame(self, name: str) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": name,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.run,
        }

    def _choice(self, choice: Choice) -> dict[str, Any]:
        logprobs = self._logprobs(choice.tokens) if self.num_top is not None else None
        row: dict[str, Any] = {"index": choice.index, "logprobs": logprobs, "finish_reason": choice.finish}
        if self.kind == "text":
            return row | {"text": choice.text}
        return row | {"message": {"role": "assistant", "content": choice.text, "refusal": None}}

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any]:
        own = [token for token in tokens if not token.stops]
        if self.kind == "chat":
            content = [
                _entry(t.text, t.logp) | {"top_logprobs": [_entry(text, logp) for text, logp in t.top]} for t in own
            ]
            return {"content": content, "refusal": None}
        offsets, place = [], 0
        for token in own:
            offsets.append(place)
            place += len(token.text)
        return {
            "tokens": [token.text for token in own],
            "token_logprobs": [_finite(token.logp) for token in own],
            "top_logprobs": [{text: _finite(logp) for text, logp in token.top} for token in own],
            "text_offset": offsets,
        }


def _entry(text: str, logp: float) -> dict[str, Any]:
    return {"token": text, "logprob": _finite(logp), "bytes": list(text.encode("utf-8", "replace"))}


def _finite(logp: float) -> float:
    """What JSON can say of a token that has no probability at all, as OpenAI says it."""
    return max(logp, -9999.0)


def usage(choices: Sequence[Choice], each: int = 1) -> dict[str, int]:
    """Tokens read, of each prompt once, and written by all answers."""
    read = sum(choice.prompt_tokens for choice in choices[::each])
    written = sum(choice.completion_tokens for choice in choices)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


def facts(verdict: Verdict) -> dict[str, Any]:
    """What a client may know of how an answer came about, as the field `understudy`."""
    row: dict[str, Any] = {"source": verdict.source}
    if verdict.confidence is not None:
        row["confidence"] = round(verdict.confidence, 6)
    if verdict.decision:
        row |= {"decision": verdict.decision, "threshold": verdict.threshold}
    return row | ({"teacher": verdict.teacher_fault} if verdict.teacher_fault else {})


def headers(verdict: Verdict, id: str) -> dict[str, str]:
    """The same as headers, which a client has before the body."""
    named = {"X-Request-Id": id, "X-Understudy-Source": verdict.source}
    if verdict.decision:
        named["X-Understudy-Decision"] = verdict.decision
    if verdict.confidence is not None:
        named["X-Understudy-Confidence"] = f"{verdict.confidence:.6f}"
    return named


def event(content: Any) -> bytes:
    """A server-sent event."""
    return b"data: " + json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n\n"
