"""The sections of a recipe about knowledge in words: what the teacher writes, what the student learns of it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from understudy import bounds
from understudy.recipe.endpoint import EndpointConfig, Section

TaskKind = Literal["answer", "rationale_answer", "multitask", "counterfactual", "multitask_counterfactual"]


class FilterConfig(Section):
    """Which pieces of knowledge are rejected; a rejected piece is kept in the file with its reason and not learned."""

    leads_to_answer: bool = False
    """Reject a rationale from which the teacher itself (steps explain_blind, answer) does not reach the gold answer."""
    restates: float | None = Field(default=0.9, gt=0, le=1)
    """Reject a rationale whose words are to this share those of question and answer; null: do not."""
    min_words: int = Field(default=0, ge=0, le=bounds.ROWS)
    """Reject shorter texts."""
    max_words: int | None = Field(default=None, gt=0, le=bounds.ROWS)
    """Reject longer texts."""
    near_duplicate: float | None = Field(default=None, gt=0, le=1)
    """Reject a text whose word 3-grams agree to this share (Jaccard) with an earlier example's; null: do not."""
    min_votes: float = Field(default=0.0, ge=0, le=1)
    """Reject an example's texts where fewer than this share of the sampled answers name the gold answer."""


class SessionsConfig(Section):
    """Which sessions of items are written about, and how patterns, rules, thoughts and adaptive go about it."""

    sampler: Literal["random", "length", "diversity", "difficulty"] = "random"
    """Which sessions come first; the sessions of a smaller ratio are among those of a larger one at the same seed."""
    ratio: float = Field(default=1.0, gt=0, le=1)
    """Share of the sessions of each role that is written about, by `generate.seed`."""
    difficulty_from: str | None = None
    """For sampler difficulty: answers of a teacher, a file of rows with `id` and `prediction`."""
    vectors: Literal["words", "embedding"] = "words"
    """Vectors for diversity, neighbours and clusters of titles: by words alone, or by the metrics' sentence model."""
    support: float = Field(default=0.001, gt=0, le=1)
    """Step patterns: least share of baskets."""
    confidence: float = Field(default=0.0, ge=0, le=1)
    """Step patterns: least confidence of a pattern's rule."""
    max_patterns: int = Field(default=100, gt=0, le=bounds.ROWS)
    """Step patterns: how many of each kind (category, item, intent) are kept, the commonest first."""
    validation_share: float = Field(default=0.25, gt=0, lt=1)
    """Step rules: share of the sessions that write no rule and on which it is measured what each rule is worth."""
    metric: Literal["bundle_f1", "bundle_exact", "bundle_precision", "bundle_recall", "bundle_coverage"] = "bundle_f1"
    """Step rules: the figure that a rule has to raise; bundle_exact and bundle_coverage see an item that is missed."""
    max_rules: int = Field(default=20, gt=0, le=bounds.ROWS)
    """Step rules: how many are kept, those of the largest gain first."""
    rounds: int = Field(default=4, ge=0, le=bounds.REPEATS)
    """Step adaptive: rounds of feedback at most."""
    max_calls: int | None = Field(default=2_000, gt=0, le=bounds.CALLS)
    """Questions at most that rules, thoughts and adaptive ask, each; null: as many as there are."""
    max_tokens: int | None = Field(default=None, gt=0, le=bounds.BUDGET_TOKENS)
    """Tokens at most that each of them reads and writes; questions under way when it is reached still count."""


class GenerateConfig(Section):
    """What a teacher writes about the examples, step by step."""

    steps: tuple[str, ...] = ("explain", "critique", "revise", "counterfactual")
    """explain, explain_blind, critique, revise, counterfactual, answer, paraphrase, new_questions; of sessions
    patterns, rules, thoughts, adaptive (see `understudy docs bundles`); or your own."""
    teacher: EndpointConfig | None = None
    """Who writes: an endpoint, or a model in this process. Default: the recipe's teacher, fine-tuned where it is."""
    recorded: str | None = None
    """Read outputs that were written down earlier: knowledge rows (.jsonl), or a folder of recorded rationales."""
    recorded_questions: str | None = None
    """The file of questions that recorded outputs without ids answer, in their order; default: the one beside them."""
    own_steps: tuple[str, ...] = ()
    """Python files that register steps of your own; they are run, so name only files that you have read."""
    prompts: str | None = None
    """A folder with prompts of your own; a file there replaces ours of the same name."""
    demonstrations: str | None = None
    """Knowledge rows written by people (.jsonl), shown to the teacher as examples; default: the data set's own."""
    shots: int = Field(default=7, ge=0, le=bounds.REPEATS)
    """How many demonstrations stand before each question."""
    teach: bool = False
    """Fine-tune the recipe's teacher on the demonstrations too (needs `teacher.sft`): for one too small to prompt."""
    roles: tuple[Literal["train", "unlabelled", "dev"], ...] = ("train",)
    """The splits that are written about."""
    samples: int = Field(default=1, gt=0, le=bounds.REPEATS)
    """Answers per example in the step `answer`, for self-consistency votes; more than one needs a temperature."""
    temperatures: dict[str, Annotated[float, Field(ge=0, le=bounds.TEMPERATURE)]] = Field(default_factory=dict)
    """Sampling temperature of a step, where it is not the teacher's own, for example `{answer: 0.7}`."""
    max_tokens: dict[str, Annotated[int, Field(gt=0, le=bounds.TOKENS)]] = Field(default_factory=dict)
    """Longest text of a step in tokens; default: critique and revise 300, counterfactual 512, others 160."""
    seed: int = Field(default=0, ge=0, le=bounds.SEED)
    """Seed of the draws: which critique, which demonstrations, which sessions."""
    sessions: SessionsConfig | None = None
    """Which sessions of items are written about, and how; null: all of them, by the defaults of its fields."""
    filter: FilterConfig = FilterConfig()
    """What is rejected."""


class TaskConfig(Section):
    """What the student learns of the texts."""

    kind: TaskKind = "multitask"
    """answer, rationale_answer, multitask, counterfactual, multitask_counterfactual
    (see `understudy docs explanations`)."""
    rationales: str = "explain"
    """The step whose texts are the rationales: explain (unrevised), revise, explain_blind; data: the data set's own."""
    paraphrases: bool = False
    """Learn each question in the words of the step `paraphrase` too, with all that is learned of it."""
    new_questions: bool = False
    """Learn the questions of the step `new_questions` too, with the teacher's answers."""
    predict_weight: float = Field(default=0.5, ge=0, le=1)
    """α: weight of the answer in multitask, the rationale gets the rest."""
    factual_weight: float = Field(default=0.5, ge=0, le=1)
    """β: weight of the factual part in counterfactual training, the counterfactual part gets the rest."""
    multitask_weight: float = Field(default=0.5, ge=0, le=1)
    """γ: weight of multitask in multitask_counterfactual, counterfactual training gets the rest."""
    counterfactuals: Literal["all"] | Annotated[int, Field(gt=0, le=bounds.REPEATS)] = "all"
    """Counterfactuals per example: of all wrong options, or so many drawn ones."""
    rationale_in: Literal["decoder", "encoder"] = "decoder"
    """Where a counterfactual rationale stands: given at the start of the answer without a loss, or in the question."""
    logits: bool = False
    """Also learn from the teacher's logits by `distil.method` (not on counterfactual rows)."""


TEACHERLESS = ("patterns",)
"""Steps that ask no teacher."""


def asks_teacher(generate: GenerateConfig) -> bool:
    """Whether any of its steps asks anybody."""
    return generate.recorded is None and not set(generate.steps) <= set(TEACHERLESS)


OF_DATA = "data"
"""In place of a step: the rationales that the data set brings along."""


def _multitask(tasks: TaskConfig) -> float:
    """The share of multitask training in the loss."""
    return {"multitask": 1.0, "multitask_counterfactual": tasks.multitask_weight}.get(tasks.kind, 0.0)


def _contrast(tasks: TaskConfig) -> float:
    """The share of counterfactual training in the loss."""
    return 1 - _multitask(tasks) if tasks.kind in ("counterfactual", "multitask_counterfactual") else 0.0


def learned_steps(tasks: TaskConfig) -> tuple[str, ...]:
    """The steps of `generate` whose texts are learned."""
    learned = {
        tasks.rationales: tasks.kind != "answer" and tasks.rationales != OF_DATA,
        "counterfactual": _contrast(tasks) * (1 - tasks.factual_weight) > 0,
        "paraphrase": tasks.paraphrases,
        "new_questions": tasks.new_questions,
    }
    return tuple(step for step, is_learned in learned.items() if is_learned)


def unlearnable(tasks: TaskConfig, generate: GenerateConfig | None) -> str:
    """Why a student could not learn or answer by these tasks; empty where it can.

    The weights must leave a task that answers, and the steps must write what the tasks learn.
    """
    answered = _multitask(tasks) * tasks.predict_weight + _contrast(tasks) * tasks.factual_weight
    if tasks.kind not in ("answer", "rationale_answer") and not answered:
        return f"tasks.kind {tasks.kind}: with these weights no task answers"
    if tasks.new_questions and tasks.kind != "answer" and not _multitask(tasks) * tasks.predict_weight:
        return (
            f"tasks.new_questions: they come with an answer and no rationale, and tasks.kind {tasks.kind} learns no "
            "answer by itself"
        )
    if generate is None or generate.recorded is not None:
        return ""
    lacking = [step for step in learned_steps(tasks) if step not in generate.steps]
    if not lacking:
        return ""
    field = {"paraphrase": "paraphrases", "new_questions": "new_questions"}.get(lacking[0], f"kind {tasks.kind}")
    return f"tasks.{field} learns the step {lacking[0]}, which is not in generate.steps"
