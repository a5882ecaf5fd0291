"""How an example is put to a model – the same words for every model, so that only the models differ.

The user turn reads: context, a blank line, the question, then one line per option.

```text
The AMF terminates N2.

Which network function terminates N2?
A. SMF
B. AMF
```

The answer to learn is the text of the right option, not its letter, so that one metric serves all questions.
"""

from __future__ import annotations

from understudy.data.choices import choice_label
from understudy.types import Example


def render_question(example: Example, *, context: str | None = None) -> str:
    """The user turn.

    Args:
        example: the row.
        context: stands in for the row's own context where that was too long; "" leaves it out.
    """
    text = example.context if context is None else context
    options = [f"{choice_label(place)}. {choice}" for place, choice in enumerate(example.choices)]
    question = "\n".join([example.question, *options])
    return f"{text}\n\n{question}" if text else question


def messages(example: Example, system: str = "", *, context: str | None = None) -> list[dict[str, str]]:
    """The conversation up to the answer, as a chat template takes it.

    Args:
        example: the row; its earlier turns come first.
        system: the recipe's system prompt; where the row has one of its own, both share the first turn.
        context: as in `render_question`.
    """
    turns = [{"role": turn.role, "content": turn.content} for turn in example.history]
    if system and turns and turns[0]["role"] == "system":
        turns[0]["content"] = f"{system}\n\n{turns[0]['content']}"
    elif system:
        turns.insert(0, {"role": "system", "content": system})
    return [*turns, {"role": "user", "content": render_question(example, context=context)}]


def answer_text(example: Example) -> str:
    """The answer to learn: the first one.

    Raises:
        ValueError: the row is unlabelled.
    """
    if not example.answers:
        raise ValueError(f"{example.id} has no answer to learn")
    return example.answers[0]
