"""Forms: bound to one rater and one page, and every value checked as if nobody had filled in the form."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl

from starlette.requests import Request

from understudy.study.config import HIGHEST, LOWEST

LONGEST_TEXT = 4000
"""Characters of free text."""
_MOST_FIELDS = 100


class BadForm(ValueError):
    """What was sent is no form of ours."""


async def posted(request: Request) -> dict[str, str]:
    """Fields of a posted form; of a field that stands twice, the first.

    Raises:
        BadForm: it is not one, or has too many fields.
    """
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise BadForm("not a form")
    try:
        pairs = parse_qsl(
            (await request.body()).decode("ascii", "replace"),
            keep_blank_values=True,
            errors="replace",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError as error:
        raise BadForm(str(error)) from error
    return dict(reversed(pairs))


class Seal:
    """Binds a form to a rater, a page and the moment at which it was shown, so that none of it can be made up.

    Args:
        secret: of the study; the same after a restart.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def of(self, rater: int, page: int, shown: float) -> str:
        """The token of a form."""
        return f"{shown:.3f}.{self._digest(rater, page, f'{shown:.3f}')}"

    def shown(self, token: str, rater: int, page: int) -> float:
        """When the form was shown.

        Raises:
            BadForm: the token is not one of this rater's on this page.
        """
        shown, _, digest = token.rpartition(".")
        if not hmac.compare_digest(digest.encode("utf-8", "replace"), self._digest(rater, page, shown).encode()):
            raise BadForm("a token of another page")
        return float(shown)

    def _digest(self, rater: int, page: int, shown: str) -> str:
        return hmac.new(self._secret, f"{rater}|{page}|{shown}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def seconds_between(shown: float, now: float) -> float | None:
    """How long a page was looked at; None where the clock went backwards."""
    return round(now - shown, 3) if now >= shown else None


def free_text(form: Mapping[str, str], name: str) -> str:
    """A field of free text as it is stored: without control characters, which databases and terminals trip over.

    Raises:
        BadForm: it is longer than the page lets anybody write.
    """
    text = form.get(name, "").replace("\r\n", "\n")
    if len(text) > LONGEST_TEXT:
        raise BadForm("a text is too long")
    return "".join(c for c in text if c in "\n\t" or c.isprintable()).strip()


def chosen(form: Mapping[str, str], name: str, number: int) -> int | None:
    """The place of the option that was chosen, from 0; None where none was, or no such one."""
    value = form.get(name, "")
    place = int(value) if value.isascii() and value.isdigit() and len(value) < 5 else number
    return place if place < number else None


def ratings(form: Mapping[str, str], constructs: Sequence[str]) -> dict[str, int]:
    """Ratings by construct; those that are absent or out of range are left out."""
    values = {name: form.get(f"rate-{name}", "") for name in constructs}
    scale = {str(value): value for value in range(LOWEST, HIGHEST + 1)}
    return {name: scale[value] for name, value in values.items() if value in scale}
