"""The conformance test: does a server say what the recipe takes it to say? Asked before anything is learned from it.

```text
capabilities   text, log-probabilities of what it writes, of a given prompt, full: each asked for
tokenizer      our texts become the same tokens there
template       one conversation is rendered there as here
largest k      tried step by step up to the recipe's: some servers crash at one
determinism    one row, scored many times at once, says the same
replicas       … and does not come in two kinds, each like itself
temperature    what it draws at temperature 1 is as likely as it says
loss           the student's loss through the server is that with the model in this process (`server_loss`)
```

Every question is sent anew; nothing comes from the disk.
"""

from __future__ import annotations

import functools
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.completers.capabilities import Capabilities, Open, find_out, open_scoring
from understudy.completers.interfaces import Chat
from understudy.completers.openai_completer import ApiCompleter
from understudy.completers.redaction import shown_address
from understudy.completers.scoring import Drawn, ReadText
from understudy.completers.token_texts import TokenTexts
from understudy.errors import TeacherError
from understudy.inspection.server_report import Check, ServerReport
from understudy.inspection.temperature import Place, fit_temperature, spread
from understudy.recipe import TeacherConfig
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.prompts import messages
from understudy.tokens.template import Template
from understudy.training.remote import trial_ids
from understudy.types import Completion, Example, Message, Request, TokenPrompt, TokenScores, is_passing

STEPS = (1, 2, 5, 10, 20, 50, 100)
"""Numbers of likeliest tokens that are tried on the way to the recipe's."""
REPEATS = 16
PLACES, DRAWS = 8, 64
"""At so many places so many tokens are drawn."""
SAME = 1e-3
"""Nats: kernels that add up in another order, and no more."""
NOISE = 0.1
"""Nats beyond which one row is not one target."""
LEAST_ERROR = 0.1
"""Of the temperature: what is not told apart from 1."""
_PROBES = ("Grüße, 東京 and 🙂!", "1234567890 3.14159 0x7fff", "def f(x):\n\treturn  x ** 2", "internationalisation")


@dataclass(frozen=True)
class Server:
    """A server that is being asked.

    Attributes:
        config: the recipe's section.
        template: the teacher's tokenizer here.
        scoring: how it scores prompts; None where it does not.
    """

    config: TeacherConfig
    template: Template
    scoring: Open | None = None

    def ask(self, requests: Sequence[Request], interface: Open = Chat) -> list[Completion]:
        """The completions of some requests, in order; nothing is kept of them.

        Raises:
            TeacherError: the server will answer none of them.
        """
        completer = ApiCompleter(self.config.endpoint, interface=interface)
        by_id = {completion.id: completion for completion in completer.complete(requests)}
        return [by_id[request.id] for request in requests]

    def scores(self, prompt: TokenPrompt, *, repeats: int = 1, temperature: float | None = None) -> list[TokenScores]:
        """What it says of one prompt, asked so many times at once.

        Raises:
            TeacherError: it says nothing.
        """
        assert self.scoring is not None
        # Different samples, or the answers under way would be shared.
        requests = [
            Request(str(number), (), sample=number, temperature=temperature, tokens=prompt) for number in range(repeats)
        ]
        completions = self.ask(requests, self.scoring)
        for completion in completions:
            if completion.value is None:
                raise TeacherError(
                    f"the server says nothing of a row: {completion.reason}", retryable=is_passing(completion.reason)
                )
        return [completion.value for completion in completions]


def examine_server(
    config: TeacherConfig,
    template: Template,
    examples: Sequence[Example],
    rows: Sequence[TokenizedExample],
    system: str,
) -> tuple[ServerReport, Open | None]:
    """Run the conformance test, but for the loss; also the interface by which it scores prompts, where it does.

    Args:
        config: the section of the teacher.
        template: its tokenizer here.
        examples: some rows of the data.
        rows: the same as the teacher reads them.
        system: the system prompt of the recipe.

    Raises:
        TeacherError: the server cannot be reached.
    """
    texts = TokenTexts(template)
    steps = sorted({*(k for k in STEPS if k < config.k), config.k})
    can = find_out(config.endpoint, texts, trial_ids(template), steps)
    server = Server(config, template, open_scoring(can, texts))
    longest = max(rows, key=lambda row: len(row.answer_ids))
    checks = [_scoring(can), _tokenizer(server, examples, system), _template(server, examples[0], system)]
    if server.scoring is not None:
        prompt = TokenPrompt(tuple(longest.ids), len(longest.prompt_ids), can.k)
        checks += [
            _largest(can, config.k),
            *_guarded("determinism", lambda: _repeated(server, prompt)),
            *_guarded("temperature", lambda: _temperature(server, rows, can)),
        ]
    return ServerReport(config.model, shown_address(config.base_url or ""), can.words, checks), server.scoring


def _guarded(name: str, check: Any) -> list[Check]:
    """The checks, or that the server broke off in the middle of them."""
    try:
        return check()
    except TeacherError as error:
        return [Check(name, "not measured" if error.retryable else "bad", error.message)]


def _scoring(can: Capabilities) -> Check:
    if can.scoring:
        return Check("scores prompts", "good", f"by {can.scoring}")
    reasons = "; ".join(f"{name}: {reason}" for name, reason in can.reasons.items() if name not in _OTHER_REASONS)
    return Check("scores prompts", "bad", f"no log-probabilities of a given prompt ({reasons})")


_OTHER_REASONS = ("chat", "continues", "written", "full", "k")


def _largest(can: Capabilities, wanted: int) -> Check:
    if can.k >= wanted:
        return Check("largest k", "good", f"{wanted} tokens a place, as the recipe asks for")
    return Check("largest k", "bad", f"{can.k} tokens a place, and the recipe asks for {wanted}: {can.reasons['k']}")


# -- tokenizer and template ------------------------------------------------------------------------------------------


def _tokenizer(server: Server, examples: Sequence[Example], system: str) -> Check:
    texts = [*(messages(example, system)[-1]["content"] for example in examples[:8]), *_PROBES]
    requests = [Request(str(number), (Message("user", text),)) for number, text in enumerate(texts)]
    try:
        completions = server.ask(requests, ReadText)
    except TeacherError as error:
        return Check("tokenizer", "not measured", f"it reads no plain text: {error.message}")
    read = [(text, json.loads(done.text)) for text, done in zip(texts, completions, strict=True) if done.text]
    if not read:
        return Check("tokenizer", "not measured", f"it reads no plain text: {completions[0].reason}")
    for text, (count, ids) in read:
        if not any(_reads_as(ours, count, ids) for ours in _ways(server.template, text)):
            ours = len(_ways(server.template, text)[0])
            return Check("tokenizer", "bad", f"{text[:40]!r} is {count} tokens there and {ours} here, or others")
    how = "token by token" if any(ids for _, (_, ids) in read) else "by their number"
    return Check("tokenizer", "good", f"{len(read)} texts are the same tokens there and here, {how}")


def _ways(template: Template, text: str) -> list[list[int]]:
    """The ids of a text, without and with what a tokenizer puts around it."""
    tokenizer: Any = template.tokenizer
    return [tokenizer(text, add_special_tokens=special)["input_ids"] for special in (False, True)]


def _reads_as(ours: Sequence[int], count: int, ids: Sequence[int]) -> bool:
    return len(ours) == count and (not ids or list(ours[1:]) == list(ids))


def _template(server: Server, example: Example, system: str) -> Check:
    turns = messages(example, system)
    request = Request("turns", tuple(Message(turn["role"], turn["content"]) for turn in turns), max_tokens=1)
    try:
        [completion] = server.ask([request])
    except TeacherError as error:
        return Check("template", "not measured", f"it answers no conversations: {error.message}")
    ours = len(server.template.prompt_ids(turns))
    if not completion.input_tokens:
        return Check("template", "not measured", "it does not count what it reads")
    if completion.input_tokens == ours:
        return Check("template", "good", f"a conversation is {ours} tokens there and here")
    return Check(
        "template",
        "note",
        f"a conversation is {completion.input_tokens} tokens there and {ours} here. Signals and answers go by ours, "
        "for token ids are sent; texts of `generate` go by the server's",
    )


# -- one row, many times -----------------------------------------------------------------------------------------------


def _repeated(server: Server, prompt: TokenPrompt) -> list[Check]:
    said = [np.array(score.chosen) for score in server.scores(prompt, repeats=REPEATS)]
    groups = _groups(said, SAME)
    within = max(_apart(group) for group in groups)
    if len(groups) == 1:
        return [
            Check("determinism", "good", f"{REPEATS} times the same row: within {within:.1e} nats"),
            Check("replicas", "good", "one kind of answer"),
        ]
    between = _apart(said)
    if all(len(group) > 1 for group in groups):
        several = f"{len(groups)} kinds of answers to one row, up to {between:.2g} nats apart, each the same every time"
        return [
            Check("determinism", "good", f"answers of one kind lie within {within:.1e} nats"),
            Check("replicas", "bad", f"{several}: replicas of different models, or of different settings"),
        ]
    verdict = "bad" if between > NOISE else "note"
    return [
        Check("determinism", verdict, f"{REPEATS} times the same row: up to {between:.2g} nats apart"),
        Check("replicas", "not measured", "not to be told from the server's own noise"),
    ]


def _groups(said: Sequence[np.ndarray], tolerance: float) -> list[list[np.ndarray]]:
    """Answers that are like the first of their group."""
    groups: list[list[np.ndarray]] = []
    for one in said:
        like = next((group for group in groups if float(np.abs(group[0] - one).max()) <= tolerance), None)
        if like is None:
            groups.append([one])
        else:
            like.append(one)
    return groups


def _apart(said: Sequence[np.ndarray]) -> float:
    """The largest difference at any place."""
    return float(np.ptp(np.stack(said), axis=0).max())


# -- temperature -------------------------------------------------------------------------------------------------------


def _temperature(server: Server, rows: Sequence[TokenizedExample], can: Capabilities) -> list[Check]:
    row = max(rows, key=lambda row: len(row.answer_ids))
    prompt = TokenPrompt(tuple(row.ids), len(row.prompt_ids), can.k)
    at_one, at_half = (server.scores(prompt, temperature=value)[0] for value in (1.0, 0.5))
    follows = float(np.abs(np.subtract(at_one.chosen, at_half.chosen)).max()) > NOISE
    request = "; they follow the temperature of the request, which is always 1" if follows else ""
    if not can.continues:
        return [Check("temperature", "not measured", f"it draws nothing behind token ids{request}")]
    drawn = _drawn(server, rows, can.k)
    fitted, error = fit_temperature(drawn)
    number = sum(sum(counts) for _, counts in drawn)
    figures = f"temperature {fitted:.2f} ± {error:.2f} by {number:,} tokens drawn at 1{request}"
    if abs(fitted - 1) > max(LEAST_ERROR, 4 * error):
        return [Check("temperature", "bad", f"the log-probabilities stand at {figures}")]
    if error > LEAST_ERROR:
        return [Check("temperature", "not measured", f"too few draws to tell: {figures}")]
    return [Check("temperature", "note" if follows else "good", f"the log-probabilities stand at {figures}")]


def _drawn(server: Server, rows: Sequence[TokenizedExample], k: int) -> list[Place]:
    """What the server draws at the places that tell most of the temperature, among tokens that their texts name."""
    places = []
    for row in rows[:PLACES]:
        [score] = server.scores(TokenPrompt(tuple(row.ids), len(row.prompt_ids), k))
        for number, (ids, logp) in enumerate(zip(score.ids, score.logp, strict=True)):
            prefix = row.ids[: len(row.prompt_ids) + number]
            named = _named(server.template, prefix, ids, logp)
            if len(named) > 1:
                mass = float(np.exp(list(named.values())).sum())
                places.append((mass * spread(list(named.values())), prefix, named))
    places.sort(key=lambda place: -place[0])
    drawn: list[Place] = []
    for _, prefix, named in places[:PLACES]:
        counts = Counter(_texts_drawn(server, prefix))
        drawn.append((list(named.values()), [counts[text] for text in named]))
    return drawn


def _texts_drawn(server: Server, prefix: Sequence[int]) -> list[str]:
    """One token behind a prefix, drawn at temperature 1 so many times; all in one answer where a server gives several.

    Raises:
        TeacherError: the server draws nothing.
    """
    texts: list[str] = []
    for number in (1, DRAWS):
        requests = [
            Request(str(n), (), sample=n, temperature=1.0, max_tokens=1, tokens=TokenPrompt(tuple(prefix)))
            for n in range(0 if len(texts) >= DRAWS else number)
        ]
        answers = server.ask(requests, functools.partial(Drawn, number=DRAWS)) if requests else []
        texts += [text for answer in answers if answer.text for text in json.loads(answer.text)]
    return texts[:DRAWS]


def _named(template: Template, prefix: Sequence[int], ids: Sequence[int], logp: Sequence[float]) -> dict[str, float]:
    """Text → log-probability of the tokens that a text behind the prefix names, and it alone."""
    texts = TokenTexts(template)
    before = texts.text(prefix)
    special = set(template.tokenizer.all_special_ids)
    found: dict[str, list[float]] = {}
    for token, value in zip(ids, logp, strict=True):
        text = texts.text([*prefix, token])
        if token not in special and text.startswith(before) and "\ufffd" not in text[len(before) :]:
            found.setdefault(text[len(before) :], []).append(value)
    return {text: values[0] for text, values in found.items() if text and len(values) == 1}
