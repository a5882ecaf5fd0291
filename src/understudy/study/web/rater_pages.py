"""What a rater sees: from the consent to the completion code, one page after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, cast
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from understudy.data.option_mentions import folded
from understudy.study import wording
from understudy.study.administration import named
from understudy.study.config import HIGHEST, LOWEST, Language, QuestionConfig
from understudy.study.pages import Page
from understudy.study.store import OPEN, Store, Visitor
from understudy.study.web.forms import (
    LONGEST_TEXT,
    BadForm,
    Seal,
    chosen,
    free_text,
    posted,
    ratings,
    seconds_between,
)
from understudy.study.web.rendering import page
from understudy.web.protection import Limit, RateLimiter, client

COOKIE = "rater"
_COOKIE_SECONDS = 90 * 86_400
_LONGEST_PARAMETER = 200
_ENDS = {"finished": "done", "failed": "failed", "declined": "declined", "dropped": "dropped"}

Form = Annotated[dict[str, str], Depends(posted)]
Answer = Visitor | set[str]
"""What became of a form: the rater after it, or the fields that lack an answer."""


@dataclass(frozen=True)
class Sent:
    """A form that was sent.

    Attributes:
        visitor: by whom.
        index: from which page.
        page: that page.
        form: its fields.
        seconds: since the page was shown; None where the clock went backwards.
    """

    visitor: Visitor
    index: int
    page: Page
    form: Mapping[str, str]
    seconds: float | None


class RaterPages:
    """The pages of raters.

    Args:
        store: of the study.
        seal: of the study's forms.
        secure: whether cookies are for https alone.
    """

    def __init__(self, store: Store, seal: Seal, *, secure: bool) -> None:
        self._store, self._study, self._seal, self._secure = store, store.study, seal, secure
        self._by_link = RateLimiter(Limit(per_second=5, burst=60))
        self._strangers = RateLimiter(Limit(per_second=0.5, burst=40))
        self._arrivals = RateLimiter(Limit(per_second=5, burst=300))
        self._take: dict[str, Callable[[Sent], Answer]] = {
            "consent": self._take_consent,
            "about": self._take_about,
            "practice": self._take_practice,
            "check": self._take_check,
            "foresee": self._take_foresee,
            "item": self._take_item,
            "pair": self._take_pair,
            "attention": self._take_attention,
            "final": self._take_final,
        }

    def router(self) -> APIRouter:
        """The addresses."""
        router = APIRouter()
        router.add_api_route("/join", self.door, methods=["GET"], response_model=None)
        router.add_api_route("/join", self.join, methods=["POST"], response_model=None)
        router.add_api_route("/r/{token}", self.current, methods=["GET"], response_model=None)
        router.add_api_route("/r/{token}/{index}", self.show, methods=["GET"], response_model=None)
        router.add_api_route("/r/{token}/{index}", self.take, methods=["POST"], response_model=None)
        return router

    # Coming in -------------------------------------------------------------------------------------------------------

    def door(self, request: Request) -> Response:
        """The open address. Opening it takes no place: programs that look through links would fill the study."""
        language = self._asked_language(request)
        closed = self._closed(request, language)
        return closed or page("join", **self._frame(language), action=f"/join?{request.url.query}")

    def _closed(self, request: Request, language: Language) -> Response | None:
        """The page that says why nobody comes in; None where the way is free."""
        config = self._study.config
        if not self._arrivals.allows(client(request.scope)):
            return self._end("busy", language, 429)
        if not config.open_recruitment:
            return self._end("link", language, 404)
        if config.panel is not None and not self._panel_id(request):
            return self._end("panel", language, 400)
        return self._end("paused", language, 503) if self._store.paused else None

    def _panel_id(self, request: Request) -> str:
        """What the panel calls the rater; empty where it says nothing that could be a name."""
        panel = self._study.config.panel
        value = request.query_params.get(panel.id, "").strip() if panel else ""
        return value if value.isprintable() and len(value) <= _LONGEST_PARAMETER else ""

    def join(self, request: Request) -> Response:
        """A place for whoever comes by the open address."""
        language = self._asked_language(request)
        if closed := self._closed(request, language):
            return closed
        names = self._study.config.panel.parameters if self._study.config.panel else ()
        parameters = {name: request.query_params.get(name, "")[:_LONGEST_PARAMETER] for name in names}
        parameters = {name: "".join(filter(str.isprintable, value)) for name, value in parameters.items()}
        link = self._store.join(self._panel_id(request) or None, parameters, own=request.cookies.get(COOKIE, ""))
        if link is None:
            return self._end("full", language)
        suffix = f"?language={language}" if "language" in request.query_params else ""
        response = RedirectResponse(f"/r/{link.token}{suffix}", 303)
        # Lax: a panel's page leads here, and the cookie has to come along.
        kept = {"max_age": _COOKIE_SECONDS, "path": "/join"}
        response.set_cookie(COOKIE, link.token, httponly=True, samesite="lax", secure=self._secure, **kept)
        return response

    def _visitor(self, request: Request, token: str) -> Visitor | Response:
        """Who a link leads in, or the page that says why it does not."""
        visitor = self._store.visitor(token)
        if visitor is None:
            busy = not self._strangers.allows(client(request.scope))
            return self._end("busy" if busy else "link", self._asked_language(request), 429 if busy else 404)
        known = self._study.config.languages
        if visitor.language not in known:  # taken out of the study since
            visitor = replace(visitor, language=known[0])
        return visitor if self._by_link.allows(str(visitor.rater)) else self._end("busy", visitor.language, 429)

    def _asked_language(self, request: Request) -> Language:
        known = self._study.config.languages
        asked = request.query_params.get("language", "")
        return cast(Language, asked) if asked in known else known[0]

    # Showing ---------------------------------------------------------------------------------------------------------

    def current(self, request: Request, token: str) -> Response:
        """The first page that is not done."""
        visitor = self._visitor(request, token)
        if isinstance(visitor, Response):
            return visitor
        self._switch(request, visitor)
        return _to(token, visitor.page)

    def _switch(self, request: Request, visitor: Visitor) -> bool:
        """Whether the address asked for a language; it is kept."""
        asked = request.query_params.get("language")
        if asked in self._study.config.languages and asked != visitor.language:
            self._store.speak(visitor, cast(Language, asked))
        return asked is not None

    def show(self, request: Request, token: str, index: str) -> Response:
        """A page that is open, with what was answered on it; else the first that is not done."""
        visitor = self._visitor(request, token)
        if isinstance(visitor, Response):
            return visitor
        if self._switch(request, visitor):
            return _to(token, _number(index, visitor.page))
        if visitor.status not in OPEN:
            return self._end(_ENDS[visitor.status], visitor.language, code=visitor.code)
        if self._store.paused:
            return self._end("paused", visitor.language, 503)
        number = _number(index, -1)
        if not visitor.first_page <= number <= visitor.page:
            return _to(token, visitor.page)
        return self._page(token, visitor, number, set())

    def _page(
        self, token: str, visitor: Visitor, index: int, missing: set[str], form: Mapping[str, str] | None = None
    ) -> HTMLResponse:
        pages = self._store.pages(visitor.slot)
        current = pages[index]
        given = self._given(visitor, current) if form is None else _as_given(form)
        view = {
            **self._frame(visitor.language),
            "participant": named(visitor.rater),
            **self._content(current, visitor),
            "given": given,
            "missing": missing,
            "action": f"/r/{token}/{index}",
            "back": f"/r/{token}/{index - 1}" if index > max(1, visitor.first_page) else "",
            "seal": self._seal.of(visitor.rater, index, self._store.clock()),
            "number": index + 1,
            "pages": len(pages),
            "page": current,
            "attempt": visitor.tries,
            "token": token,
        }
        template = {"practice": "item", "attention": "item"}.get(current.kind, current.kind)
        return page(template, 422 if missing else 200, **view)

    def _given(self, visitor: Visitor, current: Page) -> dict[str, Any]:
        """What was answered earlier, in the words of the form, which knows sides and places and no methods."""
        given, seat = self._store.given(visitor, current), cast(Any, current.seat)
        if given and current.kind == "pair":
            return {"comment": given["comment"], "side": "first" if given["preferred"] == seat.first else "second"}
        if given and current.kind == "foresee" and (choices := self._study.items[seat.item].choices):
            return {"predicted": choices.index(given["predicted"])}
        return given

    def _frame(self, language: Language) -> dict[str, Any]:
        """What every page has."""
        config = self._study.config
        names = {other: wording.pages(other)["name"] for other in config.languages}
        return {
            "say": wording.pages(language),
            "language": language,
            "languages": names,
            "title": wording.in_language(config.title, language),
            "longest_text": LONGEST_TEXT,
        }

    def _content(self, current: Page, visitor: Visitor) -> dict[str, Any]:
        """What one kind of page has besides."""
        config, language = self._study.config, visitor.language
        constructs = [(c.name, wording.in_language(c.statement, language)) for c in config.constructs]
        base: dict[str, Any] = {
            "constructs": constructs,
            "scale": range(LOWEST, HIGHEST + 1),
            "comments": config.comments,
        }
        if current.kind == "consent":
            return {"paragraphs": wording.in_language(config.consent.text, language).strip().split("\n\n")}
        if current.kind in ("about", "check"):
            asked = config.demographics if current.kind == "about" else config.comprehension
            questions = [_question(question, language) for question in asked]
            return {"questions": questions, "tries": self._tries(visitor), "scaled": not config.pairwise}
        if current.kind == "practice":
            return {**base, **wording.practice(language)} | {"context": None}
        if current.kind == "attention":
            text = wording.pages(language)["attention_text"].format(rating=current.wanted)
            return base | {"question": "", "choices": (), "answer": "", "text": text, "context": None}
        return base | self._of_item(current) if current.seat else {}

    def _of_item(self, current: Page) -> dict[str, Any]:
        seat: Any = current.seat
        item = self._study.items[seat.item]
        view: dict[str, Any] = {"question": item.question, "choices": item.choices, "context": item.context}
        view["items"] = len(self._study.slots[seat.rater])
        if current.kind == "pair":
            texts = [item.methods[method] for method in (seat.first, seat.second)]
            return view | {"sides": [("first", texts[0]), ("second", texts[1])]}
        text = item.methods[seat.method]
        return view | {"answer": text.answer, "text": text.text}

    def _tries(self, visitor: Visitor) -> str:
        say, left = wording.pages(visitor.language), self._study.config.comprehension_tries - visitor.tries
        return say["try_one"] if left == 1 else say["try_many"].format(n=left)

    def _end(self, name: str, language: Language, status: int = 200, *, code: str = "") -> HTMLResponse:
        say, url = wording.pages(language), self._study.config.completion_url
        frame = self._frame(language)
        back = url.replace("{code}", quote(code, safe="")) if url and code else ""
        view = {"heading": say[f"{name}_title"], "message": say[f"{name}_text"], "code": code, "back_to": back}
        return page("end", status, **frame, **view)

    # Taking ----------------------------------------------------------------------------------------------------------

    def take(self, request: Request, token: str, index: str, form: Form) -> Response:
        """Answers of a page. They are stored before this says that they are; sent twice, they count once."""
        visitor = self._visitor(request, token)
        if isinstance(visitor, Response):
            return visitor
        number, pages = _number(index, -1), self._store.pages(visitor.slot)
        if not 0 <= number < len(pages):
            return self._end("stale", visitor.language, 400)
        try:
            shown = self._seal.shown(form.get("seal", ""), visitor.rater, number)
            seconds = seconds_between(shown, self._store.clock())
            after = self._take[pages[number].kind](Sent(visitor, number, pages[number], form, seconds))
        except BadForm:
            return self._end("stale", visitor.language, 400)
        except LookupError:
            return self._end("link", visitor.language, 404)
        if isinstance(after, set):
            closed = visitor.status not in OPEN or not visitor.first_page <= number <= visitor.page
            return _to(token, visitor.page) if closed else self._page(token, visitor, number, after, form)
        return _to(token, min(number + 1, after.page) if after.page > number else after.page)

    def _take_consent(self, sent: Sent) -> Answer:
        if "decline" in sent.form:
            return self._store.decline(sent.visitor)
        return self._store.consent(sent.visitor) if sent.form.get("agree") == "yes" else {"agree"}

    def _take_about(self, sent: Sent) -> Answer:
        given = _options_chosen(sent.form, self._study.config.demographics)
        answered = {name: place for name, place in given.items() if place is not None}
        return self._store.about(sent.visitor, sent.index, answered)

    def _take_practice(self, sent: Sent) -> Answer:
        _, missing = self._rated(sent.form)
        return missing or self._store.pass_by(sent.visitor, sent.index)

    def _take_check(self, sent: Sent) -> Answer:
        asked = self._study.config.comprehension
        given = _options_chosen(sent.form, asked)
        if missing := {name for name, place in given.items() if place is None}:
            return missing
        attempt = chosen(sent.form, "attempt", self._study.config.comprehension_tries)
        if attempt is None:
            raise BadForm("no such try")
        right = all(given[question.name] == question.right for question in asked)
        return self._store.check(sent.visitor, sent.index, right, attempt)

    def _take_item(self, sent: Sent) -> Answer:
        given, missing = self._rated(sent.form)
        comment = free_text(sent.form, "comment")
        return missing or self._store.rate(sent.visitor, sent.index, given, comment, sent.seconds)

    def _take_attention(self, sent: Sent) -> Answer:
        given, missing = self._rated(sent.form)
        return missing or self._store.attention(sent.visitor, sent.index, given)

    def _rated(self, form: Mapping[str, str]) -> tuple[dict[str, int], set[str]]:
        names = [construct.name for construct in self._study.config.constructs]
        given = ratings(form, names)
        return given, set(names) - set(given)

    def _take_pair(self, sent: Sent) -> Answer:
        side, seat = sent.form.get("preferred"), cast(Any, sent.page.seat)
        if side not in ("first", "second"):
            return {"preferred"}
        preferred = seat.first if side == "first" else seat.second
        return self._store.prefer(sent.visitor, sent.index, preferred, free_text(sent.form, "comment"), sent.seconds)

    def _take_foresee(self, sent: Sent) -> Answer:
        seat = cast(Any, sent.page.seat)
        item = self._study.items[seat.item]
        place = chosen(sent.form, "predicted", len(item.choices))
        written = "" if item.choices else free_text(sent.form, "predicted")
        predicted = written if place is None else item.choices[place]
        if not predicted:
            return {"predicted"}
        correct = folded(predicted) == folded(item.methods[seat.method].answer)
        return self._store.foresee(sent.visitor, sent.index, predicted, correct, sent.seconds)

    def _take_final(self, sent: Sent) -> Answer:
        return self._store.finish(sent.visitor, sent.index, free_text(sent.form, "comment"))


def _options_chosen(form: Mapping[str, str], questions: Sequence[QuestionConfig]) -> dict[str, int | None]:
    return {question.name: chosen(form, f"ask-{question.name}", len(question.options)) for question in questions}


def _question(question: Any, language: Language) -> tuple[str, str, list[str]]:
    options = [wording.in_language(option, language) for option in question.options]
    return question.name, wording.in_language(question.question, language), options


def _as_given(form: Mapping[str, str]) -> dict[str, Any]:
    """A form that lacks something, as the page fills itself in: what was chosen stays chosen."""
    names = {key.removeprefix("rate-").removeprefix("ask-"): value for key, value in form.items()}
    return {key: int(value) if value.isascii() and value.isdigit() else value for key, value in names.items()}


def _number(text: str, default: int) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else default


def _to(token: str, index: int) -> RedirectResponse:
    return RedirectResponse(f"/r/{token}/{index}", 303)
