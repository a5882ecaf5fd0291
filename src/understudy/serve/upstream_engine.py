"""A server as an engine: vLLM, SGLang, llama.cpp's or any other with OpenAI's completions.

It is sent the token ids of our own rendering, so that it reads what the run's model read, whatever template it has
been started with. A server that takes none can be sent the conversation, if the operator says so.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx2
from openai import APIConnectionError, APIStatusError, APITimeoutError, AsyncOpenAI, AsyncStream, DefaultAioHttpClient

from understudy.completers.redaction import redacted
from understudy.serve.text_stream import TextStream
from understudy.serve.work import EngineFault, Piece, Token, Work

_CUT = ("length", "max_tokens")


class UpstreamEngine:
    """Writes with a model of a server.

    Args:
        base_url: of the server, with `/v1`.
        model: its name there.
        key: for the server; empty where it needs none.
        timeout: seconds without a byte after which it is given up.
        renders: whether it is sent conversations, which it renders by a template of its own.
        stop_ids: tokens that end an answer, for servers that take them.
        stop_texts: what these tokens write.
        connections: requests under way at once, at most.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        key: str = "",
        timeout: float = 60.0,
        renders: bool = False,
        stop_ids: Sequence[int] = (),
        stop_texts: Sequence[str] = (),
        connections: int = 256,
    ) -> None:
        self.model, self._key, self._renders = model, key, renders
        self._stop_ids, self._stop_texts = list(stop_ids), tuple(stop_texts)
        limits = httpx2.Limits(max_connections=connections, max_keepalive_connections=connections)
        http = DefaultAioHttpClient(limits=limits, timeout=timeout, follow_redirects=False)
        self._client = AsyncOpenAI(
            api_key=key or "none", base_url=base_url, max_retries=0, timeout=timeout, http_client=http
        )

    @property
    def load(self) -> tuple[int, int]:
        """Nothing waits here: what the server has waiting it knows itself."""
        return 0, 0

    async def write(self, work: Work) -> AsyncIterator[Piece]:
        """See `Engine`."""
        try:
            if work.streams:
                async for piece in self._streamed(work):
                    yield piece
            else:
                yield await self._whole(work)
        except APITimeoutError as error:
            # The transport calls it a timeout too where nobody listens.
            absent = isinstance(error.__cause__, httpx2.ConnectTimeout)
            raise EngineFault(f"{self.model} {'cannot be reached' if absent else 'did not answer in time'}") from error
        except APIConnectionError as error:
            raise EngineFault(f"{self.model} cannot be reached", wait=5) from error
        except APIStatusError as error:
            wait = _seconds(error.response.headers.get("retry-after")) if error.status_code in (429, 503) else None
            message = redacted(str(error.message), self._key)
            raise EngineFault(f"{self.model} answered {error.status_code}: {message}", wait=wait) from error

    async def close(self) -> None:
        """See `Engine`."""
        await self._client.close()

    # -- requests ------------------------------------------------------------------------------------------------------

    async def _whole(self, work: Work) -> Piece:
        answer = await self._ask(work, stream=False)
        choice = answer.choices[0]
        text, finish = self._text_of(choice), _finish(choice.finish_reason)
        stream = TextStream(work.stop, plain=work.plain)
        tokens = self._tokens(choice.logprobs, work, finish)
        usage = answer.usage
        counts = (usage.prompt_tokens, usage.completion_tokens) if usage else (len(work.prompt), len(tokens))
        return Piece(stream.advance(text, last=True), tokens, finish, *counts)

    async def _streamed(self, work: Work) -> AsyncIterator[Piece]:
        stream, text, finish = TextStream(work.stop, plain=work.plain), "", None
        counts, written = (0, 0), 0
        answer: AsyncStream[Any] = await self._ask(work, stream=True)
        try:
            async for chunk in answer:
                if chunk.usage:
                    counts = (chunk.usage.prompt_tokens, chunk.usage.completion_tokens)
                if not chunk.choices:
                    continue
                choice = chunk.choices[0]
                finish = finish or (_finish(choice.finish_reason) if choice.finish_reason else None)
                text += self._text_of(choice)
                tokens = self._tokens(choice.logprobs, work, finish)
                written += len(tokens)
                further = stream.advance(text)
                if further or tokens:
                    yield Piece(further, tokens)
        finally:
            await answer.close()  # Whoever leaves early ends the writing there too.
        if finish is None:
            raise EngineFault(f"{self.model} broke off in the middle of an answer")
        yield Piece(
            stream.advance(text, last=True), (), finish, *(counts if any(counts) else (len(work.prompt), written))
        )

    async def _ask(self, work: Work, *, stream: bool) -> Any:
        sampling = work.sampling
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": work.max_tokens,
            "temperature": sampling.temperature,
            "stream": stream,
        }
        body |= {"top_p": sampling.top_p} if sampling.top_p < 1 else {}
        body |= {"seed": sampling.seed % 2**31} if sampling.temperature > 0 else {}
        body |= {"stop": list(work.stop[:4])} if work.stop else {}
        body |= {"stream_options": {"include_usage": True}} if stream else {}
        num_top = max(2, work.num_top or 0)
        if self._renders:
            asked = [{"role": turn["role"], "content": turn["content"]} for turn in work.messages]
            extra: Any = {"logprobs": True, "top_logprobs": num_top, "messages": asked}
            return await self._client.chat.completions.create(**body, **extra)
        further = {"stop_token_ids": self._stop_ids} if self._stop_ids else None
        return await self._client.completions.create(
            **body, prompt=list(work.prompt), logprobs=num_top, extra_body=further
        )

    def _text_of(self, choice: Any) -> str:
        if not self._renders:
            return choice.text or ""
        return (getattr(choice, "delta", None) or choice.message).content or ""

    def _tokens(self, facts: Any, work: Work, finish: str | None) -> tuple[Token, ...]:
        """Tokens with their log-probabilities, in the form of chat or of completions; none where there are none."""
        if facts is None:
            return ()
        if getattr(facts, "content", None):
            rows = [(t.token, t.logprob, {o.token: o.logprob for o in t.top_logprobs or ()}) for t in facts.content]
        else:
            tops = facts.top_logprobs or [None] * len(facts.tokens or ())
            rows = list(zip(facts.tokens or (), facts.token_logprobs or (), tops, strict=False))
        tokens = [self._token(*row, work.num_top) for row in rows if row[1] is not None]
        if finish == "stop" and rows and tokens and rows[-1][0] in ("", *self._stop_texts):
            last = tokens[-1]
            tokens[-1] = Token(last.text, last.logp, last.margin, last.top, stops=True)
        return tuple(tokens)

    def _token(self, text: str, logp: float, top: Mapping[str, float] | None, num_top: int | None) -> Token:
        ranked = sorted((top or {}).items(), key=lambda entry: -entry[1])
        others = [value for name, value in ranked if name != text]
        margin = logp - others[0] if others else None
        if num_top is None:
            return Token("", logp, margin)
        return Token(text, logp, margin, tuple(ranked[:num_top]))


def _finish(reason: str | None) -> str:
    return "length" if reason in _CUT else "stop"


def _seconds(value: str | None) -> float | None:
    try:
        return float(value) if value else None
    except ValueError:
        return None
