"""The stages of a run, each kind declared once: when there is one, what it needs, reads, runs, and is called.

```text
SIDE_pretrain ─┐   teacher_sft ── student_cut ── student_pretrain, student_sft …
data ─┬─ pair  │                 ┌─ candidates ── train-candidates ─┐
      ├─ teacher_sft ─┬─ answers ─┬─ train-seqkd ───┬─ predict-ARM ─ … ─┐
      ├─ student_sft ─┤ └─ cache ─┴─ train-distilled┤                   ├─ report
      │               ├─ train-sft ─────────────────┤                   │
      ├─ generate ────┼─ train-explained ── observer┤                   │
      │               └─ train-kd_gold ─────────────┘   speed-MODEL ────┘
```
"""

from __future__ import annotations

from collections.abc import Sequence

from understudy.arms import Arm
from understudy.extensions import claim
from understudy.pipeline import reads
from understudy.pipeline.stage import Plan, Side, Stage, StageKind
from understudy.recipe import ModelConfig, Recipe
from understudy.recipe.knowledge import learned_steps
from understudy.recipe.own_arms import for_arm, has_own_answers, has_own_candidates, has_own_student, is_informed
from understudy.recipe.student import is_cut
from understudy.report.labels import label_of

StagePlan = Sequence[tuple[str, tuple[str, ...]]]
_STAGES = "understudy.pipeline.stages"


# -- what is planned -------------------------------------------------------------------------------------------------


def arms_of(plan: Plan) -> tuple[Arm, ...]:
    """The arms that a run trains: those asked for, without one that would be the same as another."""
    same = same_arms(plan)
    return tuple(arm for arm in plan.recipe.trained_arms if arm.name not in same)


def same_arms(plan: Plan) -> dict[str, str]:
    """Arms that are asked for and not trained → the arm that is trained and would be the same."""
    arms = plan.recipe.trained_arms
    names = {arm.name for arm in arms}
    return {
        arm.name: arm.equals_without_unlabelled
        for arm in arms
        if arm.equals_without_unlabelled in names and not (plan.unlabelled or _replaces_gold(arm, plan))
    }


def uses_answers(arm: Arm, plan: Plan) -> bool:
    """Whether an arm learns what the teacher answered: with gold for every question, only in the gold's place."""
    if arm.reads_signal and for_arm(plan.recipe, arm.name).distil.writes_alone:
        return False
    learns = arm.learns in ("teacher_text", "gold_and_teacher_text")
    return learns and (plan.unlabelled or _replaces_gold(arm, plan))


def _replaces_gold(arm: Arm, plan: Plan) -> bool:
    """Whether an arm learns the teacher's answer where there is a gold one."""
    return arm.learns == "teacher_text" and not for_arm(plan.recipe, arm.name).seqkd.keep_gold


def reads_texts(recipe: Recipe) -> bool:
    """Whether a student that learns tasks reads what `generate` wrote."""
    tasks = recipe.tasks
    return bool(recipe.generate and tasks and (tasks.kind != "answer" or learned_steps(tasks)))


def reads_own_knowledge(recipe: Recipe, arm: Arm) -> bool:
    """Whether an arm uses what this run's own stage `generate` knows of sessions."""
    config = for_arm(recipe, arm.name).knowledge if is_informed(recipe, arm.name) else None
    return config is not None and config.folder is None and bool(config.formats)


def _models(plan: Plan) -> list[tuple[str, ModelConfig]]:
    """The models that may have training of their own: teacher, student, and the student of an arm of one's own."""
    recipe = plan.recipe
    models = [("teacher", recipe.teacher)] if recipe.teacher else []
    students_of_arms = [
        (a.name, for_arm(recipe, a.name).student) for a in arms_of(plan) if has_own_student(recipe, a.name)
    ]
    return [*models, ("student", recipe.student), *students_of_arms]


def _cut(plan: Plan) -> StagePlan:
    """A cut waits for the teacher's own training, and the student's own training for the cut."""
    teacher = plan.recipe.teacher
    trained = "" if teacher is None else "sft" if teacher.sft else "pretrain" if teacher.pretrain else ""
    before = ("data", KINDS[trained].name_of("teacher")) if trained else ("data",)
    return [(name, before) for name, model in _models(plan) if is_cut(model)]


def _pretrain(plan: Plan) -> StagePlan:
    return [(name, plan.named_of("cut", name)) for name, model in _models(plan) if model.pretrain]


def _sft(plan: Plan) -> StagePlan:
    return [(name, _before(plan, name)) for name, model in _models(plan) if model.sft]


def _before(plan: Plan, name: str) -> tuple[str, ...]:
    """What has to be done before a model can be used."""
    if name == "teacher" and plan.recipe.teacher and plan.recipe.teacher.from_student:
        name = "student"
    if plan.has("sft", name):
        return (KINDS["sft"].name_of(name),)
    return ("data", *(plan.named_of("pretrain", name) or plan.named_of("cut", name)))


def _student(plan: Plan, arm: str) -> tuple[str, ...]:
    return _before(plan, arm if has_own_student(plan.recipe, arm) else "student")


def _generate(plan: Plan) -> StagePlan:
    if not plan.recipe.generate:
        return []
    return [("", _before(plan, "teacher") if plan.recipe.teacher_writes else ("data",))]


def _answers(plan: Plan) -> StagePlan:
    """The run's answers where an arm uses them, and those of each arm that asks otherwise."""
    using = [arm.name for arm in arms_of(plan) if uses_answers(arm, plan)]
    own_arms = [name for name in using if has_own_answers(plan.recipe, name)]
    names = ["", *own_arms] if len(own_arms) < len(using) else own_arms
    return [(name, _before(plan, "teacher")) for name in names]


def _candidates(plan: Plan) -> StagePlan:
    """The run's candidates where an arm learns them, and those of each arm that asks for others."""
    using = [arm.name for arm in arms_of(plan) if arm.learns == "candidates"]
    own_arms = [name for name in using if has_own_candidates(plan.recipe, name)]
    names = ["", *own_arms] if len(own_arms) < len(using) else own_arms
    return [(name, _asked_for(plan, name)) for name in names]


def _asked_for(plan: Plan, arm: str) -> tuple[str, ...]:
    config = for_arm(plan.recipe, arm).candidates
    written = ("generate",) if config is not None and config.source == "generate" else ()
    return tuple(dict.fromkeys((*written, *_before(plan, "teacher"))))


def _cache(plan: Plan) -> StagePlan:
    """Where what the teacher says is kept, and an arm reads it."""
    reading = [arm for arm in arms_of(plan) if plan.recipe.reads_signal(arm)]
    if plan.recipe.teacher is None or plan.recipe.teacher.cache is None or not reading:
        return []
    written = tuple(name for arm in reading for name in _texts_of(plan, arm))
    return [("", tuple(dict.fromkeys((*written, *_before(plan, "teacher")))))]


def _train(plan: Plan) -> StagePlan:
    return [(arm.name, _sources_of(plan, arm)) for arm in arms_of(plan) if arm.trained]


def _sources_of(plan: Plan, arm: Arm) -> tuple[str, ...]:
    recipe = for_arm(plan.recipe, arm.name)
    sources = _texts_of(plan, arm)
    if recipe.reads_signal(arm):
        sources += plan.named("cache") or (() if uses_answers(arm, plan) else _before(plan, "teacher"))
    return tuple(dict.fromkeys((*sources, *_student(plan, arm.name))))


def _texts_of(plan: Plan, arm: Arm) -> tuple[str, ...]:
    """The stages that write what an arm learns."""
    sources: tuple[str, ...] = ()
    if reads_own_knowledge(plan.recipe, arm):
        sources += ("generate",)
    if arm.learns == "task_texts" and reads_texts(for_arm(plan.recipe, arm.name)):
        sources += ("generate",)
    if arm.learns == "candidates":
        sources += (KINDS["candidates"].name_of(arm.name if plan.has("candidates", arm.name) else ""),)
    if uses_answers(arm, plan):
        sources += (KINDS["answers"].name_of(arm.name if plan.has("answers", arm.name) else ""),)
    return sources


def _observer(plan: Plan) -> StagePlan:
    recipe = plan.recipe
    if recipe.tasks is None or recipe.tasks.kind == "answer":
        return []
    if not recipe.evaluate.simulatability or not plan.has("train", "explained"):
        return []
    written = ("generate",) if reads_texts(recipe) else ()
    return [("", tuple(dict.fromkeys((*written, *_before(plan, "student")))))]


def _predict(plan: Plan) -> StagePlan:
    recipe = plan.recipe
    teacher = [("teacher", _before(plan, "teacher"))] if recipe.teacher else []
    arms = [(arm.name, _measured_on(plan, arm)) for arm in arms_of(plan)]
    return [*teacher, ("base_student", ("data", *plan.named_of("cut", "student"))), *arms]


def _measured_on(plan: Plan, arm: Arm) -> tuple[str, ...]:
    if is_informed(plan.recipe, arm.name):
        model = (KINDS["train"].name_of(arm.name),) if arm.trained else _student(plan, arm.name)
        return tuple(dict.fromkeys((*model, *_texts_of(plan, arm))))
    trained = KINDS["train"].name_of(arm.name)
    if arm.learns != "task_texts":
        return (trained,)
    texts = ("generate",) if "generate" in _sources_of(plan, arm) else ()
    return (trained, *texts, *(plan.named("observer") if arm.name == "explained" else ()))


def _speed(plan: Plan) -> StagePlan:
    if not plan.recipe.evaluate.speed:
        return []
    here = plan.recipe.teacher is not None and not plan.recipe.teacher.remote
    names = ("teacher", "student") if here else ("student",)
    before = tuple(stage.name for stage in plan.stages)
    return [(name, before) for name in names]


def _report(plan: Plan) -> StagePlan:
    return [("", tuple(stage.name for stage in plan.stages))]


# -- how a kind is called, and whose seed it goes by -----------------------------------------------------------------


def _own_training(argument: str) -> Side:
    return "teacher" if argument == "teacher" else "student"


def _answered_by(argument: str) -> Side:
    return "teacher" if argument == "teacher" else ""


def _sft_title(argument: str) -> str:
    titles = {"teacher": "fine-tune the teacher", "student": "fine-tune the student first"}
    return titles.get(argument, f"fine-tune the student of {argument} first")


def _cut_title(argument: str) -> str:
    return f"cut the student{'' if argument == 'student' else f' of {argument}'} from the teacher"


def _pretrain_title(argument: str) -> str:
    return f"pretrain the {argument if argument == 'teacher' else 'student'} on raw text"


KINDS: dict[str, StageKind] = {
    kind.name: kind
    for kind in (
        StageKind(
            "data",
            f"{_STAGES}.preparation:data",
            lambda plan: [("", ())],
            reads=reads.data,
            title="read and split the data",
        ),
        StageKind(
            "pair",
            f"{_STAGES}.preparation:pair",
            lambda plan: [("", ("data",))],
            reads=reads.pair,
            title="check that data and models fit",
        ),
        StageKind(
            "cut",
            f"{_STAGES}.cutting:cut",
            _cut,
            reads=reads.cut,
            title=_cut_title,
            label=lambda argument: f"{argument}_cut",
        ),
        StageKind(
            "pretrain",
            f"{_STAGES}.pretraining:pretrain",
            _pretrain,
            reads=reads.pretrain,
            title=_pretrain_title,
            label=lambda argument: f"{argument}_pretrain",
            side=_own_training,
            trains=True,
        ),
        StageKind(
            "sft",
            f"{_STAGES}.training:sft",
            _sft,
            reads=reads.sft,
            title=_sft_title,
            label=lambda argument: f"{argument}_sft",
            side=_own_training,
            trains=True,
        ),
        StageKind(
            "generate",
            f"{_STAGES}.knowledge:generate",
            _generate,
            reads=reads.generate,
            title="teacher writes the texts",
            side=lambda _: "teacher",
        ),
        StageKind(
            "answers",
            f"{_STAGES}.answers:answers",
            _answers,
            reads=reads.answers,
            title="teacher answers the questions",
            side=lambda _: "teacher",
        ),
        StageKind(
            "candidates",
            f"{_STAGES}.candidates:candidates",
            _candidates,
            reads=reads.candidates,
            title="teacher weighs several answers",
            side=lambda _: "teacher",
        ),
        StageKind(
            "cache",
            f"{_STAGES}.cache:cache",
            _cache,
            reads=reads.cache,
            title="write down what the teacher says",
            side=lambda _: "teacher",
        ),
        StageKind(
            "train",
            f"{_STAGES}.training:train",
            _train,
            reads=reads.train,
            title=lambda arm: label_of(arm).title,
            trains=True,
        ),
        StageKind(
            "observer",
            f"{_STAGES}.explained:train_observer",
            _observer,
            reads=reads.observer,
            title="train the observer",
            label=lambda _: "train-observer",
            trains=True,
        ),
        StageKind(
            "predict",
            f"{_STAGES}.evaluation:predict",
            _predict,
            reads=reads.predict,
            title=lambda arm: f"evaluate {arm.replace('_', ' ')}",
            side=_answered_by,
        ),
        StageKind(
            "speed",
            f"{_STAGES}.evaluation:speed_of",
            _speed,
            reads=reads.speed,
            title=lambda which: f"time the {which}",
            side=_answered_by,
            exclusive=True,
            last=True,
        ),
        StageKind("report", f"{_STAGES}.evaluation:report", _report, title="write the report", shared=False, last=True),
    )
}
"""All kinds, in the order in which they are planned."""


def register(kind: StageKind) -> StageKind:
    """Add a kind of stage of one's own; recipes name its file in `extensions`.

    It is planned behind all other kinds, before time is measured and the report is written.

    Raises:
        ConfigError: there is one of this name already.
    """
    claim("stage", kind.name, KINDS)
    KINDS[kind.name] = kind
    return kind


def stages(recipe: Recipe, *, unlabelled: bool) -> list[Stage]:
    """The stages of a recipe, in an order in which each finds what it needs.

    Args:
        recipe: the run's recipe.
        unlabelled: whether there are questions without gold; without any, training on gold only *is* distillation,
            SeqKD that keeps the gold *is* fine-tuning, and neither gets an arm of its own.
    """
    planned: tuple[Stage, ...] = ()
    for kind in sorted(KINDS.values(), key=lambda kind: kind.last):
        plan = Plan(recipe, unlabelled, planned)
        # A kind sees its own earlier stages, but not those it is just laying out.
        planned += tuple(kind.stage(argument, needs) for argument, needs in kind.plan(plan))
    return _in_order(planned)


def _in_order(planned: Sequence[Stage]) -> list[Stage]:
    """Each behind what it needs, otherwise as planned: only a student's own training can need a later kind's stage."""
    ordered: list[Stage] = []
    waiting = list(planned)
    while waiting:
        done = {stage.name for stage in ordered}
        ready = next(stage for stage in waiting if done.issuperset(stage.needs))
        waiting.remove(ready)
        ordered.append(ready)
    return ordered


def left_out(recipe: Recipe, *, unlabelled: bool) -> list[str]:
    """A sentence on each arm that is asked for and not trained, because it would be the same as another."""
    return [
        f"{label_of(arm).label} is left out: with a gold answer for every question it would be {label_of(other).label}"
        + (", unless seqkd.keep_gold is false." if recipe.arm(arm).learns == "teacher_text" else ".")
        for arm, other in same_arms(Plan(recipe, unlabelled)).items()
    ]


def stage_of(kind: str, argument: str = "") -> Stage:
    """A stage of a kind, without what it needs."""
    return KINDS[kind].stage(argument)


def first_stages(recipe: Recipe) -> list[Stage]:
    """What comes before everything else: the data, and whether the two models fit it and the method."""
    return [stage for stage in stages(recipe, unlabelled=True) if stage.kind in ("data", "pair")]


def title(stage: Stage) -> str:
    """A stage in plain words."""
    return KINDS[stage.kind].title_of(stage.argument)


def side_of(stage: Stage) -> Side:
    """Whose own training a stage is, or whose answers it takes: `teacher`, `student` (its own training), or neither."""
    return KINDS[stage.kind].side(stage.argument)


def reads_of(stage: Stage, recipe: Recipe) -> tuple[str, ...]:
    """The fields that can change a stage, beside those of the stages it is made from."""
    return KINDS[stage.kind].reads(for_arm(recipe, stage.argument), stage.argument)


def is_shared(stage: Stage) -> bool:
    """Whether a stage may belong to several cells; the report reads the whole recipe and is each cell's own."""
    return KINDS[stage.kind].shared
