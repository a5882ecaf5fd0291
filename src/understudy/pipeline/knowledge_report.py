"""What a run's report shows of the teacher's texts, gathered from the run folder."""

from __future__ import annotations

import random
from collections.abc import Collection

from understudy.arms import EXPLAINED
from understudy.files import read_jsonl
from understudy.knowledge import store
from understudy.pipeline.kinds import stage_of
from understudy.recipe import Recipe
from understudy.records import GenerationNotes, PredictionNotes, StepCounts
from understudy.report.inputs import TextSample, WrittenTexts
from understudy.run import Run
from understudy.types import Knowledge

STAGE, EXPLAINED_DATASET = "generate", "embedded:telecom-choices"
"""The stage in which the teacher writes; the data set that brings explanations along."""
SAMPLES = 3


def texts_of(run: Run, recipe: Recipe) -> WrittenTexts | None:
    """`ReportInputs.texts`; None where nothing was written and no student explains its answers."""
    predicted = stage_of("predict", EXPLAINED.name).name
    explanations = run.notes(predicted, PredictionNotes).explanations if run.is_done(predicted) else None
    if recipe.generate is None or not run.is_done(STAGE):
        return WrittenTexts(explanations=explanations) if explanations else None
    notes = run.notes(STAGE, GenerationNotes)
    return WrittenTexts(
        teacher=notes.teacher,
        quality=notes.quality,
        revision=notes.revision,
        costs=costs(notes.steps.values()),
        samples=samples(run, recipe),
        explanations=explanations or (),
    )


def taught_note(recipe: Recipe) -> str:
    """What a reader has to know of texts that the embedded teacher wrote; empty where another one did."""
    if recipe.generate is None or not recipe.generate.teach or recipe.data.source != EXPLAINED_DATASET:
        return ""
    return (
        "The teacher was fine-tuned on explanations composed from the knowledge base, and is of a size that can do "
        "little more than repeat their form. Its critiques and revisions show that the way is whole; they test nothing "
        "of what revision by a large model is worth."
    )


def costs(steps: Collection[StepCounts]) -> str:
    """What the texts of some steps cost, in a sentence."""
    input_tokens, output_tokens = sum(step.input_tokens for step in steps), sum(step.output_tokens for step in steps)
    priced = [step.cost for step in steps if step.cost is not None]
    money = f", at the recipe's prices {sum(priced):,.4f}" if priced else ""
    return (
        f"It read {input_tokens:,} and wrote {output_tokens:,} tokens{money}." if input_tokens or output_tokens else ""
    )


def samples(run: Run, recipe: Recipe, count: int = SAMPLES) -> list[TextSample]:
    """A few examples with everything that was written about them, drawn by the run's seed."""
    assert recipe.generate is not None
    folder = run.stage(STAGE)
    examples = [row for role in recipe.generate.roles for row in read_jsonl(run.folder / "data" / f"{role}.jsonl")]
    drawn = random.Random(f"{recipe.seed}/samples").sample(examples, min(count, len(examples)))
    rows: dict[str, list[Knowledge]] = {example["id"]: [] for example in drawn}
    present = {path.stem for path in folder.glob("*.jsonl") if path.name != store.FINISHED}
    for step in [*(s for s in recipe.generate.steps if s in present), *sorted(present - set(recipe.generate.steps))]:
        for row in store.read_step(folder, step):
            if row.id in rows:
                rows[row.id].append(row)
    return [
        TextSample(
            id=example["id"],
            question=example["question"],
            choices=example.get("choices", ()),
            answer=(example.get("answers") or [""])[0],
            texts=rows[example["id"]],
        )
        for example in drawn
    ]
