"""The final answer behind a mark of a solution: `… so 9 · 2 = 18. #### 18` gives `18`.

A mark counts where it stands last, and what stands behind it in its line is the answer (in the next line, where its own
is empty). Emphasis, a pair of `$` around it and its full stop go; units stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from understudy.errors import ConfigError

_BOXED = re.compile(r"\\boxed\s*\{")
_SENTENCE_END = re.compile(r"(?:(?<=\w{3})|(?<=[\d)\]}%$*]))\.\s+(?=[A-Z])")

MARKS: dict[str, re.Pattern[str]] = {
    "####": re.compile("####"),
    "A:": re.compile(r"(?:^[\s*_>#-]*|(?<=[.!?])\s+)A[*_]*\s*:", re.MULTILINE),
    "Answer:": re.compile(r"\banswer[*_]*\s*:", re.IGNORECASE),
    "The answer is": re.compile(r"\bthe\s+(?:final\s+|correct\s+|right\s+)?answer\s+is\b[*_]*\s*:?", re.IGNORECASE),
    r"\boxed{}": _BOXED,
}
r"""The known marks: of GSM8K, of few-shot prompts, of instructed models, of chains of thought, and of MATH.

`Answer:` and `The answer is` are found in any case, `A:` at the beginning of a line or sentence,
`\boxed{}` with its own brackets.
"""
ALL = "all"
"""All known marks together."""

Extract = Callable[[str], str | None]


def final_answers(marks: Sequence[str]) -> Extract:
    r"""The function that takes a final answer out of a text; of several marks the one that stands last in it.

    Args:
        marks: known ones, in any case, `boxed` for `\boxed{}`; `all`; or marks of a user's own, taken literally.

    Returns:
        text -> its final answer; None where it has no mark, or nothing behind it.

    Raises:
        ConfigError: a mark is empty.
    """
    patterns = [pattern for mark in marks for pattern in _patterns(mark)]

    def extract(text: str) -> str | None:
        found = max((match for p in patterns for match in _matches(p, text)), key=lambda m: m.end(), default=None)
        if found is None:
            return None
        return (_in_brackets(text, found.end()) if found.re is _BOXED else _behind(text, found)) or None

    return extract


def _patterns(mark: str) -> list[re.Pattern[str]]:
    name = mark.strip().casefold()
    if not name:
        raise ConfigError("a mark of final answers is empty", hint=f"known: {', '.join(MARKS)}, {ALL}; or one of yours")
    if name == ALL:
        return list(MARKS.values())
    if name.strip("\\{}") == "boxed":
        return [_BOXED]
    return [next((MARKS[known] for known in MARKS if known.casefold() == name), re.compile(re.escape(mark.strip())))]


def _matches(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    last = None
    for last in pattern.finditer(text):  # noqa: B007
        pass
    return iter(() if last is None else (last,))


def _in_brackets(text: str, start: int) -> str:
    depth = 1
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0:
            return text[start:place].strip()
    return ""


def _behind(text: str, mark: re.Match[str]) -> str:
    answer = next((cut for line in text[mark.end() :].split("\n") if (cut := _bare(line))), "")
    if mark.re is MARKS["The answer is"]:
        answer = _bare(_SENTENCE_END.split(answer)[0])
    return answer


def _bare(line: str) -> str:
    line = line.strip().strip("*_`").strip().removesuffix(".").strip().strip("*_`").strip()
    return line[1:-1].strip() if len(line) > 2 and line[0] == line[-1] == "$" else line
