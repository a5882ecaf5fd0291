"""A judge by rule, behind a real server: it reads the prompts as a model would and answers by simple rules.

A claim is a sentence of the answer; it is supported where all its words stand in the context; two claims are the same
where their words are. A text with the word BROKEN gets no JSON.
"""

from __future__ import annotations

import json
import re
from typing import Any

from support.servers import Call, Reply

BLOCK = re.compile(r"^BEGIN (.+) ([0-9a-f]{8})\n(.*?)\nEND \1 \2$", re.DOTALL | re.MULTILINE)


def material(prompt: str) -> dict[str, str]:
    """What stands between the marks, by name."""
    return {match[1]: match[3] for match in BLOCK.finditer(prompt)}


def lines(text: str) -> list[str]:
    return [re.sub(r"^\d+\. ", "", line) for line in text.split("\n")]


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


def verdict(prompt: str) -> Any:
    """The answer to a prompt, by the form it asks for."""
    form, found = prompt.rsplit("Form: ", 1)[1], material(prompt)
    if '"claims"' in form:
        answer = found["ANSWER"]
        told = [part.strip(" .") for part in re.split(r"\.\s", answer) if part.strip(" .")]
        return {"claims": [] if "do not know" in answer else told}
    if '"verdicts"' in form:
        context = words(found["CONTEXT"])
        return {"verdicts": [{"reason": "r", "supported": words(c) <= context} for c in lines(found["CLAIMS"])]}
    if '"questions"' in form:
        answer = found["ANSWER"]
        return {"questions": [answer, answer, f"What about {answer}?"], "noncommittal": "do not know" in answer}
    if '"needed"' in form:
        asked = words(found["QUESTION"])
        return {"needed": [n for n, line in enumerate(lines(found["CONTEXT"]), start=1) if asked & words(line)]}
    if '"reference"' in form:
        sides = [lines(found[name]) for name in ("CLAIMS OF THE ANSWER", "CLAIMS OF THE RIGHT ANSWER")]
        known = [{frozenset(words(claim)) for claim in side} for side in sides]
        return {
            "answer": [frozenset(words(claim)) in known[1] for claim in sides[0]],
            "reference": [frozenset(words(claim)) in known[0] for claim in sides[1]],
        }
    first, second = len(found["FIRST ANSWER"]), len(found["SECOND ANSWER"])
    return {"reason": "r", "better": "first" if first > second else "second" if second > first else "tie"}


def judge(call: Call) -> Reply:
    prompt = call.prompt
    return Reply("I would rather not" if "BROKEN" in prompt else json.dumps(verdict(prompt)))
