"""Speaking to a served student: by OpenAI's own client, and by bare HTTP."""

from __future__ import annotations

import http.client

from openai import OpenAI

from support.serving import Served


def client_of(served: Served, key: str = "none") -> OpenAI:
    """OpenAI's client; it is not to try again, for a test wants to see the first answer."""
    return OpenAI(base_url=f"{served.url}/v1", api_key=key, max_retries=0, timeout=30)


def post(served: Served, path: str, body: bytes, **headers: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
    connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.headers.items()}, content
