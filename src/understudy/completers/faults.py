"""What goes wrong between asking and an answer, and what to do about it.

```text
kind         what happened                              asked again   on the budget
rate limit   429                                        yes           nothing
server       5xx, 408, 409                              yes           nothing
server       200, but the answer broke off              yes           one call
connection   no connection                              yes           nothing
connection   broken off while an answer was awaited     yes           one call, all it could have cost
timeout      no answer within `timeout`                 yes           one call, all it could have cost
unreadable   200 with something that is no completion   twice         one call, all it could have cost
empty        a text without a character                 twice         one call
unparseable  no JSON, or JSON that breaks its schema    twice         one call
unfinished   the answer reached `max_tokens`            no            one call
unfinished   it ended for a reason that is not known    twice         one call
refused      withheld by the endpoint                   no            one call
request      400, 413, 422: this one cannot be answered no            nothing
budget       calls or tokens are spent                  no            nothing
```

Any other 4xx ends the run: the next request would fare no better. An error that comes under status 200 is what its own
code says. A redirect within the host is followed; one to another host, or in a circle, ends the run.
"""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

from understudy.errors import TeacherError

LONGEST_WAIT = 120.0
"""Seconds; an endpoint that asks for a longer pause is not waited for."""


class EndpointError(Exception):
    """What an endpoint says went wrong, by its status or in a body under status 200.

    Attributes:
        status: HTTP's, or what the error's own code means.
        message: the endpoint's words as they came; not to be shown before `redaction.redacted`.
        headers: of the response.
        url: that was asked.
        tokens: what the call read and wrote all the same, where the endpoint said so.
    """

    def __init__(
        self, status: int, message: str, *, headers: Any = None, url: str = "", tokens: tuple[int, int] | None = None
    ) -> None:
        super().__init__(f"{status}")
        self.status = status
        self.message = message
        self.headers = headers if headers is not None else {}
        self.url = url
        self.tokens = tokens


class Fault(Exception):
    """A call without a usable answer.

    Attributes:
        kind: first word of the completion's reason.
        detail: the rest of it.
        retryable: whether asking again can help at any time.
        unusable: whether an answer came that cannot be used; asked again twice at most.
        wait: seconds the endpoint wants to be left alone.
        tokens: what the call read and wrote, where the endpoint said so.
        charged: whether the call counts on the budget.
    """

    def __init__(
        self,
        kind: str,
        detail: str,
        *,
        retryable: bool = False,
        unusable: bool = False,
        wait: float | None = None,
        tokens: tuple[int, int] | None = None,
        charged: bool = False,
    ) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail
        self.retryable = retryable
        self.unusable = unusable
        self.wait = wait
        self.tokens = tokens
        self.charged = charged or unusable

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


def status_fault(status: int, message: str, headers: Any, *, key_variable: str) -> Fault | TeacherError:
    """What an HTTP status means: a fault of this call, or the end of the run.

    Args:
        status: 300 and above.
        message: the endpoint's words, without the key.
        headers: of the response; `Retry-After` is honoured.
        key_variable: the environment variable of the key, for the hint.
    """
    answer = f"{status}{': ' + message if message else ''}"
    if status == 429 and "insufficient_quota" in message:
        return TeacherError(f"the endpoint has nothing left to spend: {answer}", hint="top the account up, then go on")
    if status in (408, 409, 429) or status >= 500:
        wait = retry_after(headers)
        kind = "rate limit" if status == 429 else "server"
        if wait is not None and wait > LONGEST_WAIT:
            return Fault(kind, f"the endpoint asks to be left alone for {wait:,.0f} s ({answer})")
        return Fault(kind, answer, retryable=True, wait=wait)
    if status in (400, 413, 422):
        return Fault("request", answer)
    if status in (401, 403):
        hint = f"put a valid key into the environment variable {key_variable}" if key_variable else "it wants a key"
        return TeacherError(f"the endpoint refuses the key: {answer}", hint=hint)
    return TeacherError(f"the endpoint refuses to answer: {answer}", hint="check base_url and model")


def retry_after(headers: Any) -> float | None:
    """Seconds to wait by the headers `Retry-After-Ms` and `Retry-After` (seconds or an HTTP date); None without."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / scale
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    try:
        return max(0.0, parsedate_to_datetime(headers.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
