"""The stage in which a teacher writes about the examples, and what of it later stages read."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from understudy.completers.factory import build_completer
from understudy.completers.local_completer import LocalCompleter
from understudy.data.embedded.telecom import explanations
from understudy.errors import ConfigError, RunError
from understudy.files import cache_folder
from understudy.knowledge import pipeline, recorded, store, text_statistics
from understudy.knowledge.demonstrations import Demonstration, parse_demonstrations, read_demonstrations
from understudy.pipeline.knowledge_report import EXPLAINED_DATASET, STAGE
from understudy.pipeline.stages.context import Context, rows_of, teacher_weights
from understudy.pipeline.staleness import text_sources
from understudy.recipe import EndpointConfig, GenerateConfig, Recipe
from understudy.records import GenerationNotes
from understudy.run import Run
from understudy.types import Completer, Example


def generate(context: Context, _: str) -> GenerationNotes:
    """Let the teacher write, step by step, or take over what it wrote earlier; measure what came of it.

    Raises:
        RunError: the budget ended before the work did; what was written stays, and running again goes on.
    """
    run, recipe = context.run, context.recipe
    config = recipe.generate
    assert config is not None
    examples, folder = examples_to_write_about(run, config), run.stage(STAGE)
    if config.recorded:
        written = recorded.import_recorded(config.recorded, examples, config, folder, progress=context.progress)
    else:
        written = pipeline.generate(
            examples,
            config,
            text_completer(context),
            folder,
            demonstrations=demonstrations(run, recipe),
            progress=context.progress,
        )
    if written.stopped:
        raise RunError(
            f"the teacher stopped with {written.left:,} of {written.examples:,} examples left: {written.stopped}",
            hint="raise the budget and run the same command again: what is written is kept and not paid for twice",
        )
    if written.left:
        raise RunError(
            f"no answer came for {written.left:,} of {written.examples:,} examples, for reasons that may pass",
            hint="run the same command again: what is written is kept and not asked for twice",
        )
    steps = sorted(path.stem for path in folder.glob("*.jsonl") if path.name != store.FINISHED)
    rows = itertools.chain.from_iterable(store.read_step(folder, step) for step in steps)
    quality, revision = text_statistics.figures(rows, examples), None
    if {"explain", "revise"} <= set(steps):
        before, after = store.read_step(folder, "explain"), store.read_step(folder, "revise")
        revision = text_statistics.revision(before, after, examples, seed=config.seed)
    return GenerationNotes(**vars(written), quality=quality, sources=text_sources(config), revision=revision)


def examples_to_write_about(run: Run, config: GenerateConfig) -> list[Example]:
    """The examples of all roles that the teacher writes about."""
    return [example for role in config.roles for example in rows_of(run, role)]


def text_completer(context: Context) -> Completer:
    """Who writes: the endpoint or model that `generate.teacher` names, else the recipe's own teacher as it is now."""
    run, recipe = context.run, context.recipe
    assert recipe.generate is not None
    endpoint = recipe.generate.teacher
    if endpoint is not None:
        return build_completer(endpoint, cache_folder("teacher"), account=run.folder.name)
    teacher = recipe.local_teacher
    config = EndpointConfig(model=teacher.model, concurrency=recipe.evaluate.batch_size)
    # A cache of its own: another run's teacher of the same name has other weights.
    folder = run.stage(STAGE) / "answers"
    weights = teacher_weights(run, recipe)
    return LocalCompleter(config, folder, section=teacher, weights=weights, device=recipe.device, seed=recipe.seed)


def demonstrations(run: Run, recipe: Recipe) -> Sequence[Demonstration]:
    """What people wrote: the file that the recipe names, else what comes with the data set; it may be nothing."""
    assert recipe.generate is not None
    if recipe.generate.demonstrations:
        return read_demonstrations(recipe.generate.demonstrations)
    if recipe.data.source == EXPLAINED_DATASET:
        return parse_demonstrations(explanations.demonstrations(rows_of(run, "train")), EXPLAINED_DATASET)
    return ()


def teaching_examples(run: Run, recipe: Recipe) -> list[Example]:
    """What the teacher is fine-tuned on beside the gold answers, with `generate.teach`.

    Raises:
        ConfigError: it is to be taught, and there is nothing to teach it with.
    """
    if recipe.generate is None or not recipe.generate.teach:
        return []
    examples = pipeline.teaching_examples(recipe.generate, demonstrations(run, recipe))
    if not examples:
        raise ConfigError(
            "generate.teach: there are no demonstrations of its steps",
            hint="name a file of them in generate.demonstrations, or leave teach out",
        )
    return examples
