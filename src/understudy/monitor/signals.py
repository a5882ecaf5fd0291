"""What is told of one answered request by looking at its texts."""

from __future__ import annotations

import re
from dataclasses import dataclass

from understudy.normal_form import plain_numbers

_WORD = re.compile(r"\w+")
_SIZE = 3
# Only openings: an answer that quotes a refusal is none.
_REFUSAL = re.compile(
    r"^\W*(?:i(?:'|’)?m sorry|i am sorry|sorry,|i can(?:not|'t|’t)|i am (?:not able|unable)|"
    r"i(?:'|’)m (?:not able|unable)|"
    r"i do(?: not|n't|n’t) know|as an ai\b|unable to\b|no answer\b|unanswerable|"
    r"抱歉|对不起|我不知道|我无法|es tut mir leid|ich (?:weiß|kann) (?:es )?nicht|lo siento|je suis désolé)",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Observation:
    """What the detectors see of a request.

    Attributes:
        question: as it was asked.
        answer: what was answered; empty where nothing was.
        confidence: of the student, in [0, 1]; None where it has none.
    """

    question: str
    answer: str = ""
    confidence: float | None = None


def is_refusal(answer: str) -> bool:
    """Whether an answer says nothing, or begins by saying that it will not answer."""
    return not answer.strip() or bool(_REFUSAL.match(answer))


def repetition(answer: str) -> float:
    """Share of an answer's word 3-grams that stood in it before, in [0, 1]; 0 for fewer than two."""
    words = _WORD.findall(answer.casefold())
    runs = [tuple(words[place : place + _SIZE]) for place in range(len(words) - _SIZE + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) > 1 else 0.0


def agreement(student: str, teacher: str) -> float:
    """How far two answers say the same, in [0, 1]: the F1 of their words, 1 where the normal forms are equal.

    F1 = 2 Σ_w min(a_w, b_w) / (|a| + |b|) over words with their counts (Rajpurkar et al. 2016, arXiv 1606.05250).
    """
    first, second = _words(student), _words(teacher)
    if not first or not second:
        return float(first == second)
    common = sum(min(first.count(word), second.count(word)) for word in set(first))
    return 2 * common / (len(first) + len(second))


def _words(text: str) -> list[str]:
    return _WORD.findall(plain_numbers(text.casefold()))
