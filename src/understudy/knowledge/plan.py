"""The steps of a recipe in their order: which waits for which, how each is asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.errors import ConfigError, unknown
from understudy.knowledge.step import RATIONALE, PriorTexts, Step, find_step
from understudy.recipe import EndpointConfig
from understudy.recipe.knowledge import GenerateConfig
from understudy.types import Knowledge


@dataclass(frozen=True)
class PlannedStep:
    """A step in its place.

    Attributes:
        step: the step.
        direct: the steps it waits for.
        known: the steps whose texts it sees, in their order: those it waits for, and what they waited for.
        temperature: sampling temperature; None: the completer's own.
        max_tokens: longest text.
        samples: how often each question is asked.
    """

    step: Step
    direct: tuple[str, ...] = ()
    known: tuple[str, ...] = ()
    temperature: float | None = None
    max_tokens: int = 0
    samples: int = 1

    @property
    def name(self) -> str:
        """The step's name."""
        return self.step.name

    def sees(self, rows: Iterable[Knowledge]) -> PriorTexts:
        """What the step may know of an example's rows: the same ones, whichever came first."""
        visible = [row for row in rows if row.step in self.known]
        return PriorTexts(
            tuple(sorted(visible, key=lambda row: (self.known.index(row.step), row.choice or 0, row.sample)))
        )

    def lacks(self, known: PriorTexts) -> str:
        """Why the step cannot be asked; empty where it can."""
        for need in self.step.needs + self.step.after:
            was_asked = need in self.direct or (need == RATIONALE and bool(self.direct))
            text = known.rationale() if need == RATIONALE else known.text(need)
            if was_asked and text is None:
                return f"needs {need}: none was kept"
        return ""


def plan_steps(config: GenerateConfig, endpoint: EndpointConfig | None = None) -> tuple[PlannedStep, ...]:
    """The steps of a section, checked.

    Args:
        config: the section; its own steps are loaded already.
        endpoint: the teacher, where it is known; its temperature is that of steps that name none.

    Raises:
        ConfigError: a step is unknown, twice there, or stands before what it needs; a setting names no step of the
            section; several samples without a temperature.
    """
    planned: list[PlannedStep] = []
    for name in config.steps:
        planned.append(_place(find_step(name), planned, config))
    for field in ("temperatures", "max_tokens"):
        for name in getattr(config, field):
            if name not in config.steps:
                raise unknown("step", name, config.steps, where=f"generate.{field}")
    general = endpoint.temperature if endpoint else 0.0
    for planned_step in planned:
        if planned_step.samples > 1 and not (general if planned_step.temperature is None else planned_step.temperature):
            raise ConfigError(
                f"generate.samples: {config.samples} answers at temperature 0 are one answer",
                hint=f"set generate.temperatures: {{{planned_step.name}: 0.7}}",
            )
    return tuple(planned)


def _place(step: Step, before: list[PlannedStep], config: GenerateConfig) -> PlannedStep:
    names = [earlier.name for earlier in before]
    if step.name in names:
        raise ConfigError(f"generate.steps: {step.name} stands there twice", hint="leave one of them out")
    rationales = [earlier.name for earlier in before if earlier.step.rationale]
    for need in step.needs:
        if need not in names and not (need == RATIONALE and rationales):
            wanted = "explain or another step that writes a rationale" if need == RATIONALE else need
            raise ConfigError(f"generate.steps: {step.name} needs {need} before it", hint=f"put {wanted} before it")
    wanted = {name for need in step.needs + step.after for name in (rationales if need == RATIONALE else [need])}
    direct = tuple(name for name in names if name in wanted)
    visible = wanted.union(*(earlier.known for earlier in before if earlier.name in direct))
    return PlannedStep(
        step,
        direct,
        tuple(name for name in names if name in visible),
        config.temperatures.get(step.name),
        config.max_tokens.get(step.name, step.max_tokens),
        config.samples if step.sampled else 1,
    )


def parts_of(plan: Sequence[PlannedStep]) -> tuple[tuple[PlannedStep, ...], ...]:
    """Steps that go by examples as far as they stand together, each step of the data set by itself, in their order."""
    parts: list[list[PlannedStep]] = []
    for planned in plan:
        if planned.step.scope == "example" and parts and parts[-1][0].step.scope == "example":
            parts[-1].append(planned)
        else:
            parts.append([planned])
    return tuple(map(tuple, parts))


def settings_of(planned: PlannedStep, fingerprint: str) -> dict[str, Any]:
    """What can change a step's texts, JSON-able."""
    return {
        "step": planned.name,
        "prompt": fingerprint,
        "temperature": planned.temperature,
        "max_tokens": planned.max_tokens,
        "samples": planned.samples,
        "known": list(planned.known),
    }
