"""What one of two models reads and the other does not: a hint of the teacher's, a context that the student lacks.

```text
                 system, solved questions    context = hint, row's context    question
teacher          data.system + hint.system   hint.text of hint.field          as the row has it
student          data.system                 none with student.context false  as the row has it
```

The answer is the same for both, so what is compared stands at the same tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from understudy.recipe import HintConfig, ModelConfig, StudentConfig, TeacherConfig
from understudy.recipe.hint import MARK, RATIONALE
from understudy.types import Example, Message

Sees = Callable[[Example], Example]
"""An example as a model is asked it."""


def sees(config: ModelConfig) -> Sees | None:
    """What a model sees of an example; None where it is all of it and nothing else."""
    if isinstance(config, TeacherConfig) and config.hint is not None:
        hint = config.hint
        return lambda example: with_hint(example, hint)
    if isinstance(config, StudentConfig) and not config.context:
        return without_context
    return None


def without_context(example: Example) -> Example:
    """The question without what it could be answered from."""
    return replace(example, context=None)


def with_hint(example: Example, hint: HintConfig) -> Example:
    """The question with what the teacher alone is told; a row without the field has no such hint.

    The field counts as context: one that is too long is cut as contexts are (`data.context_overflow`).
    """
    context = [hint.text.replace(MARK, told)] if (told := _field(example, hint.field)) else []
    context += [example.context] if example.context else []
    system, *turns = _system_first(example.history)
    instructions = "\n\n".join(text for text in (hint.system, system.content) if text)
    shown = (Message(role, text) for pair in hint.examples for role, text in zip(_ROLES, pair, strict=True))
    history = ([Message("system", instructions)] if instructions else []) + [*shown, *turns]
    return replace(example, context="\n\n".join(context) or None, history=tuple(history))


_ROLES = ("user", "assistant")


def _field(example: Example, name: str | None) -> str:
    """The text of a field; empty where the row has none."""
    if name is None:
        return ""
    value = next(iter(example.rationales), None) if name == RATIONALE else example.meta.get(name)
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)).strip()
    return "" if value is None else str(value).strip()


def _system_first(history: tuple[Message, ...]) -> tuple[Message, ...]:
    """Earlier turns, a system prompt before them that may be empty."""
    return history if history and history[0].role == "system" else (Message("system", ""), *history)
