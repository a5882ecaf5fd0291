"""Does a student's answer follow from the rationale that stands before it?

Its own rationale is taken away and one that argues for a wrong option is put in its place, up to the mark; the option
that is then the likeliest is its answer. Over all such swaps,

```text
follows = share of swaps whose answer is the option that the rationale argues for
flips   = the same over those swaps where the student had answered otherwise before
```

A student that ignores what it writes follows only where it would have said so anyway; `flips` leaves those out. The
idea of swapping in counterfactual rationales is SCOTT's (arXiv 2305.01879); there the *accuracy* under perturbed
rationales is reported, here whether the answer goes along. The question is put with the prefix of factual training, so
the student is not told that anything has been swapped.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from understudy.data.option_mentions import folded
from understudy.data.tasks import WithRationales, split_answer, wrong_places
from understudy.evaluation.explanation_results import Faithfulness, NotMeasured
from understudy.evaluation.explanations import asked, groups_of, interval, option_scores, written
from understudy.evaluation.predict import group_of
from understudy.metrics import Interval
from understudy.metrics.significance import DEFAULT_RESAMPLING, Resampling
from understudy.recipe import TaskConfig
from understudy.records import Swap
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.types import Example

NOT_READ = "not measured: the answer does not read the rationale"
NOTHING_TO_SWAP = "not measured: no example has a counterfactual rationale"


def swapped_answers(
    model: nn.Module,
    encoder: ExampleTokenizer,
    explained: Sequence[WithRationales],
    tasks: TaskConfig,
    *,
    batch_size: int,
) -> list[Swap]:
    """Let a student answer behind its own rationale, then behind each counterfactual one.

    Args:
        model: a causal language model or an encoder–decoder.
        encoder: its template and the lengths.
        explained: examples with counterfactual rationales; those without give nothing.
        tasks: what the student learned.
        batch_size: sequences at once.

    Returns:
        Empty where the answer does not read a rationale.

    Raises:
        ConfigError: as in `explanations.asked`.
    """
    task = asked(tasks).reading
    swaps = [
        (one.example, place, text)
        for one in explained
        for place in wrong_places(one.example)
        if (text := split_answer(one.counterfactuals.get(place, ""))[0])
    ]
    if task is None or not swaps:
        return []
    examples = list({example.id: example for example, _, _ in swaps}.values())
    own = [split_answer(text.text)[0] for text in written(model, encoder, examples, task, batch_size=batch_size)]
    first = option_scores(model, encoder, examples, task, rationales=own, batch_size=batch_size)
    before = {example.id: _likeliest(scores) for example, scores in zip(examples, first, strict=True)}
    rows, _, texts = zip(*swaps, strict=True)
    after = option_scores(model, encoder, rows, task, rationales=texts, batch_size=batch_size)
    return [
        Swap(
            id=example.id,
            group=group_of(example),
            choice=place,
            before=_read_as(before[example.id], place, example),
            after=_read_as(_likeliest(scores), place, example),
        )
        for (example, place, _), scores in zip(swaps, after, strict=True)
    ]


def _likeliest(scores: list[float] | None) -> int:
    assert scores is not None, "a row with counterfactuals has options"
    return int(np.argmax(scores))


def _read_as(said: int, place: int, example: Example) -> int:
    """The place argued for where the answer reads like it: two options that read the same are one answer."""
    return place if folded(example.choices[said]) == folded(example.choices[place]) else said


def faithfulness(
    swaps: Sequence[Swap],
    tasks: TaskConfig,
    *,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Faithfulness | NotMeasured:
    """How often the answer goes along with a swapped rationale, with intervals over groups of examples.

    Args:
        swaps: of `swapped_answers`.
        tasks: what the student learned.
        resampling: draws, level of the intervals, seed.

    Raises:
        ConfigError: as in `explanations.asked`.
    """
    form = asked(tasks)
    if form.reading is None or not swaps:
        return NotMeasured(NOT_READ if form.reading is None else NOTHING_TO_SWAP)
    open_ = [row for row in swaps if row.before != row.choice]

    def share(rows: Sequence[Swap]) -> Interval:
        values = [float(row.after == row.choice) for row in rows]
        return interval(values, groups_of(rows), resampling)

    note = ""
    if form.answer != form.reading:
        note = f"measured on the answers of [{form.reading}]; those of [{form.answer}] do not read a rationale"
    return Faithfulness(
        task=form.reading,
        swaps=len(swaps),
        examples=len({row.id for row in swaps}),
        follows=share(swaps),
        flips=share(open_),
        note=note,
    )
