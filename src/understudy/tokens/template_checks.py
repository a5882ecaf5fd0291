"""How a template and a tokenizer treat text: thoughts that are inserted or stripped, and what does not come back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from understudy.errors import ModelError
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.prompts import messages
from understudy.tokens.template import Template
from understudy.tokens.thoughts import CLOSES, ENDS_OPEN, OPENS
from understudy.types import Example

QUESTION = [{"role": "user", "content": "question"}]
MAX_NAMED = 8

PROBES = {
    "capitals": "the AMF of",
    "accents": "the naïve café",
    "line breaks": "one\ntwo",
    "tabs": "one\ttwo",
    "runs of spaces": "one   two",
    "other scripts": "one 漢字 two",
    "emoji": "one 🙂 two",
    "wide forms": "one Ａ１ two",
    "signs": "x_1 != {y}; 12,345.60 €",
}


@dataclass(frozen=True)
class Thinking:
    """What a template does about thoughts, as understudy renders it (`enable_thinking` off).

    Attributes:
        prompt: `no`, `closed` (an empty thought is put before the answer) or `open` (the prompt ends inside one).
        answer: whether it puts a thought before an answer that is given to it.
        strips: whether it removes a thought that the answer holds.
        switch: whether `enable_thinking` changes anything.
    """

    prompt: str
    answer: bool
    strips: bool
    switch: bool

    @property
    def text(self) -> str:
        """The same in words."""
        traits = {
            "no": [],
            "closed": ["puts an empty thought before the answer"],
            "open": ["the prompt ends inside a thought"],
        }[self.prompt]
        traits += ["inserts a thought into given answers"] * (self.answer and self.prompt == "no")
        traits += ["strips thoughts from answers"] * self.strips
        traits += ["has a switch, which is off"] * self.switch
        return "; ".join(traits) or "none"


def thinking(template: Template) -> Thinking:
    """What a template does about thoughts."""
    prompt, whole = template.prompt(QUESTION), _whole(template, "answer")
    thought = "<think>\nwhy\n</think>\n\nanswer"
    return Thinking(
        prompt="open" if open_thought(template) else "closed" if CLOSES.search(prompt) else "no",
        answer=bool(OPENS.search(whole)),
        strips="why" not in _whole(template, thought),
        switch=_rendered(template, on=True) != _rendered(template, on=False),
    )


def open_thought(template: Template) -> bool:
    """Whether the prompt ends inside a thought, so that what follows is no answer."""
    try:
        prompt = template.prompt(QUESTION)
    except ModelError:  # What cannot be rendered is refused with its row.
        return False
    # Only at the end: an instruction may speak of <think> without opening one.
    return bool(ENDS_OPEN.search(prompt))


def _whole(template: Template, answer: str) -> str:
    return _apply(template, [*QUESTION, {"role": "assistant", "content": answer}], prompt=False, on=False)


def _rendered(template: Template, *, on: bool) -> str:
    return _apply(template, QUESTION, prompt=True, on=on)


def _apply(template: Template, turns: list[dict[str, str]], *, prompt: bool, on: bool) -> str:
    return template.tokenizer.apply_chat_template(  # pyright: ignore
        turns, tokenize=False, add_generation_prompt=prompt, enable_thinking=on
    )


def lost(template: Template) -> list[str]:
    """Kinds of text that do not come back from the tokenizer as they went in."""
    return [name for name, text in PROBES.items() if round_trip(template, text) != text]


def round_trip(template: Template, text: str) -> str:
    """A text through the tokenizer and back, without the blanks around it."""
    return template.decode(template.text_ids(text))


def altered(template: Template, encoded: TokenizedExample, answer: str) -> str | None:
    """What is learned of an answer, where that is not the answer; white space does not count.

    Args:
        template: of the model that learns it.
        encoded: the row; an answer that was cut, so that it has no end, is not looked at.
        answer: as the data gives it.
    """
    if not encoded.answer_ids or encoded.answer_ids[-1] not in template.stop_ids:
        return None
    learned = template.decode(encoded.answer_ids)
    return learned if learned.split() != answer.split() else None


def without_embedding(template: Template, columns: int | None) -> list[tuple[int, str]]:
    """(id, token) of what data or template may become and the model has no embedding for.

    A special token that nothing writes (Gemma's `<image_soft_token>` behind the last of 262,144 embeddings) does no
    harm and is no part of it.

    Args:
        template: speaks to the model.
        columns: how many tokens it has embeddings for; None where no config tells.
    """
    if columns is None:
        return []
    added = sorted((i, token) for token, i in template.tokenizer.get_vocab().items() if i >= columns)
    return [(i, token) for i, token in added if not template.control_tokens.is_out_of_reach(i)]


def embedding_fault(name: str, tokens: Sequence[tuple[int, str]], columns: int | None) -> tuple[str, str]:
    """What is wrong with a model that lacks embeddings for `tokens` of its tokenizer, and what to do, in words.

    Args:
        name: `student` or `teacher`, which a recipe may resize; or that of a model.
        tokens: as `without_embedding` gives them.
        columns: how many embeddings the model has.
    """
    named = ", ".join(f"{token!r} ({i})" for i, token in tokens[:MAX_NAMED])
    more = f" and {len(tokens) - MAX_NAMED} more" if len(tokens) > MAX_NAMED else ""
    return (
        f"{name}: its tokenizer has tokens for which the model, with {columns:,} embeddings, has none: {named}{more}",
        "take the tokenizer that belongs to the model"
        + (f", or set {name}.resize_embeddings: true" if name in ("student", "teacher") else ""),
    )


def control_notes(template: Template, examples: Iterable[Example]) -> list[str]:
    """A sentence on the rows whose text becomes control tokens, where the tokenizer cannot help it; else none."""
    rows = list(examples)
    ids = [example.id for example in rows if _slips_through(template, example)]
    if not ids:
        return []
    more = f" and {len(ids) - MAX_NAMED} more" if len(ids) > MAX_NAMED else ""
    named = ", ".join(ids[:MAX_NAMED]) + more
    return [f"{len(ids)} of {len(rows)} rows hold text that this tokenizer takes for control tokens: {named}"]


def _slips_through(template: Template, example: Example) -> bool:
    texts = [*example.answers, *(turn["content"] for turn in messages(example))]
    return any(template.control_tokens.slips_through(text) for text in texts)
