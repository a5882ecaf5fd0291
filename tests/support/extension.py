"""Files of a user's own, as `extensions` loads them: a divergence, a metric, a layout; a method, an arm, a stage."""

EXTENSION = '''
from understudy.data.formats import Format, register as register_format
from understudy.losses.divergences import register as register_divergence
from understudy.metrics import mean_score, register as register_metric
from understudy.types import Example


def squared(student_logp, teacher_logp, *, power: float = 2.0):
    """Sum of |p - q| to a power."""
    return ((student_logp.exp() - teacher_logp.exp()).abs() ** power).sum(-1)


def brevity(texts):
    """1 for an answer of at most three words, else 0."""
    return mean_score("brevity", [float(len(text.split()) <= 3) for text in texts.predictions], "brevity|words:3")


def adapt(row, labelled):
    """A row {"ask": …, "tell": …}."""
    answers = (row.value["tell"],) if labelled else ()
    return Example(id=row.id, question=row.value["ask"], answers=answers)


def looks_like_it(value):
    return isinstance(value, dict) and "ask" in value


register_divergence("squared", squared)
register_metric("brevity", brevity)
register_format("ask_tell", Format(adapt, ("ask", "tell"), ("ask",), ("tell",), looks_like_it))
'''

WIDER = '''
from typing import Literal

from understudy.arms import Arm, register as register_arm
from understudy.files import read_jsonl, write_json
from understudy.pipeline.kinds import register as register_stage
from understudy.pipeline.stage import StageKind
from understudy.recipe.methods import KdConfig, register as register_method
from understudy.training.objectives import register as register_objective
from understudy.training.objectives.output_divergence import OutputDivergence


class HalvedConfig(KdConfig):
    """KD at half its gold weight."""

    method: Literal["halved"] = "halved"
    share: float = 0.5
    """What is left of the gold weight."""


class Halved(OutputDivergence):
    """KD at half its gold weight."""

    @classmethod
    def build(cls, config, student, teacher, cross_tokenizer):
        made = super().build(config, student, teacher, cross_tokenizer)
        made.gold_weight = config.gold_weight * config.share
        return made


def count(context, _):
    """How many words the student wrote."""
    rows = read_jsonl(context.run.predictions_path("parrot"))
    words = sum(len(row["prediction"].split()) for row in rows)
    write_json(context.folder / "words.json", words)
    return {"notes": {"words": words}}


register_method(HalvedConfig)
register_objective("halved", Halved)
register_arm(Arm("parrot", learns="teacher_text", against=("sft",)))
register_stage(StageKind("count", count, lambda plan: [("", plan.named("predict"))], title="count words"))
'''
