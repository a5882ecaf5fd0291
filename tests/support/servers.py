"""A real HTTP server that speaks like a chat endpoint and misbehaves on purpose.

It is written on plain sockets, so that it can do what a well-made server never would: answer twice, stop half way,
reset a connection. It runs in a thread of the test, or as a process of its own:

```sh
python tests/support/servers.py --delay 0.2        # prints its address, answers until it is stopped
```
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Call:
    """One request as it arrived.

    Attributes:
        number: how many came before it.
        attempt: how many with the same body came before it.
        body: the parsed body.
        headers: names in lower case.
        key: hash of the body.
        path: what was asked of the server.
        answered: whether a whole answer with status 200 was written to the connection.
    """

    number: int
    attempt: int
    body: dict[str, Any]
    headers: dict[str, str]
    key: str
    path: str = "/v1/chat/completions"
    answered: bool = False

    @property
    def prompt(self) -> str:
        """The first user turn."""
        return next(turn["content"] for turn in self.body["messages"] if turn["role"] == "user")


@dataclass
class Reply:
    """What to do with a call.

    Attributes:
        text: the answer, or its parts; a whole chat completion is built around it.
        status: HTTP status.
        raw: the body as it is sent, in place of the chat completion.
        headers: further headers.
        delay: seconds before anything is sent.
        finish: the finish reason.
        tokens: (read, written) as counted by the endpoint; None leaves the count out.
        act: `send`; `reset` the connection instead of answering; send it `twice`; stop `half` way; `hang` for ever.
    """

    text: str | list[dict[str, Any]] | None = ""
    status: int = 200
    raw: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    finish: str | None = "stop"
    tokens: tuple[int, int] | None = (7, 3)
    act: str = "send"

    def payload(self, model: str) -> bytes:
        if self.raw is not None:
            return self.raw
        if self.status != 200:
            return json.dumps({"error": {"message": self.text, "code": self.status}}).encode()
        choice = {"index": 0, "message": {"role": "assistant", "content": self.text}, "finish_reason": self.finish}
        answer = {"id": "x", "object": "chat.completion", "created": 0, "model": model, "choices": [choice]}
        if self.tokens:
            read, written = self.tokens
            answer["usage"] = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        return json.dumps(answer).encode()


Script = Callable[[Call], Reply]


def echo(call: Call) -> Reply:
    """Give back the question, so that an answer in the wrong place is seen."""
    return Reply(f"answer to {call.prompt}")


class Server:
    """The server in a thread: `with Server(script) as server: … server.base_url … server.calls`."""

    def __init__(self, script: Script = echo, *, keep: bool = True) -> None:
        self.script = script
        self.calls: list[Call] = []
        self.most_at_once = 0
        self._keep = keep
        self._at_once = 0
        self._count = 0
        self._attempts: Counter[str] = Counter()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._main()), daemon=True)

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    def answered(self) -> Counter[str]:
        """How often each body was answered in full."""
        return Counter(call.key for call in self.calls if call.answered)

    async def serve(self, port: int = 0) -> asyncio.Server:
        server = await asyncio.start_server(self._connection, "127.0.0.1", port, backlog=512)
        self.base_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        return server

    async def _main(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await self.serve()
        self._ready.set()
        await self._stop.wait()
        server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (call := await self._read(reader)) is not None:
                self._at_once += 1
                self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    if not await self._reply(call, writer):
                        break
                finally:
                    self._at_once -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> Call | None:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        key = hashlib.sha256(body).hexdigest()[:16]
        parsed = json.loads(body) if body else {}
        call = Call(self._count, self._attempts[key], parsed, headers, key, first.split()[1])
        self._count += 1
        if self._keep:
            self._attempts[key] += 1
            self.calls.append(call)
        return call

    async def _reply(self, call: Call, writer: asyncio.StreamWriter) -> bool:
        """Do what the script says; whether the connection goes on."""
        reply = self.script(call)
        await asyncio.sleep(3600 if reply.act == "hang" else reply.delay)
        if reply.act == "reset":
            # With a linger of nothing, closing sends a reset.
            sock: socket.socket = writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        payload = reply.payload(call.body.get("model", ""))
        headers = {"Content-Type": "application/json", "Content-Length": str(len(payload)), **reply.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        message = f"HTTP/1.1 {reply.status} x\r\n{head}\r\n".encode("latin-1") + payload
        if reply.act == "half":
            writer.write(message[: len(message) - len(payload) // 2])
            await writer.drain()
            return False
        writer.write(message * (2 if reply.act == "twice" else 1))
        await writer.drain()
        call.answered = reply.status == 200
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description="A chat endpoint that gives every question back.")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()

    async def run() -> None:
        server = Server(lambda call: Reply(f"answer to {call.prompt}", delay=arguments.delay), keep=False)
        listening = await server.serve(arguments.port)
        print(server.base_url, flush=True)
        await listening.serve_forever()

    asyncio.run(run())


if __name__ == "__main__":
    main()
