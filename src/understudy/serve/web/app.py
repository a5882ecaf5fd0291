"""The web application of a student, put together."""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Collection
from importlib import resources
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp

from understudy import __version__
from understudy.errors import UnderstudyError
from understudy.serve.answers import Manner, check_room, example_of, work_of
from understudy.serve.exchange import Exchange, Thumb
from understudy.serve.gateway import CASCADE, Gateway, request_id
from understudy.serve.web.completing import Call, Job, WholeAnswer, finished, going_down, whole
from understudy.serve.web.embedding import ENDPOINT, embedder, embeddings, texts_of
from understudy.serve.web.faults import ApiError, Json, as_api_error, of_validation, response_of
from understudy.serve.web.forms import (
    AnswerRequest,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    FeedbackRequest,
    Sampled,
)
from understudy.serve.web.guard import ApiGuard
from understudy.serve.web.wire import Envelope, facts, headers
from understudy.serve.work import Work
from understudy.types import Message
from understudy.web.protection import Limit, RateLimiter, client

SLOW_READER = 30.0
"""Seconds beyond those of an answer in which a client has to have read it."""
_STATIC = {"style.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}
_bearer = HTTPBearer(auto_error=False, description="A key made by `understudy serve keys add`.")
_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "The request cannot be answered as it stands; the body says why."},
    401: {"description": "No key, or none that is good."},
    404: {"description": "There is no such model."},
    413: {"description": "The body is too long."},
    429: {"description": "Too much at once; Retry-After says when to come again."},
    503: {"description": "The engine cannot answer now, or the server is going down."},
    504: {"description": "There was no answer in time."},
}


def serve_app(
    gateway: Gateway, *, hosts: Collection[str] = (), origins: Collection[str] = (), page: bool = True
) -> ASGIApp:
    """The application that uvicorn serves.

    Args:
        gateway: the models.
        hosts: names by which the server may be called; empty: any.
        origins: other sites whose pages may ask.
        page: whether there is a page to try it on.
    """
    app = FastAPI(
        title="understudy",
        version=__version__,
        summary="A student, its teacher, and the cascade of both.",
        docs_url=None,
        redoc_url=None,
    )
    Routes(gateway).add_to(app)
    if page:
        _add_page(app)
    _handle_faults(app)
    bounds = gateway.bounds
    guarded: ASGIApp = ApiGuard(
        app,
        hosts=hosts,
        origins=origins,
        longest=bounds.body,
        patience=bounds.body_seconds,
        whole=bounds.seconds + SLOW_READER,
    )
    if origins:
        guarded = CORSMiddleware(
            guarded,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=["X-Request-Id", "X-Understudy-Source", "X-Understudy-Decision", "Retry-After"],
        )
    return guarded


class Routes:
    """The endpoints."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._wrong_keys = RateLimiter(Limit(per_second=0.5, burst=20))

    def add_to(self, app: FastAPI) -> None:
        """Put them into an application."""
        keyed: dict[str, Any] = {"dependencies": [Depends(self._key)], "response_model": None, "responses": _REFUSALS}
        post: dict[str, Any] = {"methods": ["POST"], **keyed}
        app.add_api_route("/v1/chat/completions", self.chat, **post)
        app.add_api_route("/v1/completions", self.completions, **post)
        app.add_api_route("/v1/answer", self.answer, **post)
        app.add_api_route(ENDPOINT, self.embeddings, **post)
        app.add_api_route("/v1/feedback", self.feedback, **post)
        app.add_api_route("/v1/models", self.models, **keyed)
        app.add_api_route("/v1/models/{name}", self.model, **keyed)
        app.add_api_route("/healthz", self.health, response_model=None)
        app.add_api_route("/readyz", self.ready, response_model=None)

    async def _key(
        self, request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
    ) -> None:
        """Find out who asks.

        Raises:
            ApiError: a key is needed, and there is none that is good.
        """
        request.state.key = None
        if self._gateway.keys is None:
            return
        key = self._gateway.keys.find(given.credentials) if given else None
        if key is None:
            if given and not self._wrong_keys.allows(client(request.scope)):
                raise ApiError(429, "too many wrong keys", "wrong_keys", {"Retry-After": "10"})
            what = "this key is not known here, or was revoked" if given else "send a key: Authorization: Bearer …"
            raise ApiError(401, what, "invalid_api_key", {"WWW-Authenticate": "Bearer"})
        request.state.key = key

    # -- models --------------------------------------------------------------------------------------------------------

    async def models(self) -> Response:
        """The models that can be asked."""
        return Json({"object": "list", "data": [self._model(name) for name in self._gateway.models]})

    async def model(self, name: str) -> Response:
        """One of them."""
        if name not in self._gateway.models:
            raise ApiError(404, "there is no such model; GET /v1/models lists those there are", "model_not_found")
        return Json(self._model(name))

    def _model(self, name: str) -> dict[str, Any]:
        side = self._gateway.sides["student" if name == CASCADE else name]
        title = f"{side.title}, and the teacher where it is unsure" if name == CASCADE else side.title
        row = {"id": name, "object": "model", "created": 0, "owned_by": self._gateway.run.folder.name}
        embeds = side.pointer is not None and side.pointer.embeds
        return row | {"understudy": {"title": title, "writes": side.writes, "embeds": embeds}}

    async def health(self) -> Response:
        """Whether the process is there."""
        return Json({"status": "ok"})

    async def ready(self) -> Response:
        """Whether it takes requests, and how much is under way."""
        draining = self._gateway.draining
        return Json({"status": "draining" if draining else "ready", **self._gateway.load}, 503 if draining else 200)

    # -- answers -------------------------------------------------------------------------------------------------------

    async def chat(self, request: Request, form: ChatRequest) -> Response:
        """The next turn of a conversation, put to the model as the run has put its questions."""
        side, cascade = self._writer(form.model)
        example = _example(form)
        seeds = _seeds(form)
        jobs = []
        for seed in seeds:
            manner = Manner(
                self._longest(form.longest, side.max_answer_tokens),
                form.sampling(seed),
                form.num_top,
                form.stops,
                bool(form.stream),
            )
            work = self._gateway.teacher_work(cascade, example, manner)
            jobs.append(Job(work_of(side, example, manner), work))
        envelope = Envelope(
            request_id("chatcmpl"),
            "chat",
            form.model or self._gateway.default_model,
            self._name,
            form.num_top,
            len(jobs),
        )
        turns = tuple({"role": turn.role, "content": turn.text} for turn in form.messages)
        return await self._complete(request, form, envelope, side, cascade, jobs, turns)

    async def completions(self, request: Request, form: CompletionRequest) -> Response:
        """What stands behind a text; no template is put around it, so it is no question of the run."""
        side, _ = self._writer(form.model)
        seeds, jobs = _seeds(form), []
        for number, prompt in enumerate(form.prompts):
            ids = _prompt_ids(side, prompt)
            longest = self._longest(form.max_tokens, 16) or 16
            check_room(side, len(ids), longest)
            for seed in seeds:
                jobs.append(
                    Job(
                        Work(
                            tuple(ids),
                            (),
                            longest,
                            form.sampling(seed + number),
                            form.logprobs,
                            form.stops,
                            bool(form.stream),
                            plain=True,
                        )
                    )
                )
        envelope = Envelope(request_id("cmpl"), "text", form.model or side.name, self._name, form.logprobs, len(seeds))
        turns = tuple({"role": "user", "content": p if isinstance(p, str) else list(p)} for p in form.prompts)
        return await self._complete(request, form, envelope, side, None, jobs, turns)

    async def answer(self, request: Request, form: AnswerRequest) -> Response:
        """The answer to a question with its text to read and its options; of a student that points, where it stands."""
        gateway, id, began, clock = self._gateway, request_id("answer"), time.time(), time.monotonic()
        self._check_draining()
        side, cascade = gateway.pick(form.model)
        example = example_of(form.question, form.context, form.choices)
        turns = ({"role": "user", "content": form.question},)
        key = request.state.key
        exchange = Exchange(
            id,
            began,
            "/v1/answer",
            key.id if key else None,
            form.model or gateway.default_model,
            messages=turns,
            context=form.context,
            choices=tuple(form.choices),
        )
        with gateway.meter.metered(key) as spend, gateway.admission.admitted():
            call = WholeAnswer(gateway, side, cascade, example)
            answer, verdict = await call.within(request, exchange, spend, clock)
        row = answer.to_json()
        row.pop("measures")
        body = {"id": id, "object": "answer", **row, "model": form.model or gateway.default_model}
        return Json(body | {"understudy": facts(verdict)}, 200, headers(verdict, id))

    async def embeddings(self, request: Request, form: EmbeddingRequest) -> Response:
        """A vector for each text, of a student that is an encoder: its own, or the mean of the last hidden states."""
        gateway, began, clock = self._gateway, time.time(), time.monotonic()
        self._check_draining()
        side, _ = gateway.pick(form.model)
        key, name, id = request.state.key, form.model or side.name, request_id("embd")
        rows = texts_of(side, form)
        engine, tokens = embedder(side), sum(map(len, rows))
        # Of no text is anything kept: it is no question, so nobody can learn an answer to it.
        exchange = Exchange(id, began, ENDPOINT, key.id if key else None, name, source=side.name, prompt_tokens=tokens)
        passes = math.ceil(len(rows) / engine.batch)
        with gateway.meter.metered(key) as spend, gateway.admission.admitted(passes):
            vectors = await whole(gateway, request, engine.embed(rows), exchange, clock)
            spend(tokens)
            finished(gateway, exchange, clock)
        return Json(embeddings(form, name, vectors, tokens), 200, {"X-Request-Id": id})

    async def feedback(self, request: Request, form: FeedbackRequest) -> Response:
        """Keep what a user thinks of an answer, for a later run to learn from."""
        key = request.state.key
        with self._gateway.meter.metered(key):
            values = form.model_dump() | {"choices": tuple(form.choices), "key": key.id if key else None}
            self._gateway.thumb(Thumb(**values))
        return Json({"object": "feedback", "kept": True})

    # -- inside --------------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return self._gateway.run.folder.name

    def _check_draining(self) -> None:
        if self._gateway.draining:
            raise going_down()

    def _writer(self, model: str | None) -> Any:
        """The model that a name stands for, which has to write."""
        self._check_draining()
        side, cascade = self._gateway.pick(model)
        if not side.writes:
            raise ApiError(400, "this model chooses its answers and writes none: POST /v1/answer", "points_only")
        return side, cascade

    def _longest(self, wanted: int | None, usual: int) -> int | None:
        """The longest answer: as long as it is wanted; None: the usual one, where it is not too long.

        Raises:
            ApiError: longer than this server writes.
        """
        most = self._gateway.bounds.max_tokens
        if wanted is None:
            return None if most is None else min(usual, most)
        if most is not None and wanted > most:
            raise ApiError(400, f"max_tokens: this server writes at most {most:,} tokens", "too_many_tokens")
        return wanted

    async def _complete(
        self, request: Request, form: Sampled, envelope: Envelope, side: Any, cascade: Any, jobs: list[Job], turns: Any
    ) -> Response:
        most = self._gateway.bounds.choices
        if len(jobs) > most:
            raise ApiError(400, f"{len(jobs)} answers at once, and this server gives {most}", "too_many_choices")
        key = request.state.key
        exchange = Exchange(
            envelope.id, time.time(), request.url.path, key.id if key else None, envelope.model, messages=turns
        )
        call = Call(self._gateway, envelope, side, cascade, jobs, exchange, form.with_usage)
        call.enter(key)
        return await call.respond(request)


def _example(form: ChatRequest) -> Any:
    """A conversation as a row: what was said before, and the question at its end."""
    *before, last = form.messages
    roles = {"developer": "system"}
    history = tuple(Message(roles.get(turn.role, turn.role), turn.text) for turn in before)
    return example_of(last.text, history=history)


def _seeds(form: Sampled) -> list[int]:
    """A seed for each answer; the same for the same request where it names one."""
    first = secrets.randbits(48) if form.seed is None else form.seed & (2**63 - 1)
    return [first * 1_000_003 + number for number in range(form.n or 1)]


def _prompt_ids(side: Any, prompt: str | list[int]) -> list[int]:
    """Token ids of a text that is gone on with.

    Raises:
        ApiError: there are none, or they are none of the model's.
    """
    if side.tokenizer is None or side.tokenizer.template.start_ids:
        what = "an encoder–decoder answers questions" if side.tokenizer else "this model is asked in conversations"
        raise ApiError(400, f"{what}: POST /v1/chat/completions", "chat_only")
    ids = side.tokenizer.template.text_ids(prompt) if isinstance(prompt, str) else prompt
    if not ids:
        raise ApiError(400, "prompt: it has no tokens", "empty_prompt")
    size = len(side.tokenizer.template.tokenizer)
    if max(ids) >= size:
        raise ApiError(400, f"prompt: token ids go from 0 to {size - 1:,}", "bad_token")
    data = side.tokenizer.data
    if len(ids) > data.max_length:
        raise ApiError(
            400, f"{len(ids):,} tokens, and this server reads {data.max_length:,}", "context_length_exceeded"
        )
    return ids


def _handle_faults(app: FastAPI) -> None:
    """One form for all faults; what is no fault of the house goes to the log and is told as 500."""

    @app.exception_handler(ApiError)
    async def _api(request: Request, error: ApiError) -> Response:
        return response_of(error)

    @app.exception_handler(UnderstudyError)
    async def _house(request: Request, error: UnderstudyError) -> Response:
        return response_of(as_api_error(error))

    @app.exception_handler(RequestValidationError)
    async def _form(request: Request, error: RequestValidationError) -> Response:
        return response_of(of_validation(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> Response:
        words = {404: "there is nothing at this address", 405: "this address takes another method"}
        message = words.get(error.status_code, str(error.detail))
        return response_of(ApiError(error.status_code, message, "http", error.headers))


def _add_page(app: FastAPI) -> None:
    """A page to try the models on, with what it needs from here and nowhere else."""
    folder = resources.files("understudy.serve.web") / "static"

    async def page() -> Response:
        return HTMLResponse((folder / "page.html").read_text(encoding="utf-8"))

    async def static(name: str) -> Response:
        if name not in _STATIC:
            raise HTTPException(404)
        return Response((folder / name).read_bytes(), media_type=_STATIC[name])

    app.add_api_route("/", page, include_in_schema=False)
    app.add_api_route("/static/{name}", static, include_in_schema=False)
    app.add_api_route("/favicon.ico", lambda: Response(status_code=204), include_in_schema=False)
