"""The whole of a recipe: its sections together, what they ask of each other, its arms and its identity."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationInfo, model_validator

from understudy import bounds
from understudy.arms import ARMS, Arm, constrained, free_of, trained_arms
from understudy.errors import ConfigError, did_you_mean
from understudy.extensions import Extension, load_all, load_unchanged
from understudy.files import fingerprint
from understudy.recipe.candidates import CandidatesConfig
from understudy.recipe.data import DataConfig
from understudy.recipe.endpoint import TRANSPORT_FIELDS, Section
from understudy.recipe.evaluate import EvaluateConfig
from understudy.recipe.features import FeaturesConfig
from understudy.recipe.knowledge import GenerateConfig, TaskConfig, asks_teacher, learned_steps, unlearnable
from understudy.recipe.methods import DistilConfig, KdConfig, MethodConfig, ProjectorConfig
from understudy.recipe.session_knowledge import KnowledgeConfig
from understudy.recipe.student import OF_ITSELF, TAKEN, StudentConfig
from understudy.recipe.teacher import TeacherConfig
from understudy.recipe.teachers import FIRST, TeachersConfig
from understudy.recipe.training import SeqkdConfig, TrainConfig

Device = Literal["auto", "cpu", "cuda", "mps"]

DEFAULT_TEACHER, DEFAULT_STUDENT = "embedded:telecom-teacher", "embedded:telecom-student"

NEUTRAL = ("output", "workers", "report_to", "device")
"""Where and how fast a recipe is run: no part of what it is."""

OWN_ARM_SECTIONS = ("student", "distil", "features", "seqkd", "candidates", "tasks", "knowledge")
"""Where an arm of a recipe's own may differ; data and evaluation are the same for all that is compared."""
LIKE = "like"
"""The key of an own arm that names the declared arm it is like."""


class Recipe(Section):
    """The whole of a run."""

    name: str = Field(default="understudy", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Name of the run folder."""
    seed: int = Field(default=0, ge=0, le=bounds.SEED)
    """Seed of the weights, the order of the rows and the dropout."""
    data: DataConfig = DataConfig()
    """Where the examples come from and how they are split."""
    teacher: TeacherConfig | None = TeacherConfig(model=DEFAULT_TEACHER, sft=TrainConfig())
    """The large model; null where it is only reached through an endpoint (`generate.teacher`) or recorded texts."""
    teachers: TeachersConfig | None = None
    """Further teachers, heard together with `teacher` by the arms that read its logits."""
    student: StudentConfig = StudentConfig(model=DEFAULT_STUDENT)
    """The small model. With `sft`, every arm starts from the fine-tuned student."""
    seqkd: SeqkdConfig = SeqkdConfig()
    """How the teacher's own answers are used."""
    candidates: CandidatesConfig | None = None
    """What the student of the arm `candidates` learns of several answers to a question (`understudy docs context`)."""
    distil: DistilConfig = KdConfig()
    """How the student learns from the teacher; the other arms take the same steps, batch size and learning rate."""
    features: FeaturesConfig | None = None
    """What the student learns of the teacher's inner states beside it, in the arms that read its logits."""
    generate: GenerateConfig | None = None
    """Knowledge in words: what the teacher writes about the examples (`understudy generate`)."""
    tasks: TaskConfig | None = None
    """What the student of the arm `explained` learns of the teacher's texts."""
    knowledge: KnowledgeConfig | None = None
    """How the student of the arm `informed` uses what is known of sessions of items."""
    arms: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Arms of your own: a name and the fields in which it differs: `{reverse: {distil.divergence: reverse_kl}}`."""
    evaluate: EvaluateConfig = EvaluateConfig()
    """What is measured at the end."""
    output: str = "runs"
    """The folder under which run folders stand."""
    device: Device = "auto"
    """auto, cpu, cuda or mps."""
    workers: int = Field(default=1, gt=0, le=bounds.WORKERS)
    """Independent stages run side by side in so many processes, the cores shared out among them."""
    extensions: tuple[str, ...] = ()
    """Python files that register parts of your own (`understudy docs extending`); they are run: read them first."""
    report_to: tuple[Literal["wandb", "tensorboard", "trackio"], ...] = ()
    """Trackers that get the training curves."""
    _loaded: tuple[Extension, ...] = ()

    @model_validator(mode="wrap")
    @classmethod
    def _extended(cls, value: Any, check: ModelWrapValidatorHandler[Self], info: ValidationInfo) -> Self:
        """Run the extensions first: what they register is part of what a recipe may say."""
        names = value.get("extensions") if isinstance(value, dict) else None
        if not names or not isinstance(names, list | tuple):
            return check(value)
        context = info.context or {}
        loaded = context.get("loaded")
        if loaded is None:
            copies = context.get("extensions")
            loaded = load_all([copies / Path(name).name for name in names] if copies else names)
        recipe = check(value)
        recipe._loaded = loaded
        return recipe

    def __reduce__(self) -> Any:
        """To another process as JSON, validated there after the same extensions have been run."""
        return _revived, (self.model_dump(mode="json"), self._loaded)

    def revised(self, value: Mapping[str, Any]) -> Recipe:
        """The recipe of another mapping; its extensions are those that were run for this one, and are not run again.

        Raises:
            ValidationError: something in the mapping is wrong.
        """
        return Recipe.model_validate(dict(value), context={"loaded": self._loaded})

    @property
    def loaded(self) -> tuple[Extension, ...]:
        """The extensions as they were run."""
        return self._loaded

    @property
    def served_teacher(self) -> TeacherConfig | None:
        """The section of a teacher that is asked over HTTP; None where it is loaded here, or where there is none."""
        return self.teacher if self.teacher and self.teacher.remote else None

    @property
    def local_teacher(self) -> TeacherConfig:
        """The section of the teacher whose tokenizer is here, and its weights unless it is on a server.

        Raises:
            ConfigError: there is none. A run that needs one is refused when its recipe is read.
        """
        if self.teacher is None:
            raise ConfigError("the recipe has no teacher that could be loaded", hint="it says teacher: null")
        return self.teacher

    @property
    def teacher_writes(self) -> bool:
        """Whether the texts of `generate` come from the recipe's own teacher."""
        return bool(self.generate and self.generate.teacher is None and asks_teacher(self.generate))

    def arm(self, name: str) -> Arm:
        """An arm by name, declared by the project or by this recipe.

        Raises:
            ConfigError: there is none of this name.
        """
        if name in self.arms:
            base = ARMS[_base_of(self.arms[name])]
            against = (base.name, *(other for other in base.against))
            # A run is about one student of the project's arms, where it trains one.
            arm = dataclasses.replace(base, name=name, flagship=False, equals_without_unlabelled="", against=against)
            return _as_used(arm, str(self.arms[name].get("knowledge.use", self.knowledge and self.knowledge.use)))
        if name not in ARMS:
            raise ConfigError(_unknown_arm(name, (*ARMS, *self.arms)))
        return _as_used(ARMS[name], self.knowledge.use if self.knowledge else "")

    @property
    def trained_arms(self) -> tuple[Arm, ...]:
        """The arms of `evaluate.arms`, in the order in which the recipe names them; one may need no training."""
        return tuple(self.arm(name) for name in self.evaluate.arms)

    @property
    def answering_arms(self) -> tuple[str, ...]:
        """Every arm that a model of this recipe may answer for, in the order in which tables show them."""
        free = (*(name for name, arm in ARMS.items() if arm.model), *self.arms)
        return (*free, *map(constrained, free)) if self.evaluate.constrained == "both" else free

    @property
    def likes(self) -> dict[str, str]:
        """Arm of this recipe's own -> the declared arm that it is like."""
        own = {name: _base_of(fields) for name, fields in self.arms.items()}
        twice = self.evaluate.constrained == "both"
        return own | ({constrained(name): own.get(name, name) for name in (*ARMS, *own)} if twice else {})

    def reads_signal(self, arm: Arm) -> bool:
        """Whether an arm reads the teacher's logits or states."""
        return arm.reads_signal or (arm.learns == "task_texts" and self.tasks is not None and self.tasks.logits)

    @property
    def signal_arms(self) -> tuple[str, ...]:
        """The arms of `evaluate.arms` that read the teacher's logits or states."""
        return tuple(arm.name for arm in self.trained_arms if self.reads_signal(arm))

    @property
    def methods(self) -> dict[str, MethodConfig]:
        """The methods whose losses are added up, by the teacher that each is of."""
        return {FIRST: self.distil, **(self.teachers.methods(self.distil) if self.teachers else {})}

    def taught_by(self, name: str) -> Recipe:
        """The recipe in which a teacher whose loss is added is the only one, as checks of a pair look at it.

        Args:
            name: of `teachers.added`.
        """
        assert self.teachers is not None, "nobody is added to no teachers"
        other = self.teachers.added[name]
        only = TeacherConfig.model_validate(other.as_first)
        return self.model_copy(update={"teacher": only, "teachers": None, "distil": other.read_by(self.distil)})

    @property
    def objective_learning_rate(self) -> float | None:
        """Learning rate of what the objective itself learns; None: that of the student."""
        return next(iter(self._projector_rates), self.distil.objective_learning_rate)

    @property
    def _projector_rates(self) -> list[float]:
        """The learning rates that methods with projectors name, each once."""
        methods = (method for method in self.methods.values() if isinstance(method, ProjectorConfig))
        return sorted({method.projector_learning_rate for method in methods})

    @model_validator(mode="before")
    @classmethod
    def _arms_by_default(cls, value: Any) -> Any:
        """A recipe that names no arms trains the one that learns its `tasks` and those of its own beside the others."""
        if not isinstance(value, dict):
            return value
        evaluate, declared = value.get("evaluate", {}), value.get("arms") or {}
        wanted = {learns for section, learns in _LEARNED_SECTIONS.items() if value.get(section) is not None}
        if (
            not isinstance(evaluate, dict)
            or "arms" in evaluate
            or not isinstance(declared, dict)
            or not (wanted or declared)
        ):
            return value
        names = (name for name in trained_arms() if name in DEFAULT_ARMS or ARMS[name].learns in wanted)
        return {**value, "evaluate": {**evaluate, "arms": (*names, *declared)}}

    @model_validator(mode="before")
    @classmethod
    def _as_served(cls, value: Any) -> Any:
        """A server speaks at temperature 1: so does the loss, unless the recipe names another."""
        if not isinstance(value, dict) or not _is_served(value.get("teacher")):
            return value
        distil = value.get("distil", {})
        distil = distil.model_dump() if isinstance(distil, MethodConfig) else distil
        if not isinstance(distil, dict) or distil.get("loss_temperature") is not None:
            return value
        return {**value, "distil": {**distil, "loss_temperature": 1.0}}

    @model_validator(mode="before")
    @classmethod
    def _cut_from_the_teacher(cls, value: Any) -> Any:
        """A student that is cut from its teacher has its model, tokenizer and template from there."""
        student = value.get("student") if isinstance(value, dict) else None
        if not isinstance(student, dict) or not student.get("from_teacher"):
            return value
        teacher = value.get("teacher", {"model": DEFAULT_TEACHER})
        if isinstance(teacher, TeacherConfig):
            teacher = teacher.model_dump(mode="json")
        if not isinstance(teacher, dict) or _is_served(teacher):
            raise ValueError("student.from_teacher needs a teacher that is loaded here")
        own = {name: field for name, field in student.items() if name not in TAKEN}
        taken = {name: teacher[name] for name in TAKEN if teacher.get(name) is not None}
        return {**value, "student": {**own, **taken}}

    @model_validator(mode="before")
    @classmethod
    def _taught_by_itself(cls, value: Any) -> Any:
        """A teacher that is the student has its model, tokenizer and template from there."""
        teacher = value.get("teacher") if isinstance(value, dict) else None
        if not isinstance(teacher, dict) or not teacher.get("from_student"):
            return value
        student = value.get("student", {"model": DEFAULT_STUDENT})
        if isinstance(student, StudentConfig):
            student = student.model_dump(mode="json")
        if not isinstance(student, dict) or student.get("from_teacher"):
            raise ValueError("teacher.from_student needs a student with a model of its own, not one from_teacher")
        own = {name: field for name, field in teacher.items() if name not in OF_ITSELF}
        return {**value, "teacher": own | {name: student[name] for name in OF_ITSELF if student.get(name) is not None}}

    @model_validator(mode="before")
    @classmethod
    def _labelled(cls, value: Any) -> Any:
        """All models of a recipe know the labels of its data."""
        data = value.get("data") if isinstance(value, dict) else None
        labels = data.labels if isinstance(data, DataConfig) else (data or {}).get("labels") if data else ()
        if not labels or not isinstance(labels, list | tuple):
            return value
        models = {name: value[name] for name in ("teacher", "student") if isinstance(value.get(name), dict)}
        for name, model in models.items():
            if model.get("labels") and list(model["labels"]) != list(labels):
                raise ValueError(f"{name}.labels are those of data.labels: leave them out")
        filled = {name: {**model, "labels": list(labels)} for name, model in models.items()}
        teachers = value.get("teachers")
        others = teachers.get("others") if isinstance(teachers, dict) else None
        if isinstance(teachers, dict) and isinstance(others, dict):
            own = {
                name: {**other, "labels": list(labels)} if isinstance(other, dict) and not other.get("cache") else other
                for name, other in others.items()
            }
            filled["teachers"] = {**teachers, "others": own}
        return {**value, **filled}

    @model_validator(mode="after")
    def _arms(self) -> Recipe:
        """Arms that exist, of the recipe's own too."""
        for name, fields in self.arms.items():
            if fault := _own_arm_fault(name, fields):
                raise ValueError(fault)
            # Its weights are those that the run's own student starts from.
            others = [path for path in fields if path.startswith("student") and path != "student.context"]
            if others and self.teacher is not None and self.teacher.from_student:
                raise ValueError(f"arms.{name}.{others[0]}: with teacher.from_student all arms have the run's student")
        known = (*trained_arms(), *self.arms)
        for name in self.evaluate.arms:
            if name not in known:
                raise ValueError(f"evaluate.arms: {_unknown_arm(name, known)}")
        if len(set(self.evaluate.arms)) < len(self.evaluate.arms):
            raise ValueError("evaluate.arms names an arm twice")
        return self

    @model_validator(mode="after")
    def _explained(self) -> Recipe:
        """What belongs together where a student learns from texts."""
        tasks, generate = self.tasks, self.generate
        explained = [arm.name for arm in self.trained_arms if arm.learns == "task_texts"]
        if explained and tasks is None:
            raise ValueError(f"evaluate.arms has the arm `{explained[0]}`; a section `tasks` says what it learns")
        if tasks and not explained:
            raise ValueError("there is a section `tasks`; put the arm `explained` that learns it into evaluate.arms")
        if tasks and learned_steps(tasks) and generate is None:
            raise ValueError(
                f"tasks.kind {tasks.kind} learns from texts; a section `generate` says who writes them, or "
                "tasks.rationales: data takes those that the data set brings along"
            )
        if tasks and (reason := unlearnable(tasks, generate)):
            raise ValueError(reason)
        if generate and generate.teacher and generate.recorded:
            raise ValueError("generate.teacher and generate.recorded exclude each other")
        if generate and generate.teach and not (self.teacher and self.teacher.sft and self.teacher_writes):
            raise ValueError("generate.teach fine-tunes the recipe's own teacher: it needs teacher.sft")
        if self.teacher is not None:
            return self
        needing = [a.name for a in self.trained_arms if a.reads_signal or a.learns in _TEACHER_ANSWERS]
        needing += ["tasks.logits"] if tasks and tasks.logits else []
        needing += ["generate without generate.teacher or generate.recorded"] if self.teacher_writes else []
        if needing:
            raise ValueError(f"teacher is null, and {needing[0]} needs one")
        return self

    @model_validator(mode="after")
    def _informed(self) -> Recipe:
        """What belongs together where a student uses knowledge of sessions."""
        config = self.knowledge
        informed = [name for name in self.evaluate.arms if self._base(name).learns == "knowledge"]
        if informed and config is None:
            raise ValueError(f"evaluate.arms has the arm `{informed[0]}`; a section `knowledge` says how it knows")
        if config and not informed:
            raise ValueError("there is a section `knowledge`; put the arm `informed` that uses it into evaluate.arms")
        if config and config.formats and config.folder is None and self.generate is None:
            raise ValueError(
                "knowledge: a section `generate` says who writes it down, or knowledge.folder where it is; formats: [] "
                "uses neighbours alone"
            )
        written = {*self.generate.steps} if self.generate and not self.generate.own_steps else None
        if config and config.formats and config.folder is None and written and written.isdisjoint(config.formats):
            raise ValueError(
                f"knowledge.formats: generate.steps writes none of {', '.join(config.formats)}; formats: [] uses "
                "neighbours alone"
            )
        if config and config.thoughts == "before" and self.evaluate.constrained:
            raise ValueError("evaluate.constrained writes nothing but JSON: knowledge.thoughts has to be beside")
        explained = [arm.name for arm in self.trained_arms if arm.learns == "task_texts"]
        if explained and self.evaluate.constrained:
            raise ValueError(f"evaluate.constrained: {explained[0]} writes a rationale with its answer, not JSON alone")
        return self

    @model_validator(mode="after")
    def _weighed(self) -> Recipe:
        """What belongs together where a student learns several answers to a question."""
        config = self.candidates
        arms = [name for name in self.evaluate.arms if self._base(name).learns == "candidates"]
        if arms and config is None:
            raise ValueError(f"evaluate.arms has the arm `{arms[0]}`; a section `candidates` says what it learns")
        if config and not arms:
            raise ValueError("there is a section `candidates`; put the arm `candidates` into evaluate.arms")
        if config and self.served_teacher:
            raise ValueError(
                "candidates are scored by a teacher that is loaded here, and teacher.base_url names a server"
            )
        if config and config.source == "generate" and (self.generate is None or "answer" not in self.generate.steps):
            raise ValueError("candidates.source: generate takes the step `answer`: put it into generate.steps")
        return self

    def _base(self, name: str) -> Arm:
        """An arm as it is declared, or the one that an arm of the recipe's own is like."""
        return ARMS[_base_of(self.arms[name])] if name in self.arms else ARMS[name]

    @model_validator(mode="after")
    def _at_its_temperature(self) -> Recipe:
        """What a server says at temperature 1 says nothing of the tail's mass at another."""
        served, temperature = self.served_teacher, self.distil.temperature
        if served and served.tail == "bucket" and temperature != 1 and self.signal_arms:
            raise ValueError(
                f"distil.loss_temperature {temperature:g}: a server gives its likeliest tokens at temperature 1, and "
                "what the others have together at another does not follow; leave it at 1, or set teacher.tail: "
                "renormalise, which leaves the others out and is biased"
            )
        return self

    @model_validator(mode="after")
    def _heard_together(self) -> Recipe:
        """Several teachers: a first one, a rate for their projectors, and targets that have a mean."""
        if self.teachers is None:
            return self
        if self.teacher is None:
            raise ValueError("teachers are heard together with `teacher`, and that is null")
        if len(rates := self._projector_rates) > 1:
            raise ValueError(
                "teachers: projectors are trained at one rate; give all methods the same projector_learning_rate, not "
                f"{' and '.join(f'{rate:g}' for rate in rates)}"
            )
        if self.teachers.averaged and self.teacher.cache and (why := self.teachers.why_not(self.teacher.cache.targets)):
            raise ValueError(f"teacher.cache.targets {self.teacher.cache.targets}: {why}")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        stages: dict[str, TrainConfig | None] = {"distil": self.distil}
        models = {"teacher": self.teacher, "student": self.student}
        for name, model in models.items():
            stages |= {f"{name}.pretrain": model.pretrain, f"{name}.sft": model.sft} if model else {}
        for name, stage in stages.items():
            micro = stage.micro_batch_size if stage else None
            if stage and micro and stage.batch_size % micro:
                raise ValueError(f"{name}.micro_batch_size {micro} does not divide batch_size {stage.batch_size}")
        for name, model in models.items():
            if model and model.config and model.init != "fresh":
                raise ValueError(f"{name}.config changes the architecture, which needs {name}.init: fresh")
        return self

    def identity(self) -> dict[str, Any]:
        """The fields that can change a result: everything but where, how fast and at what cost it is computed."""
        transport = set(TRANSPORT_FIELDS)
        nested: dict[str, Any] = {"generate": {"teacher": transport}, "evaluate": {"judge": transport}}
        nested |= {"teacher": transport} if self.teacher else {}
        nested |= {"knowledge": {"endpoint": transport}} if self.knowledge else {}
        nested |= {"teachers": {"others": {"__all__": transport}}} if self.teachers else {}
        fields = self.model_dump(mode="json", exclude={**dict.fromkeys((*NEUTRAL, "extensions"), True), **nested})
        if self.served_teacher:
            fields["teacher"]["remote"] = True  # Wherever it stands.
        for name, other in self.teachers.others.items() if self.teachers else ():
            fields["teachers"]["others"][name] |= {"remote": True} if other.remote else {}
        for path, default in LATER_FIELDS.items():
            *sections, name = path.split(".")
            for holder in _at(fields, sections):
                if holder[name] == default:
                    del holder[name]
        # What a file says, not where it stands; without any, the recipe is the one it was before there were extensions.
        return fields | ({"extensions": [extension.fingerprint for extension in self._loaded]} if self._loaded else {})

    def fingerprint(self) -> str:
        """Eight hexadecimal digits that name this recipe among others of the same name."""
        return fingerprint(self.identity(), length=8)


LATER_FIELDS: Mapping[str, Any] = {
    "teachers": None,
    "teachers.others.*.distil": None,
    "teachers.others.*.tokenizer": None,
    "teachers.others.*.k": 20,
    "teachers.others.*.tail": "bucket",
    "teacher.cache": None,
    "teacher.k": 20,
    "teacher.tail": "bucket",
    "data.group_by": "auto",
    "student.from_teacher": None,
    "distil.on_policy": None,
    "distil.adapt": None,
    "distil.patience": None,
    "teacher.sft.patience": None,
    "teacher.pretrain.patience": None,
    "student.sft.patience": None,
    "student.pretrain.patience": None,
    "data.sources": {},
    "data.catalogue": None,
    "data.published_split": True,
    "teacher.resize_embeddings": False,
    "student.resize_embeddings": False,
    "generate.recorded_questions": None,
    "generate.sessions": None,
    "tasks.paraphrases": False,
    "tasks.new_questions": False,
    "evaluate.normalise": "numbers",
    "evaluate.slices": [],
    "evaluate.constrained": False,
    "knowledge": None,
    "features": None,
    "features.input": None,
    "data.stride": None,
    "data.train_share": 1.0,
    "data.null_threshold": 0.0,
    "candidates": None,
    "teacher.hint": None,
    "teacher.from_student": False,
    "student.context": True,
    "data.labels": [],
    "teacher.labels": [],
    "student.labels": [],
    "teachers.others.*.labels": [],
    "teachers.others.*.kind": None,
    "teacher.images": True,
    "student.images": True,
    "data.corpus": None,
    "teacher.embedding": None,
    "student.embedding": None,
    "features.sentence": 0.0,
    "features.sentence_loss": "cosine",
}
"""Fields that an identity leaves out at this default (`*`: under every name): recipes of before there were these keep
their fingerprints."""
DEFAULT_ARMS: tuple[str, ...] = EvaluateConfig().arms
_LEARNED_SECTIONS = {"tasks": "task_texts", "knowledge": "knowledge", "candidates": "candidates"}
_TEACHER_ANSWERS = ("teacher_text", "gold_and_teacher_text", "candidates")
_RESERVED = ("student", "observer")


def _is_served(teacher: Any) -> bool:
    """Whether a section `teacher`, checked or as it was written, names a server."""
    return bool(teacher.get("base_url") if isinstance(teacher, dict) else getattr(teacher, "base_url", None))


def _at(fields: Any, sections: Sequence[str]) -> list[dict[str, Any]]:
    """The mappings that stand at some keys; none where a section is off."""
    if not sections or not fields:
        return [fields] if fields else []
    first, *rest = sections
    inner = fields.values() if first == "*" else (fields.get(first),)
    return [holder for value in inner for holder in _at(value, rest)]


def _as_used(arm: Arm, use: str) -> Arm:
    """An arm that has knowledge in its prompts alone is not trained."""
    return dataclasses.replace(arm, learns=None) if arm.learns == "knowledge" and use == "icl" else arm


def _base_of(fields: dict[str, Any]) -> str:
    """The declared arm that an own one is like: the one it names, else the one that reads what it changes."""
    sections = {path.partition(".")[0] for path in fields}
    of_sections = {"tasks": "explained", "seqkd": "seqkd", "candidates": "candidates", "knowledge": "informed"}
    default = next((arm for section, arm in of_sections.items() if section in sections), "distilled")
    return str(fields.get(LIKE, default))


def _own_arm_fault(name: str, fields: dict[str, Any]) -> str:
    """What is wrong with an arm of a recipe's own; empty where nothing is."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or name in ARMS or name in _RESERVED:
        advice = " of its own" if name in ARMS or name in _RESERVED else " of letters, digits and underscores"
        return f"arms.{name}: give the arm a name{advice}"
    if free_of(name)[1]:
        return f"arms.{name}: that is how constrained answers of {free_of(name)[0]} are called: give it another name"
    if _base_of(fields) not in trained_arms():
        return f"arms.{name}.{LIKE}: {_unknown_arm(_base_of(fields), trained_arms())}"
    for path in fields:
        if path != LIKE and path.partition(".")[0] not in OWN_ARM_SECTIONS:
            return f"arms.{name}: an arm may differ in {', '.join(OWN_ARM_SECTIONS)}, not in {path}"
    return ""


def _unknown_arm(name: str, known: Iterable[str]) -> str:
    return f"no arm {name!r}: {did_you_mean(name, known)}"


def _revived(value: dict[str, Any], loaded: tuple[Extension, ...]) -> Recipe:
    """A recipe that came from another process.

    Raises:
        RunError: one of its extensions is no longer what it was there.
    """
    load_unchanged(loaded)
    return Recipe.model_validate(value, context={"loaded": loaded})
