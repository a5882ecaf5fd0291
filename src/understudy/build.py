"""From a recipe to live objects, and the gate that stands before any weight is loaded."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from understudy.errors import ConfigError, ModelError, VocabularyMismatch
from understudy.losses.divergences import divergence, traits
from understudy.models.adapters import check_lora
from understudy.models.architecture import kind_at
from understudy.models.load import resolve
from understudy.recipe import METHODS, CandidatesConfig, DivergenceConfig, MethodConfig, Recipe
from understudy.recipe.on_policy import OnPolicyConfig
from understudy.recipe.training import TrainConfig
from understudy.teachers.local import LocalTeacher
from understudy.tokens.align import CrossTokenizer
from understudy.tokens.compatibility import TokenizerPair, assess_method, compare_vocabularies
from understudy.tokens.template import Template
from understudy.tokens.template_checks import embedding_fault, without_embedding
from understudy.tokens.vocabulary import description
from understudy.training.objectives import OBJECTIVES, CrossEntropy, Objective
from understudy.training.objectives.base import divergence_of
from understudy.training.objectives.candidates import CandidateDistribution
from understudy.training.objectives.features import FeatureObjective
from understudy.types import Example, Gives


def check_lengths(recipe: Recipe) -> None:
    """Refuse lengths that leave no token for a prompt, before data or models are loaded.

    Raises:
        ConfigError: the longest answer takes all of `data.max_length`.
    """
    data = recipe.data
    for model in (recipe.student, recipe.teacher):
        if model and not kind_at(model, resolve(model.described_by)).has_room(data):
            raise ConfigError(
                f"data.max_length {data.max_length:,} leaves no room for a prompt: "
                f"data.max_answer_tokens takes {data.max_answer_tokens:,} of it",
                hint="max_length counts prompt and answer: raise it, or lower max_answer_tokens",
            )


def check_adapters(recipe: Recipe) -> None:
    """Refuse adapters that a model cannot have, before any weight is loaded.

    Raises:
        ModelError: a layer of that name, or any so wide, is not there; existing ones are named.
    """
    teacher, student = recipe.teacher, recipe.student
    trainings = {
        "teacher.pretrain": (teacher, teacher and teacher.pretrain),
        "teacher.sft": (teacher, teacher and teacher.sft),
        "student.pretrain": (student, student.pretrain),
        "student.sft": (student, student.sft),
        "distil": (student, recipe.distil),
    }
    for path, (model, training) in trainings.items():
        if model and training and training.lora:
            try:
                check_lora(model, training.lora)
            except ModelError as error:
                raise ModelError(f"{path}.{error.message}", hint=error.hint) from error


def gold_objective() -> Objective:
    """The objective of supervised fine-tuning."""
    return CrossEntropy()


def candidate_objective(config: CandidatesConfig) -> Objective:
    """The objective of several answers to a question: of their distribution, or of their texts."""
    if config.learn == "sequences":
        return gold_objective()
    return CandidateDistribution(
        divergence(config.divergence),
        temperature=config.temperature,
        weight=config.distribution_weight,
        score=config.score,
    )


def cross_tokenizer(config: MethodConfig, student: Template, teacher: Template) -> CrossTokenizer | None:
    """What aligns the answers of two tokenizers, where the method needs it.

    Raises:
        ModelError: the method needs to know where tokens stand, and one of the tokenizers does not tell.
    """
    if config.alignment is None:
        return None
    return CrossTokenizer.between(config.alignment, student, teacher, last=config.last_token_stands_for_group)


def objective(
    config: MethodConfig, student: Any, teacher: Any, cross_tokenizer: CrossTokenizer | None = None
) -> Objective:
    """The objective a recipe names, with projectors that fit the two models.

    Args:
        config: the section `distil`.
        student: the student's model.
        teacher: the teacher's model.
        cross_tokenizer: between the two tokenizers, as `cross_tokenizer` makes it.

    Raises:
        ConfigError: see `check_divergence`.
    """
    check_divergence(config)
    return OBJECTIVES[config.method].build(config, student, teacher, cross_tokenizer)


def check_learns_as_it_goes(config: MethodConfig, student: Template, gives: Gives) -> None:
    """Refuse rollouts and schedules that a method, a student or a teacher has no use for.

    Raises:
        ConfigError: what cannot be, and what to write instead.
    """
    rollouts, adapt = config.on_policy, config.adapt
    chooses = isinstance(config, DivergenceConfig) and config.divergences is None
    if rollouts and student.candidates == "positions":
        raise ConfigError("distil.on_policy needs a student that writes, and this one points", hint="leave it out")
    if rollouts and (engine := rollouts.engine):
        lacking = [name for name in ("model", "base_url", "folder") if not getattr(engine, name)]
        if lacking or rollouts.teacher_mixed:
            what = f"lacks {' and '.join(lacking)}" if lacking else "draws from the student alone, not teacher_mixed"
            raise ConfigError(f"distil.on_policy.engine {what}", hint="`understudy docs on-policy` has an example")
    if rollouts and rollouts.teacher_mixed and not config.one_vocabulary:
        hint = f"use {' or '.join(name for name, kind in METHODS.items() if kind.one_vocabulary)}, or leave it at 0"
        raise ConfigError("distil.on_policy.teacher_mixed draws from two models of one vocabulary", hint=hint)
    if rollouts and not chooses and (rollouts.loss != "divergence" or rollouts.divergence or rollouts.top_k):
        hint = "leave distil.on_policy at loss: divergence, without divergence and top_k, or take another method"
        raise ConfigError(f"distil.method {config.method} has a comparison of its own, also on rollouts", hint=hint)
    if rollouts and isinstance(config, DivergenceConfig):
        for name in _of_rollouts(rollouts):
            divergence(name)
            if not config.takes(name):
                raise ConfigError(f"{config.method} {config.refusal.format(name)}", hint=config.instead)
            if Gives.LOGPS not in gives and not traits(divergence(name)).takes_tail:
                raise ConfigError(
                    f"distil.on_policy compares by {name}, and this teacher gives {gives.words}",
                    hint="take forward_kl, reverse_kl, js, a skewed one or total_variation",
                )
    if rollouts and rollouts.top_k and Gives.LOGPS not in gives:
        raise ConfigError(
            f"distil.on_policy.top_k picks the student's likeliest tokens, and this teacher gives {gives.words}",
            hint="leave it out: reverse_kl then takes the tail as one token on both sides, which is no biased sum",
        )
    if adapt and adapt.taid and (not chooses or Gives.LOGPS not in gives):
        raise ConfigError(
            f"distil.adapt.taid interpolates two whole distributions; {config.method} with a teacher that gives "
            f"{gives.words} has none",
            hint="take a method with a divergence of its choice, and a teacher that is loaded here",
        )


def _of_rollouts(config: OnPolicyConfig) -> list[str]:
    """The divergences by which rollouts are compared, beside the method's own."""
    if config.loss == "contrastive":
        return ["skew_forward_kl", "skew_reverse_kl"]
    name = config.divergence or ("reverse_kl" if config.loss == "policy_gradient" else None)
    return [name] if name else []


def distilled_objective(
    recipe: Recipe, student: Any, teacher: Any, cross_tokenizer: CrossTokenizer | None = None
) -> Objective:
    """The objective of an arm that reads the teacher's signal: that of its method, with `features` where there are any.

    Raises:
        ConfigError: see `check_divergence` and `FeatureObjective`.
    """
    inner = objective(recipe.distil, student, teacher, cross_tokenizer)
    if recipe.features is None:
        return inner
    return FeatureObjective(inner, recipe.features, student, teacher, seed=recipe.seed)


def explained_objective(
    recipe: Recipe, student: Any, teacher: Any = None, cross_tokenizer: CrossTokenizer | None = None
) -> Objective:
    """The objective of the arm `explained`: cross-entropy, or `distil.method` beside it where `tasks.logits` says so.

    The weights of the tasks come with the rows (`Batch.weights`), so each method weighs them, token by token.

    Args:
        recipe: with a section `tasks`.
        student: the student's model.
        teacher: the teacher's model; needed with `tasks.logits`.
        cross_tokenizer: between the two tokenizers, as `cross_tokenizer` makes it.

    Raises:
        ConfigError: `tasks.logits` without a teacher whose logits can be read.
    """
    assert recipe.tasks is not None, "the recipe has no section `tasks`"
    if not recipe.tasks.logits:
        return gold_objective()
    if teacher is None:
        raise ConfigError(
            "tasks.logits needs a teacher whose logits can be read",
            hint="name one as `teacher`, or tasks.logits: false",
        )
    return objective(recipe.distil, student, teacher, cross_tokenizer)


def check_divergence(config: MethodConfig) -> None:
    """Refuse a divergence that there is not, or that the method has no use for.

    Raises:
        ConfigError: unknown divergence or parameter, or one that the method forbids.
    """
    if not isinstance(config, DivergenceConfig):
        return
    divergence_of(config)
    if not config.takes(config.divergence):
        raise ConfigError(f"{config.method} {config.refusal.format(config.divergence)}", hint=config.instead)


def check_signal(config: MethodConfig, gives: Gives) -> None:
    """Refuse a teacher that gives less of a token than the method reads.

    Raises:
        ConfigError: names what each of the two has, and the methods that this teacher can teach.
    """
    if config.reads in gives:
        return
    methods = [name for name, method in METHODS.items() if method.reads in gives]
    raise ConfigError(
        f"distil.method {config.method} reads {config.reads.words}; this teacher gives {gives.words}",
        hint=f"methods that work with it: {', '.join(methods)}" if methods else "take a teacher that is loaded here",
    )


def check_candidates(config: MethodConfig, student: Template, teacher: Template) -> None:
    """Refuse a teacher and a student that choose among different things, and methods that need a vocabulary.

    Raises:
        ModelError: one writes where the other points.
        ConfigError: both point, and the method aligns tokens of two vocabularies.
    """
    if not comparable(student, teacher):
        action = {
            "vocabulary": "writes its answers",
            "positions": "points at them in the context",
            "options": "compares options",
            "labels": "gives a text a label",
            "tags": "gives each word a label",
            "passages": "finds passages by their vectors",
        }
        raise ModelError(
            f"the teacher {action[teacher.candidates]}, and the student {action[student.candidates]}",
            hint="take two of one kind, or let the student learn the teacher's texts (evaluate.arms: [sft, seqkd])",
        )
    if student.candidates != "vocabulary" and not config.one_vocabulary:
        methods = [name for name, method in METHODS.items() if method.one_vocabulary and method.reads in Gives.LOGPS]
        raise ConfigError(
            f"distil.method {config.method} compares tokens of two vocabularies, and these models "
            + ("point at positions" if student.candidates == "positions" else f"choose among {student.candidates}"),
            hint=f"use {' or '.join(methods)}"
            + (", with one tokenizer for both" if student.candidates == "positions" else ""),
        )


def comparable(student: Template, teacher: Template) -> bool:
    """Whether what a teacher says of a row's candidates is about the student's: options may be the labels."""
    return student.candidates == teacher.candidates or (student.candidates, teacher.candidates) == ("labels", "options")


def check_features(recipe: Recipe, student: Template, teacher: Template) -> None:
    """Refuse to compare inner states that nobody has, or of models that read other tokens.

    Raises:
        ConfigError: the teacher is not one that runs beside the student, or activations are thrown away.
        VocabularyMismatch: their vocabularies differ.
        ModelError: one of them reads options in another way.
    """
    cached = recipe.teacher is not None and recipe.teacher.cache is not None
    if recipe.served_teacher or recipe.teachers is not None or cached:
        what = "teacher.base_url" if recipe.served_teacher else "teachers" if recipe.teachers else "teacher.cache"
        raise ConfigError(
            "features needs inner states of one teacher that runs here", hint=f"leave out {what}, or `features`"
        )
    if recipe.features is not None and recipe.features.sentence and student.candidates != "passages":
        raise ConfigError(
            "features.sentence compares vectors of texts, which models of `kind: embed` make",
            hint="leave out features.sentence, or name that kind for both models",
        )
    if recipe.local_teacher.hint is not None or not recipe.student.context:
        what = "teacher.hint" if recipe.local_teacher.hint is not None else "student.context: false"
        raise ConfigError(
            f"features compares inner states at the same tokens, and with {what} the two read different ones",
            hint="leave out one of the two",
        )
    if student.reads_images or teacher.reads_images:
        raise ConfigError(
            "features compares inner states of what is read as text, and one of these models reads pictures",
            hint="leave out `features`",
        )
    if student.reads_audio or teacher.reads_audio:
        raise ConfigError(
            "features compares inner states of what is read as text, and one of these models hears recordings",
            hint="leave out `features`",
        )
    if recipe.distil.on_policy is not None:
        raise ConfigError(
            "features compares inner states on answers that are there beforehand, not on rollouts",
            hint="leave out distil.on_policy, or `features`",
        )
    if recipe.distil.gradient_checkpointing:
        raise ConfigError(
            "features takes inner states on their way, which distil.gradient_checkpointing throws away",
            hint="leave out one of the two",
        )
    if recipe.features is not None and not recipe.features.reads_states:
        return  # Vectors are of texts, whatever tokens these are cut into.
    difference = compare_vocabularies(student.tokenizer, teacher.tokenizer).difference
    if difference:
        raise VocabularyMismatch(
            f"features compare what two models make of the same tokens, and the vocabularies differ: {difference}",
            hint="take a student of the teacher's family (student.from_teacher), or leave out `features`",
        )
    if type(student) is not type(teacher):
        raise ModelError(
            "features compare what two models make of the same tokens, and these read a row in two ways",
            hint="take two models of one kind, or leave out `features`",
        )


def check_writes(command: str, *templates: Template) -> None:
    """Refuse models that point, for a command that looks at how text is written.

    Raises:
        ConfigError: one of them points at its answers, sees pictures, or hears.
    """
    if any(template.reads_audio for template in templates):
        raise ConfigError(
            f"{command} looks at text, and one of these models hears recordings",
            hint="`understudy run` itself checks such a pair and every row before it loads a weight",
        )
    if any(template.reads_images for template in templates):
        raise ConfigError(
            f"{command} looks at text, and one of these models reads pictures",
            hint="`understudy run` itself checks such a pair and every row; teacher.images and student.images: false "
            "have it look at the text alone",
        )
    chosen_from = next((t.candidates for t in templates if t.candidates != "vocabulary"), None)
    if chosen_from is not None:
        what = "points at its answers in the context" if chosen_from == "positions" else f"chooses among {chosen_from}"
        raise ConfigError(
            f"{command} looks at how models write, and one of these {what}",
            hint="`understudy run` itself checks such a pair and every row before it loads a weight",
        )


def check_images(recipe: Recipe, rows: Iterable[Example], student: Template, teacher: Template | None) -> list[str]:
    """Refuse what has no pictures yet where the rows have them and a model sees.

    Args:
        recipe: of the run, or of an arm.
        rows: all rows.
        student: the student's tokenizer.
        teacher: the teacher's.

    Returns:
        A sentence where a model is not shown the pictures of the rows.

    Raises:
        ConfigError: a part of the recipe that words its own prompts, or a server, which is sent text alone.
    """
    num = sum(bool(row.images) for row in rows)
    sides = {"teacher": teacher, "student": student}
    seeing = [name for name, template in sides.items() if template is not None and template.reads_images]
    if not num:
        return []
    if seeing:
        parts = {
            "tasks": recipe.tasks is not None,
            "generate": recipe.generate is not None,
            "distil.on_policy": recipe.distil.on_policy is not None,
            "teachers": recipe.teachers is not None,
        }
        if name := next((name for name, on in parts.items() if on), None):
            raise ConfigError(
                f"{name} has no pictures yet, and {num:,} rows have some that the {' and the '.join(seeing)} would see",
                hint=f"leave out {name}, or have the models read text alone: teacher.images=false student.images=false",
            )
    if recipe.served_teacher:
        raise ConfigError(
            f"a teacher on a server is sent text alone, and {num:,} rows have pictures",
            hint="load the teacher here: teacher.model without base_url",
        )
    blind = [name for name, template in sides.items() if template is not None and name not in seeing]
    return [f"{num:,} rows have pictures, and the {name} is not shown them." for name in blind]


def check_audio(recipe: Recipe, rows: Iterable[Example], student: Template, teacher: Template | None) -> None:
    """Refuse what has no recordings where a model hears, and models that do not hear where the rows have some.

    Args:
        recipe: of the run, or of an arm.
        rows: all rows.
        student: the student's tokenizer.
        teacher: the teacher's.

    Raises:
        ConfigError: a model that cannot hear, a part of the recipe that words prompts of its own, or a server, which is
            sent text alone.
    """
    sides = {"teacher": teacher, "student": student}
    hearing = [name for name, template in sides.items() if template is not None and template.reads_audio]
    num = sum(row.audio is not None for row in rows)
    if not num and not hearing:
        return
    if recipe.served_teacher:
        raise ConfigError(
            "a teacher on a server is sent text alone, and here recordings are written down",
            hint="load the teacher here: teacher.model without base_url",
        )
    deaf = next((name for name, template in sides.items() if template is not None and name not in hearing), None)
    if deaf:
        what = f"{num:,} rows have recordings" if num else f"the {hearing[0]} hears recordings"
        raise ConfigError(
            f"{what}, and the {deaf} reads text", hint="take a model that hears for both: a Whisper of any size"
        )
    if name := next((name for name, on in _parts_of_text(recipe).items() if on), None):
        raise ConfigError(f"{name} is made for text, and here recordings are written down", hint=f"leave out {name}")


def _parts_of_text(recipe: Recipe) -> dict[str, bool]:
    """The parts of a recipe that put texts of their own to a model, and whether it has them."""
    return {
        "tasks": recipe.tasks is not None,
        "generate": recipe.generate is not None,
        "candidates": recipe.candidates is not None,
        "knowledge": recipe.knowledge is not None,
        "distil.on_policy": recipe.distil.on_policy is not None,
        "teachers": recipe.teachers is not None,
        "data.system": bool(recipe.data.system),
        "evaluate.constrained": bool(recipe.evaluate.constrained),
    }


def check_embeddings(side: str, template: Template, columns: int | None) -> None:
    """Refuse a tokenizer that makes tokens which its model has no embedding for.

    Args:
        side: `student` or `teacher`.
        template: its tokenizer.
        columns: how many tokens its model has embeddings for; None where no config tells.

    Raises:
        ModelError: there are such tokens; they are named.
    """
    tokens = without_embedding(template, columns)
    if tokens:
        why, hint = embedding_fault(side, tokens, columns)
        raise ModelError(why, hint=hint)


def check_student(recipe: Recipe, student: Template) -> None:
    """Refuse to teach texts to a student that cannot write them.

    Raises:
        ConfigError: the recipe has `tasks`, and the student points.
    """
    if recipe.tasks is not None and student.candidates != "vocabulary":
        does = "points at" if student.candidates == "positions" else "chooses"
        raise ConfigError(
            f"tasks teach a student to write rationales, and this one {does} its answers",
            hint="leave out `tasks`, or take a student that writes",
        )


def check_weighed(recipe: Recipe, student: Template, teacher: Template) -> None:
    """Refuse candidates for models that do not write.

    Raises:
        ConfigError: the recipe has `candidates`, and one of the models points or chooses.
    """
    config = recipe.candidates
    if config is None:
        return
    divergence(config.divergence)
    for side, template in (("student", student), ("teacher", teacher)):
        if template.candidates != "vocabulary":
            raise ConfigError(
                f"candidates are answers that both models write, and this {side} chooses among {template.candidates}",
                hint="a student that compares options learns the teacher's distribution over them by distil.method: kd",
            )


def check_embeds(recipe: Recipe, student: Template, teacher: Template | None = None) -> None:
    """Refuse what would change or cannot have in-batch negatives, for students that make vectors of texts.

    Raises:
        ConfigError: a step of several micro-batches, whose candidates would be those of each; rollouts; or what only
            such models have, for others.
    """
    sides = {"student": (recipe.student, student), "teacher": (recipe.teacher, teacher)}
    for side, (config, template) in sides.items():
        if config and config.embedding and template and template.candidates != "passages":
            raise ConfigError(
                f"{side}.embedding is of models of `kind: embed`, and the {side} is none",
                hint=f"write {side}.kind: embed, or leave it out",
            )
    if student.candidates != "passages":
        if recipe.data.corpus is not None:
            raise ConfigError(
                "data.corpus is searched by students of `kind: embed`, and this one is none",
                hint="write student.kind: embed, or leave it out",
            )
        return
    trainings: dict[str, TrainConfig | None] = {"distil": recipe.distil, "student.sft": recipe.student.sft}
    trainings |= {"teacher.sft": recipe.teacher.sft} if recipe.teacher else {}
    for path, training in trainings.items():
        if training and training.micro_batch_size not in (None, training.batch_size):
            raise ConfigError(
                f"{path}.micro_batch_size {training.micro_batch_size} would cut the passages that a query is compared "
                f"with to those of {training.micro_batch_size} rows",
                hint=f"leave it out, and lower {path}.batch_size where memory is short",
            )
    if recipe.distil.on_policy is not None:
        raise ConfigError(
            "distil.on_policy needs a student that writes, and this one finds passages", hint="leave it out"
        )


def learns_from_signal(recipe: Recipe) -> bool:
    """Whether some arm reads the teacher's logits or states, so that the pair has to fit the method."""
    return (recipe.tasks is None and recipe.candidates is None) or bool(recipe.signal_arms)


def reads_logits(recipe: Recipe) -> bool:
    """Whether some arm reads the teacher's signal of the very answers that it learns.

    An arm that learns texts of tasks reads it too with `tasks.logits`, and may do with two models that speak
    differently.
    """
    return any(arm.reads_signal for arm in recipe.trained_arms)


def check_pair(
    recipe: Recipe,
    student: Template,
    teacher: Template,
    columns: tuple[int | None, int | None] = (None, None),
    *,
    gives: Gives = LocalTeacher.can_give,
) -> None:
    """Compare what the method needs with what the pair can give, before any weight is loaded.

    Args:
        recipe: names the method.
        student: the student's tokenizer and template.
        teacher: the teacher's.
        columns: of the student's head and of the teacher's, where their configs tell.
        gives: what the teacher says of a token.

    Raises:
        ConfigError: see `check_divergence`; or the method reads more of a teacher than this one gives.
        ModelError: the method aligns tokens, and a tokenizer does not tell where they stand; or the two templates
            make different things of one answer.
        VocabularyMismatch: the method compares token by token and the vocabularies differ.
    """
    method = recipe.distil.method
    check_divergence(recipe.distil)
    if not comparable(student, teacher) and not reads_logits(recipe):
        return  # One writes where the other points, and only texts go from one to the other.
    check_candidates(recipe.distil, student, teacher)
    check_signal(recipe.distil, gives)
    check_learns_as_it_goes(recipe.distil, student, gives)
    if recipe.features is not None and reads_logits(recipe):
        check_features(recipe, student, teacher)
    if student.candidates not in ("vocabulary", "positions"):
        return  # Options and labels are the same whatever tokens spell them.
    if recipe.distil.alignment is not None:
        for template in (student, teacher):
            description(template.tokenizer)
    judgement = assess_method(method, TokenizerPair.of(student, teacher, columns))
    if judgement.cause == "vocabulary":
        raise VocabularyMismatch(f"distil.method {method} {judgement.why}", hint=judgement.hint)
    # A recipe that only learns from texts may have the two speak differently.
    if judgement.verdict == "unsound" and reads_logits(recipe):
        raise ModelError(f"distil.method {method} cannot be used: {judgement.why}", hint=judgement.hint)
