"""How a judge is asked: prompts from editable files, material kept apart from instructions, verdicts or reasons back.

Every judged metric asks in *cases*. A case is the key by which the metric finds its verdict again: (item, repeat) and
whatever else it needs. A case ends as the parsed answer or as `Missing`, never as a number that nobody gave.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from understudy import __version__
from understudy.errors import ConfigError
from understudy.files import fingerprint
from understudy.metrics.scores import Score, mean_score
from understudy.types import Completer, Completion, Message, Request

PROMPT_FOLDERS: list[Path] = [Path(__file__).parent / "prompts"]
"""Where prompts are looked for, first one first. Your own: `PROMPT_FOLDERS.insert(0, Path("my_prompts"))`."""

_SHARED = ("system", "material")
_UNPARSEABLE = {"unparseable", "unfinished", "unreadable", "empty"}

NO_VERDICT = "no item got a verdict"
"""What stands before the colon of the reason of a metric that the judge decided nowhere."""

Case = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """Why a case has no verdict; the words before a colon are its kind."""

    reason: str

    @property
    def kind(self) -> str:
        """The reason without its details."""
        return self.reason.partition(":")[0]


Verdict = Mapping[str, Any] | Missing


def object_schema(**properties: Any) -> dict[str, Any]:
    """The JSON schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def list_schema(items: Mapping[str, Any], length: int | None = None, **keywords: Any) -> dict[str, Any]:
    """The JSON schema of a list, of exactly `length` items where that is not None; `keywords` go into it."""
    bounds = {} if length is None else {"minItems": length, "maxItems": length}
    return {"type": "array", "items": dict(items), **bounds, **keywords}


def render(prompt: str, variables: Mapping[str, Any]) -> tuple[Message, ...]:
    """The conversation of one question.

    Material is put between lines that end in a mark which no text in it contains, so that whatever a model wrote –
    braces, instructions, a line that looks like an end – stays material.

    Raises:
        ConfigError: no such prompt, or it uses a variable that it is not given.
    """
    from jinja2 import TemplateError

    mark = _mark(variables)
    try:
        messages = [_template(name).render(variables, mark=mark).strip() for name in ("system", prompt)]
    except TemplateError as error:
        raise ConfigError(f"prompt {prompt}.jinja: {error}", hint=f"prompts lie in {PROMPT_FOLDERS[0]}") from error
    return Message("system", messages[0]), Message("user", messages[1])


def _mark(variables: Mapping[str, Any]) -> str:
    material = json.dumps(variables, sort_keys=True)
    mark = fingerprint(material, length=8)
    while mark in material:
        mark = fingerprint(mark, length=8)
    return mark


def _template(name: str) -> Any:
    return _environment(tuple(PROMPT_FOLDERS)).get_template(f"{name}.jinja")


@lru_cache(maxsize=4)
def _environment(folders: tuple[Path, ...]) -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(list(folders)), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )


def prompt_fingerprint(*prompts: str) -> str:
    """Eight hexadecimal digits of the prompts' texts, the shared ones included."""
    sources = []
    for name in (*_SHARED, *prompts):
        files = [folder / f"{name}.jinja" for folder in PROMPT_FOLDERS if (folder / f"{name}.jinja").is_file()]
        if not files:
            raise ConfigError(f"there is no prompt {name}.jinja", hint=f"prompts lie in {PROMPT_FOLDERS[0]}")
        sources.append(files[0].read_text(encoding="utf-8"))
    return fingerprint(sources, length=8)


class JudgeSession:
    """One metric's questions to a judge, and what became of them."""

    def __init__(self, name: str, judge: Completer, items: int, repeats: int, *prompts: str) -> None:
        self.name = name
        self.judge = judge
        self.items = items
        self.repeats = repeats
        self.signature = judge_signature(judge, *prompts, repeats=repeats)
        self._num_completions = self._num_cached = self._input_tokens = self._output_tokens = 0
        self._kinds: Counter[str] = Counter()

    def ask(
        self, prompt: str, cases: Mapping[Case, tuple[Mapping[str, Any], Mapping[str, Any]]]
    ) -> dict[Case, Verdict]:
        """Put a prompt to the judge once a case.

        Args:
            prompt: the file's name without its ending.
            cases: case -> (variables of the prompt, JSON schema of the answer); the second number of a case is the
                repeat.
        """
        names = {str(number): case for number, case in enumerate(cases)}
        verdicts: dict[Case, Verdict] = {}
        for completion in self.judge.complete(self._requests(prompt, cases)):
            case = names[completion.id]
            verdicts[case] = _verdict(completion, cases[case][1])
            self._count(completion, verdicts[case])
        return {case: verdicts.get(case, Missing("lost: the judge gave no completion")) for case in cases}

    def _requests(self, prompt: str, cases: Mapping[Case, tuple[Mapping[str, Any], Any]]) -> Iterator[Request]:
        for number, (case, (variables, schema)) in enumerate(cases.items()):
            yield Request(str(number), render(prompt, variables), schema, sample=case[1])

    def _count(self, completion: Completion, verdict: Verdict) -> None:
        self._num_completions += 1
        self._num_cached += completion.cached
        if isinstance(verdict, Missing):
            self._kinds[verdict.kind] += 1
        if not completion.cached:
            self._input_tokens += completion.input_tokens
            self._output_tokens += completion.output_tokens

    @property
    def unparseable_share(self) -> float:
        """Share of the judge's completions that could not be used for what was written in them."""
        return sum(self._kinds[kind] for kind in _UNPARSEABLE) / self._num_completions if self._num_completions else 0.0

    def score(self, outcomes: Mapping[Case, float | Missing]) -> Score:
        """The score of outcomes by (item, repeat); an item's value is the mean over the repeats that have one."""
        values = np.full((self.items, self.repeats), np.nan)
        missing: dict[int, Missing] = {}
        for (item, repeat), outcome in outcomes.items():
            if isinstance(outcome, Missing):
                missing[item] = outcome
            else:
                values[item, repeat] = outcome
        counts = (~np.isnan(values)).sum(axis=1)
        means = np.where(counts > 0, np.nansum(values, axis=1) / np.maximum(counts, 1), np.nan)
        reasons = Counter(missing[item].kind for item in np.flatnonzero(counts == 0).tolist())
        score = mean_score(self.name, means, self.signature)
        examples = {missing[item].kind: missing[item].reason for item in sorted(missing, reverse=True)}
        reason = "" if counts.any() else f"{NO_VERDICT}: {'; '.join(map(_shortened, examples.values()))}"
        return replace(score, reason=reason, details=self._details(values, reasons))

    def _details(self, values: np.ndarray, reasons: Counter[str]) -> dict[str, Any]:
        details: dict[str, Any] = {
            "judge": self.judge.name,
            "repeats": self.repeats,
            "asked": self._num_completions,
            "cached": self._num_cached,
            "input_tokens": self._input_tokens,
            "output_tokens": self._output_tokens,
            "unparseable_share": self.unparseable_share,
            "faults": dict(self._kinds),
            "missing": dict(reasons),
        }
        if self.repeats > 1:
            details |= repeat_variance(values)
        return details


def _shortened(reason: str, longest: int = 160) -> str:
    return reason if len(reason) <= longest else f"{reason[: longest - 1]}…"


def _verdict(completion: Completion, schema: Mapping[str, Any]) -> Verdict:
    """The answer, checked again: a completer of somebody's own may not have looked."""
    from jsonschema import Draft202012Validator

    if completion.reason or completion.text is None:
        return Missing(completion.reason or "empty: the judge gave no text")
    if Draft202012Validator(schema).is_valid(completion.value):
        return completion.value
    return Missing("unparseable: the judge's answer breaks its schema")


def judge_signature(judge: Completer, *prompts: str, repeats: int = 1) -> str:
    """Judge, prompts, repeats and version, in print."""
    return f"judge:{judge.name}|prompts:{prompt_fingerprint(*prompts)}|repeats:{repeats}|understudy:{__version__}"


def repeat_variance(values: np.ndarray) -> dict[str, float | int | None]:
    """How much a judge disagrees with itself.

    ```text
    repeat_variance  mean over items of the sample variance of an item's repeats
    item_variance    variance between items, freed of the part that the repeats alone would cause
    reliability      item_variance / (item_variance + repeat_variance), the intraclass correlation ICC(1)
    ```

    Args:
        values: `[items, repeats]`, NaN where there is no verdict. Items with fewer than two verdicts are left out.

    Returns:
        The three, the share of items whose repeats differ, and how many items were counted; None where undefined.
    """
    counts = (~np.isnan(values)).sum(axis=1)
    repeated = values[counts > 1]
    if not len(repeated):
        return {
            "repeat_variance": None,
            "item_variance": None,
            "reliability": None,
            "varied_share": None,
            "repeated": 0,
        }
    within = float(np.nanvar(repeated, axis=1, ddof=1).mean())
    means = np.nanmean(repeated, axis=1)
    noise = float((np.nanvar(repeated, axis=1, ddof=1) / counts[counts > 1]).mean())
    between = max(0.0, float(np.var(means, ddof=1)) - noise) if len(means) > 1 else None
    total = None if between is None else between + within
    return {
        "repeat_variance": within,
        "item_variance": between,
        "reliability": between / total if between is not None and total else None,
        "varied_share": float((np.nanmax(repeated, axis=1) > np.nanmin(repeated, axis=1)).mean()),
        "repeated": len(repeated),
    }
