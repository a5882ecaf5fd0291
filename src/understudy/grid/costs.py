"""What a cell cost: tokens, computation, time, memory, money of its arm, from the records of its stages.

```text
FLOPs = Σ over trainings of 6 · parameters · tokens trained on  +  2 · parameters · (tokens read + tokens written)
```

Two operations a parameter and token for a forward pass, four more for the backward one (Kaplan et al., 2020, arXiv
2001.08361, §2.1); attention, which grows with the square of the length, is left out. A training counts all that is read
and written over all of its steps, that of the student before the arm among them. Of adapters it is an upper bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from understudy.arms import ARMS, free_of
from understudy.pipeline.kinds import stage_of
from understudy.recipe import Recipe
from understudy.recipe.own_arms import has_own_student, is_informed
from understudy.records import AnswerCost, PredictionNotes, TrainingNotes
from understudy.run import Run


def flops(parameters: float, trained_tokens: float, answer_tokens: float) -> float:
    """Operations of training on some tokens and reading and writing others: 6·N·D + 2·N·T."""
    return 6 * parameters * trained_tokens + 2 * parameters * answer_tokens


@dataclass(frozen=True, slots=True)
class RunCost:
    """What an arm of one run took.

    Attributes:
        answers: what answering the test rows took.
        training_tokens: tokens trained on, over all steps.
        flops: of training and of all answers; None where a number of parameters is not known.
    """

    answers: AnswerCost
    training_tokens: int
    flops: float | None


def cost_of(folder: Path, arm: str) -> RunCost | None:
    """What an arm took; None where its stages do not tell: rows that are no sessions, baselines.

    Args:
        folder: of the run.
        arm: whose answers, constrained ones beside free ones too.
    """
    name, is_constrained = free_of(arm)
    run, stage = Run(folder), stage_of("predict", name).name
    if (name in ARMS and not ARMS[name].model) or not run.is_done(stage):
        return None
    notes = run.notes(stage, PredictionNotes)
    cost = notes.constrained_cost if is_constrained else notes.cost
    if cost is None:
        return None
    trainings = [run.notes(training, TrainingNotes) for training in _trainings(run, name)]
    trained = [(t.trained_tokens or 0, t.parameters or cost.parameters) for t in trainings]
    answered = cost.input_tokens + cost.output_tokens
    known = cost.parameters is not None and all(tokens and n for tokens, n in trained)
    operations = flops(cost.parameters or 0, 0, answered) + sum(flops(n or 0, tokens, 0) for tokens, n in trained)
    return RunCost(cost, sum(tokens for tokens, _ in trained), operations if known else None)


def _trainings(run: Run, name: str) -> list[str]:
    """The stages that trained the model of an arm, as far as they are of this run."""
    recipe: Recipe = run.recipe
    arm = recipe.arm(name)
    if arm.model == "teacher":
        stages = [stage_of("sft", "teacher").name]
    else:
        own = name if has_own_student(recipe, name) else "student"
        starts = arm.trained or is_informed(recipe, name)
        stages = [stage_of("sft", own).name] if starts else []
        stages += [stage_of("train", name).name] if arm.trained else []
    return [stage for stage in stages if run.is_done(stage)]
