"""What a stage is: the nouns of the plan of a run. Which kinds there are, `pipeline.kinds` declares.

This module loads no torch: a plan is made before anything else.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from understudy.recipe import Recipe
from understudy.records.base import Record

Side = Literal["teacher", "student", ""]
Notes = Record | Mapping[str, Any] | None
"""What a stage says of itself: a class of `understudy.records`; of a kind of one's own any JSON-able mapping."""


@dataclass(frozen=True)
class Stage:
    """A piece of a run; picklable.

    Attributes:
        kind: names its `StageKind`.
        argument: what it is about: an arm, `teacher` or `student`; empty where there is one of its kind.
        name: its folder and its name in messages.
        needs: names of the stages that must be done before.
        exclusive: runs alone, because it measures time.
        distributed: runs on every process of an `accelerate launch`; all others run on the first.
    """

    kind: str
    argument: str = ""
    name: str = ""
    needs: tuple[str, ...] = ()
    exclusive: bool = False
    distributed: bool = False


@dataclass(frozen=True)
class Plan:
    """What is known when the stages of a run are laid out.

    Attributes:
        recipe: the run's.
        unlabelled: whether there are questions without gold; without any, some arms are the same as others.
        stages: what is planned so far, in an order in which each finds what it needs.
    """

    recipe: Recipe
    unlabelled: bool = True
    stages: tuple[Stage, ...] = ()

    def named(self, kind: str) -> tuple[str, ...]:
        """The names of the planned stages of a kind."""
        return tuple(stage.name for stage in self.stages if stage.kind == kind)

    def named_of(self, kind: str, argument: str) -> tuple[str, ...]:
        """The name of a planned stage, if there is one of this kind and argument."""
        return tuple(stage.name for stage in self.stages if (stage.kind, stage.argument) == (kind, argument))

    def has(self, kind: str, argument: str = "") -> bool:
        """Whether a stage is planned."""
        return any(stage.kind == kind and stage.argument == argument for stage in self.stages)


@dataclass(frozen=True)
class StageKind:
    """All that is to be known of a kind of stage.

    Attributes:
        name: of the kind.
        run: `module:function`, imported when a stage of this kind runs, or the function itself; called with (context,
            argument), and what it returns are the notes in the stage's record.
        plan: (argument, needs) of each stage of this kind that a run has.
        reads: the recipe fields that can change a stage, beside those of the stages it is made from; of (recipe,
            argument), the recipe being that of the argument's arm.
        title: what it does, for the progress on the screen; of the argument.
        label: its name, of the argument.
        side: whose own training it is, or whose answers it takes, so that it goes by that model's seed; of the
            argument.
        trains: whether it trains a model; then it runs on every process of an `accelerate launch`.
        exclusive: whether it measures time and runs alone.
        shared: whether several cells of a grid may share it.
        last: whether it is planned behind all others, because it needs them.
    """

    name: str
    run: str | Callable[..., Notes]
    plan: Callable[[Plan], Sequence[tuple[str, tuple[str, ...]]]]
    reads: Callable[[Recipe, str], tuple[str, ...]] = lambda recipe, argument: ()
    title: Callable[[str], str] | str = ""
    label: Callable[[str], str] = lambda argument: ""
    side: Callable[[str], Side] = lambda argument: ""
    trains: bool = False
    exclusive: bool = False
    shared: bool = True
    last: bool = False

    def stage(self, argument: str = "", needs: tuple[str, ...] = ()) -> Stage:
        """A stage of this kind."""
        return Stage(self.name, argument, self.name_of(argument), needs, self.exclusive, self.trains)

    def name_of(self, argument: str) -> str:
        """The name of a stage of this kind."""
        return self.label(argument) or (f"{self.name}-{argument}" if argument else self.name)

    def title_of(self, argument: str) -> str:
        """What it does, in plain words."""
        return (self.title if isinstance(self.title, str) else self.title(argument)) or self.name_of(argument)

    def function(self) -> Callable[..., Notes]:
        """What it runs."""
        if not isinstance(self.run, str):
            return self.run
        module, _, name = self.run.partition(":")
        return getattr(importlib.import_module(module), name)
