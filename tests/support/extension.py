"""A file of a user's own: a divergence, a metric and a data layout, as `extensions` loads it."""

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
