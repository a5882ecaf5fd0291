"""The models of a run that can be asked: the student, the teacher, the undistilled student, and every other arm.

What is asked here is worded, cut and tokenised by what the run itself measured with, and answered by the same weights.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import transformers

from understudy.arms import BASE_STUDENT, TEACHER, main_arm
from understudy.data.tasks import prompt_example, split_answer
from understudy.errors import ConfigError, RunError, listed
from understudy.evaluation.explanations import READS_RATIONALE, roles_of
from understudy.models.feature_input import check_alone
from understudy.models.kinds import TextKind, kind_of
from understudy.models.load import Loaded, load_example_tokenizer, load_model, pick_device
from understudy.pipeline.stages.evaluation import arm_model
from understudy.recipe import ModelConfig, Recipe
from understudy.recipe.own_arms import for_arm
from understudy.run import Run
from understudy.serve.local_engine import BATCH, LocalEngine
from understudy.serve.pointing import PointingEngine
from understudy.serve.upstream_engine import UpstreamEngine
from understudy.serve.work import Engine
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.types import Example

STUDENT, TEACHER_SIDE, UNDISTILLED = "student", "teacher", "undistilled"
SIDES = (STUDENT, TEACHER_SIDE, UNDISTILLED)
"""Names that every run has, beside those of its arms."""


@dataclass(frozen=True)
class Upstream:
    """A server that writes in place of a model of this process.

    Attributes:
        base_url: with `/v1`.
        model: its name there.
        key_env: the environment variable that holds the key; keys stand nowhere else.
        renders: whether it is sent conversations, for it takes no token ids.
        timeout: seconds.
    """

    base_url: str
    model: str
    key_env: str = "OPENAI_API_KEY"
    renders: bool = False
    timeout: float = 60.0


@dataclass
class Side:
    """One model that can be asked.

    Attributes:
        name: as it is asked for.
        arm: of the run whose answers it gives; empty for a server that is of none.
        title: what it is, in a line.
        tokenizer: that of the run; None where a server renders and nothing is known of it.
        engine: writes; None of a model that points.
        pointer: points; None of a model that writes.
        task: the task whose text holds the answer, of a student that learned tasks; else empty.
        system: the system prompt, for a side without a tokenizer.
        max_answer_tokens: longest answer, as the run has it.
        positions: longest prompt and answer together that the model can read; None where that is not bounded.
        input_price: of a million tokens; None where it has no price.
        output_price: likewise.
    """

    name: str
    arm: str
    title: str
    tokenizer: ExampleTokenizer | None
    engine: Engine | None = None
    pointer: PointingEngine | None = None
    task: str = ""
    system: str = ""
    max_answer_tokens: int = 128
    positions: int | None = None
    input_price: float | None = None
    output_price: float | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def writes(self) -> bool:
        """Whether it writes text; else it points at its answers."""
        return self.engine is not None

    def asked(self, example: Example) -> Example:
        """An example as this model is asked it."""
        return prompt_example(example, self.task) if self.task else example

    def answer_of(self, text: str) -> str:
        """The answer in what it wrote, as a run has it in its predictions."""
        return (split_answer(text)[1] or "") if self.task in READS_RATIONALE else text.strip() if self.task else text

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        """What an answer cost; None where nothing has a price."""
        if self.input_price is None and self.output_price is None:
            return None
        return (prompt_tokens * (self.input_price or 0) + completion_tokens * (self.output_price or 0)) / 1e6

    async def close(self) -> None:
        """End its engine."""
        for engine in (self.engine, self.pointer):
            if engine is not None:
                await engine.close()


@dataclass(frozen=True)
class Opening:
    """How the models of a run are opened.

    Attributes:
        device: where they go; None: the recipe's.
        batch: answers written side by side.
        max_length: stands in for `data.max_length`.
        upstream: name of a side -> the server that writes for it.
    """

    device: str | None = None
    batch: int = BATCH
    max_length: int | None = None
    upstream: Mapping[str, Upstream] = field(default_factory=dict)


def arm_of(run: Run, name: str) -> str:
    """The arm that a name stands for.

    Raises:
        ConfigError: the run has no such model.
    """
    recipe = run.recipe
    main = main_arm(recipe.evaluate.arms)
    # A recipe that distils nothing is about the last arm that it names.
    own = {STUDENT: main if main in recipe.evaluate.arms else recipe.evaluate.arms[-1]}
    arm = (own | {TEACHER_SIDE: TEACHER.name, UNDISTILLED: BASE_STUDENT.name}).get(name, name)
    if arm not in recipe.answering_arms or (arm == TEACHER.name and recipe.teacher is None):
        raise ConfigError(
            f"{run.folder} has no model {name!r}", hint=f"it has: {listed(dict.fromkeys((*SIDES, *sides_of(run))))}"
        )
    return arm


def sides_of(run: Run) -> list[str]:
    """The models of a run that are there to be asked."""
    recipe = run.recipe
    named = [STUDENT, *([TEACHER_SIDE] if recipe.teacher else []), UNDISTILLED]
    trained = [arm.name for arm in recipe.trained_arms if run.is_done(f"train-{arm.name}")]
    return [*named, *(arm for arm in trained if arm != arm_of(run, STUDENT))]


def open_side(run: Run, name: str, opening: Opening | None = None) -> Side:
    """Load a model of a run, or reach the server that writes for it.

    Args:
        run: the run folder.
        name: `student`, `teacher`, `undistilled`, or an arm.
        opening: device, batch, servers.

    Raises:
        ConfigError: the run has no such model.
        RunError: it was not trained yet.
        ModelError: it cannot be loaded.
    """
    opening = opening or Opening()
    transformers.utils.logging.disable_progress_bar()
    upstream = opening.upstream.get(name)
    if name == TEACHER_SIDE and upstream is not None and run.recipe.teacher is None:
        return _stranger(run.recipe, upstream)
    arm = arm_of(run, name)
    recipe = for_arm(run.recipe, arm)
    if opening.max_length:
        data = recipe.data.model_copy(update={"max_length": opening.max_length})
        recipe = recipe.model_copy(update={"data": data})
    if arm == TEACHER.name and (served := recipe.served_teacher) is not None:
        tokenizer = load_example_tokenizer(served, recipe.data)
        server = upstream or Upstream(served.base_url or "", served.model, served.api_key_env, timeout=served.timeout)
        side = _served(name, arm, served, tokenizer, server)
        side.input_price, side.output_price = served.input_price, served.output_price
        return side
    config, weights = arm_model(run, recipe, arm)
    if weights is not None and not Path(weights).is_dir():
        raise RunError(f"{run.folder} holds no {name} yet", hint="run its recipe to its end: `understudy run`")
    check_alone(Path(weights or ""), name)
    tokenizer = load_example_tokenizer(config, recipe.data, weights=weights)
    side = (
        _served(name, arm, config, tokenizer, upstream)
        if upstream is not None
        else _local(name, arm, config, weights, tokenizer, recipe, opening)
    )
    if recipe.tasks is not None and recipe.arm(arm).learns == "task_texts":
        side.task = roles_of(recipe.tasks).answer
    return side


def _local(
    name: str,
    arm: str,
    config: ModelConfig,
    weights: str | None,
    tokenizer: ExampleTokenizer,
    recipe: Recipe,
    opening: Opening,
) -> Side:
    if tokenizer.template.reads_images:
        raise ConfigError(
            f"{name} was measured with pictures, and requests to a server hold text alone",
            hint="open its folder with transformers, or serve a model that reads text",
        )
    if tokenizer.template.reads_audio:
        raise ConfigError(
            f"{name} writes down recordings, and requests to a server hold text alone",
            hint="open its folder with transformers, or serve a model that reads text",
        )
    device = pick_device(opening.device or recipe.device)
    loaded = Loaded(load_model(config, device, weights=weights, seed=recipe.seed), tokenizer.template)
    side = Side(name, arm, f"{arm}: {config.model}", tokenizer, max_answer_tokens=recipe.data.max_answer_tokens)
    if isinstance(kind_of(loaded.model.config), TextKind):
        side.engine = LocalEngine(loaded.model, loaded.template, batch=opening.batch, name=f"engine-{name}")
        side.positions = getattr(loaded.model.config, "max_position_embeddings", None)
    else:
        side.pointer = PointingEngine(loaded.model, tokenizer, batch=opening.batch, name=f"engine-{name}")
    return side


def _served(name: str, arm: str, config: ModelConfig, tokenizer: ExampleTokenizer, upstream: Upstream) -> Side:
    template = tokenizer.template
    if template.candidates != "vocabulary":
        raise ConfigError(f"{name} points at its answers: no server of texts can do that for it")
    texts = [template.spelled([token]) for token in template.stop_ids]
    engine = _engine(upstream, template.stop_ids, texts)
    title = f"{arm}: {upstream.model} at {upstream.base_url}"
    return Side(name, arm, title, tokenizer, engine, max_answer_tokens=tokenizer.data.max_answer_tokens)


def _stranger(recipe: Recipe, upstream: Upstream) -> Side:
    """A teacher that the recipe does not know: it is sent conversations."""
    engine = _engine(dataclasses.replace(upstream, renders=True), (), ())
    title = f"{upstream.model} at {upstream.base_url}"
    data = recipe.data
    return Side(TEACHER_SIDE, "", title, None, engine, system=data.system, max_answer_tokens=data.max_answer_tokens)


def _engine(upstream: Upstream, stop_ids: Sequence[int], stop_texts: Sequence[str]) -> UpstreamEngine:
    key = os.environ.get(upstream.key_env, "") if upstream.key_env else ""
    return UpstreamEngine(
        upstream.base_url,
        upstream.model,
        key=key,
        timeout=upstream.timeout,
        renders=upstream.renders,
        stop_ids=stop_ids,
        stop_texts=stop_texts,
    )
