"""`monitor.yaml`: what of the traffic is kept, for how long, what is looked for, and who is told."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError

from understudy import bounds
from understudy.errors import ConfigError
from understudy.files import read_text
from understudy.recipe.endpoint import Section


def _pattern(text: str) -> str:
    try:
        compiled = re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    if compiled.match(""):
        raise ValueError(f"{text!r} matches everywhere, for it matches nothing")
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
Share = Annotated[float, Field(ge=0, le=1)]
Days = Annotated[float, Field(gt=0, le=36_500)]

PATTERNS = (
    r"(?i)\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b",
    r"(?i)\b(?:sk|pk|rk|hf|gsk|xai|nvapi|key)[-_][\w.-]{8,}",
    r"(?i)\b(?:bearer|password|api[-_ ]?key|token|secret)\s*[:=]\s*\S+",
    r"(?<![\w.])\+?\d(?:[ -]?\d){12,18}(?![\w.])",
    r"(?<![\w.])(?:\+|00)\d{1,3}(?:[ /-]?\d){7,12}(?![\w.])",
)
"""Addresses of mail, keys, what a label calls secret, numbers of cards and subscribers, telephone numbers."""


class ShadowConfig(Section):
    """Which requests the teacher answers too, in the background."""

    share: Share = 0.05
    """Probability that a request is shown to the teacher; 0: no shadow."""
    unsure_share: Share | None = None
    """The probability below `unsure_below`; None: `share` too. What is sampled more often counts less."""
    unsure_below: Share = 0.5
    """Confidence under which a request is unsure."""
    waiting: int = Field(default=100, ge=1, le=bounds.AT_ONCE)
    """Requests that wait for the teacher, at most; what comes then is passed over and counted."""


class AlertConfig(Section):
    """When somebody is told."""

    webhook: str | None = Field(default=None, pattern=r"^https?://")
    """Address that gets each alert as JSON; None: the log alone."""
    false_alarm_every: float = Field(default=70_000, ge=100, le=1e9)
    """Requests to a false alarm of drift, on the average at least, of all rules together."""
    min_agreement: Share | None = None
    """An alert, once the interval of the shadow agreement lies below this whole."""
    max_error_share: Share | None = 0.05
    """An alert, once so many of the last 200 requests failed on the server's side."""
    max_seconds: float | None = Field(default=None, gt=0, le=bounds.SECONDS)
    """An alert, once 95 of the last 200 requests in a hundred took longer than this; None: never."""


class CanaryConfig(Section):
    """The test of a candidate against the student in use."""

    alpha: float = Field(default=0.05, gt=0, lt=1)
    """Probability of a wrong verdict, at most."""


class MonitorConfig(Section):
    """The monitor's settings."""

    on: bool = True
    """The switch: off, nothing is kept, sampled or looked at."""
    keep_days: Days = 30
    """Requests are deleted when they are older."""
    sample: Share = 1.0
    """Share of the requests that are kept; what the teacher saw, thumbs and failures are kept always."""
    redact: tuple[Pattern, ...] = PATTERNS
    """Regular expressions; what they match never reaches the database."""
    hold_out: Share = 0.1
    """Share of the questions that is never harvested and stays a test set."""
    keep_texts: bool = True
    """Off: questions and answers are looked at and not kept; there is nothing to harvest then."""
    reference: Literal["evaluation", "live"] = "evaluation"
    """What drift is measured against: the answers of the run's evaluation, or the first requests of this database –
    with their confidence – where those asked for in use were never like the evaluation set."""
    reference_rows: int = Field(default=1000, ge=100, le=100_000)
    """How many requests `live` takes; until there are so many, drift is not looked for."""
    shadow: ShadowConfig = ShadowConfig()
    alerts: AlertConfig = AlertConfig()
    canary: CanaryConfig = CanaryConfig()


def read_config(path: Path | None) -> MonitorConfig:
    """Read settings; without a file all defaults.

    Raises:
        ConfigError: the file is no YAML, or a field is wrong; the first is named.
    """
    if path is None:
        return MonitorConfig()
    try:
        return MonitorConfig.model_validate(yaml.safe_load(read_text(path)) or {})
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no YAML", hint=" ".join(str(error).split())[:200]) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"{path}: {where}: {first['msg']}", hint="`understudy docs monitoring` lists the fields"
        ) from None
