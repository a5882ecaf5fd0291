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
from understudy.evaluation.explanations import cluster_names, generate_task, interval, option_scores, roles_of
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
    tokenizer: ExampleTokenizer,
    explained: Sequence[WithRationales],
    tasks: TaskConfig,
    *,
    batch_size: int,
) -> list[Swap]:
    """Let a student answer behind its own rationale, then behind each counterfactual one.

    Args:
        model: a causal language model or an encoder–decoder.
        tokenizer: its template and the lengths.
        explained: examples with counterfactual rationales; those without give nothing.
        tasks: what the student learned.
        batch_size: sequences at once.

    Returns:
        Empty where the answer does not read a rationale.

    Raises:
        ConfigError: as in `explanations.roles_of`.
    """
    task = roles_of(tasks).reading
    swaps = [
        (item.example, option, text)
        for item in explained
        for option in wrong_places(item.example)
        if (text := split_answer(item.counterfactuals.get(option, ""))[0])
    ]
    if task is None or not swaps:
        return []
    examples = list({example.id: example for example, _, _ in swaps}.values())
    rationales_before = [
        split_answer(text.text)[0] for text in generate_task(model, tokenizer, examples, task, batch_size=batch_size)
    ]
    scores_before = option_scores(model, tokenizer, examples, task, rationales=rationales_before, batch_size=batch_size)
    choice_before = {example.id: _likeliest(scores) for example, scores in zip(examples, scores_before, strict=True)}
    rows, _, rationales = zip(*swaps, strict=True)
    scores_after = option_scores(model, tokenizer, rows, task, rationales=rationales, batch_size=batch_size)
    return [
        Swap(
            id=example.id,
            group=group_of(example),
            choice=option,
            before=_unless_alike(choice_before[example.id], option, example),
            after=_unless_alike(_likeliest(scores), option, example),
        )
        for (example, option, _), scores in zip(swaps, scores_after, strict=True)
    ]


def _likeliest(scores: list[float] | None) -> int:
    assert scores is not None, "a row with counterfactuals has options"
    return int(np.argmax(scores))


def _unless_alike(choice: int, option: int, example: Example) -> int:
    """`choice`; `option` where the two read the same, for then they are one answer."""
    return option if folded(example.choices[choice]) == folded(example.choices[option]) else choice


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
        ConfigError: as in `explanations.roles_of`.
    """
    roles = roles_of(tasks)
    if roles.reading is None or not swaps:
        return NotMeasured(NOT_READ if roles.reading is None else NOTHING_TO_SWAP)
    unlike_before = [row for row in swaps if row.before != row.choice]

    def share(rows: Sequence[Swap]) -> Interval:
        values = [float(row.after == row.choice) for row in rows]
        return interval(values, cluster_names(rows), resampling)

    note = ""
    if roles.answer != roles.reading:
        note = f"measured on the answers of [{roles.reading}]; those of [{roles.answer}] do not read a rationale"
    return Faithfulness(
        task=roles.reading,
        swaps=len(swaps),
        examples=len({row.id for row in swaps}),
        follows=share(swaps),
        flips=share(unlike_before),
        note=note,
    )
