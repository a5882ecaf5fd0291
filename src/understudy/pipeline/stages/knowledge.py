"""The stage in which a teacher writes about the examples, and what of it later stages read."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from understudy.completers.factory import build_completer
from understudy.completers.local_completer import LocalCompleter
from understudy.completers.nobody import Nobody
from understudy.data.embedded.telecom import explanations
from understudy.errors import ConfigError, RunError
from understudy.files import cache_folder
from understudy.knowledge import pipeline, recorded, store, text_statistics
from understudy.knowledge.demonstrations import Demonstration, parse_demonstrations, read_demonstrations
from understudy.knowledge.session_sample import sampled
from understudy.knowledge.step_counts import empty_steps
from understudy.pipeline.knowledge_report import EXPLAINED_DATASET, STAGE
from understudy.pipeline.stages.context import Context, rows_of, teacher_weights
from understudy.pipeline.staleness import text_sources
from understudy.recipe import EndpointConfig, GenerateConfig, Recipe
from understudy.recipe.knowledge import asks_teacher
from understudy.records import GenerationNotes, WritingNotes
from understudy.run import Run
from understudy.types import Completer, Example

MOST_SET_ASIDE = 0.5
"""Beyond this share of examples without an answer it is not a few examples that fail, but whoever answers."""


def generate(context: Context, _: str) -> GenerationNotes:
    """Let the teacher write, step by step, or take over what it wrote earlier; measure what came of it.

    Raises:
        RunError: the budget ended before the work did, nothing was kept of a step, or no answer came for most of the
            examples; what was written stays, and running again goes on.
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
    _check_kept(written, folder)
    steps = sorted(path.stem for path in folder.glob("*.jsonl") if path.name != store.FINISHED)
    rows = itertools.chain.from_iterable(store.read_step(folder, step) for step in steps)
    quality, revision = text_statistics.figures(rows, examples), None
    if {"explain", "revise"} <= set(steps):
        before, after = store.read_step(folder, "explain"), store.read_step(folder, "revise")
        revision = text_statistics.revision(before, after, examples, seed=config.seed)
    return GenerationNotes(**vars(written), quality=quality, sources=text_sources(config), revision=revision)


def _check_kept(written: WritingNotes, folder: Path) -> None:
    """Refuse to go on without what the students are to learn; a few examples set aside are no reason."""
    for step in empty_steps(written.steps):
        counts, path = written.steps[step], store.step_path(folder, step)
        hint = f"read them in {path}, then change generate.filter, the prompt or the teacher"
        if counts.written == 0:
            hint = "mend that, then run the same command again: what never came is asked again, nothing is paid twice"
        reason = _commonest_reason(folder, step)
        raise RunError(f"nothing was kept of step {step}, {counts.asked:,} times asked: {reason}", hint=hint)
    if written.left > MOST_SET_ASIDE * written.examples:
        reasons = ", ".join(f"{kind} {count:,}" for kind, count in (written.set_aside or {}).items())
        raise RunError(
            f"no answer came for {written.left:,} of {written.examples:,} examples ({reasons}), which may pass",
            hint="run the same command again: what is written is kept and not asked for twice",
        )


def _commonest_reason(folder: Path, step: str) -> str:
    """The kind of reason that most rows have, in the words of the first of them."""
    first: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for reason in (reason for row in store.read_step(folder, step) if row.provenance for reason in row.reasons):
        kind = reason.partition(":")[0]
        first.setdefault(kind, reason)
        counts[kind] += 1
    return first[counts.most_common(1)[0][0]] if counts else "no reason is known"


def examples_to_write_about(run: Run, config: GenerateConfig) -> list[Example]:
    """The examples of all roles that the teacher writes about; of sessions the share that the recipe takes."""
    by_role = (rows_of(run, role) for role in config.roles)
    if config.sessions is not None:
        settings = config.sessions
        by_role = (sampled(rows, settings, config.seed) if rows else [] for rows in by_role)
    return list(itertools.chain.from_iterable(by_role))


def text_completer(context: Context) -> Completer:
    """Who writes: the endpoint or model that `generate.teacher` names, else the recipe's own teacher as it is now, here
    or on its server.
    """
    run, recipe = context.run, context.recipe
    assert recipe.generate is not None
    if not asks_teacher(recipe.generate):
        return Nobody()
    endpoint = recipe.generate.teacher or (recipe.served_teacher and recipe.served_teacher.endpoint)
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
