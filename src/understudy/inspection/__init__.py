"""`understudy inspect`: is my loss silently wrong? Answered on the user's own models and data, before hours are spent.

```text
inputs         what is inspected                    tokens           batch, templates, alignment, as people read them
loss_terms     each loss term and its gradient      reference_check  heads and loss, computed another way
cost           tokens, seconds, memory of a step    render           the screen
time_estimate  time of the whole training           findings         what to make of it
```

Nothing is written into the run folder.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path

import transformers
from rich.console import Console, RenderableType
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from understudy import build
from understudy.errors import ConfigError
from understudy.files import atomic
from understudy.inspection import findings, render
from understudy.inspection.cost import free_bytes, student_costs, teacher_cost
from understudy.inspection.findings import Finding
from understudy.inspection.inputs import (
    DataSummary,
    EncodedSample,
    Inputs,
    LoadedPair,
    load_inputs,
    load_pair,
    summarise_data,
    take_sample,
)
from understudy.inspection.loss_terms import measure_losses
from understudy.inspection.reference_check import check_reference, probe_heads
from understudy.inspection.time_estimate import estimate_time
from understudy.inspection.tokens import TokenRow, align, check_answers, compare_texts, pieces, token_rows
from understudy.models.load import head_columns
from understudy.pipeline.stages import seed_all
from understudy.recipe import Recipe
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.prompts import answer_text

NUM_PRINTED_ROWS = 3
WIDTH = 124


class Screen:
    """Prints each part as it comes, and keeps a coloured copy for the HTML file."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.copy = Console(
            file=io.StringIO(), record=True, force_terminal=True, color_system="truecolor", width=WIDTH, highlight=False
        )
        self.number = 0

    def say(self, text: str) -> None:
        """A line."""
        for console in (self.console, self.copy):
            console.print(Text(text), highlight=False)

    def part(self, title: str, body: Callable[[str], RenderableType]) -> None:
        """A numbered part; `body` gets what separates tokens where there are no colours."""
        self.number += 1
        for console in (self.console, self.copy):
            border = "" if console.color_system else "|"
            console.print(render.section(self.number, title, body(border)), highlight=False)

    def save(self, path: Path, title: str) -> None:
        """Write what was shown as one HTML file."""
        page = self.copy.export_html(theme=THEME, code_format=PAGE.replace("TITLE", title), inline_styles=True)
        with atomic(path) as handle:
            handle.write(page)


THEME = TerminalTheme(
    (18, 21, 27),
    (214, 220, 230),
    [
        *[(18, 21, 27), (255, 107, 107), (123, 216, 143), (255, 209, 102)],
        *[(142, 199, 255), (255, 157, 219), (120, 220, 232), (214, 220, 230)],
    ],
)
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>TITLE</title>
<style>
body {{ background: {background}; color: {foreground}; margin: 2rem; }}
pre {{ font: 13px/1.35 "DejaVu Sans Mono", Menlo, Consolas, monospace; }}
</style></head><body><pre><code style="font-family: inherit">{code}</code></pre></body></html>
"""


def inspect_recipe(recipe: Recipe, *, save: Path | None = None, console: Console | None = None) -> list[Finding]:
    """Inspect a recipe and print what is found.

    Args:
        recipe: what would be run.
        save: an HTML file for the same output.
        console: where to print; standard output if None.

    Returns:
        The findings, warnings among them; they do not make the command fail.

    Raises:
        UnderstudyError: whatever `run` would refuse; what was found until then is printed, and saved.
    """
    if save is not None and save.suffix not in (".html", ".htm"):
        raise ConfigError(f"--save writes HTML, not {save.suffix or 'a file without ending'}", hint="name it FILE.html")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    seed_all(recipe.seed)
    screen = Screen(console or Console(highlight=False, markup=False, emoji=False))
    try:
        return _inspect(recipe, screen)
    finally:
        if save is not None and screen.number:
            screen.save(save, f"understudy inspect {recipe.name}")
            screen.console.print(Text(f"saved {save}"), highlight=False)


def _inspect(recipe: Recipe, screen: Screen) -> list[Finding]:
    screen.say(f"understudy inspect {recipe.name} ({recipe.fingerprint()})")
    inputs = load_inputs(recipe)
    summary = summarise_data(inputs)
    screen.part("What was found", lambda _: render.show_data_summary(summary, recipe))
    columns = head_columns(recipe.student), head_columns(recipe.local_teacher)
    build.check_embeddings("student", inputs.student.template, columns[0])
    build.check_embeddings("teacher", inputs.teacher.template, columns[1])
    build.check_pair(recipe, inputs.student.template, inputs.teacher.template, columns)
    sample = take_sample(inputs)
    all_findings = findings.of_recipe(recipe, summary, inputs.beyond) + _show_inputs(inputs, sample, screen)
    loaded = load_pair(inputs, sample)
    all_findings += _show_losses(loaded, inputs, sample, screen)
    all_findings += _show_costs(loaded, inputs, sample, summary, screen)
    all_findings = findings.merged(all_findings)
    screen.part("Is something wrong?", lambda _: render.show_findings(all_findings))
    return all_findings


def _show_inputs(inputs: Inputs, sample: EncodedSample, screen: Screen) -> list[Finding]:
    """Batch, templates, alignment."""
    by_position = inputs.recipe.distil.one_vocabulary
    rows = batch_rows(inputs, sample)
    unlabelled = unlabelled_row(inputs)

    def batch(border: str) -> RenderableType:
        rendered = [render.show_row(row, border=border) for row in rows[:NUM_PRINTED_ROWS]]
        if unlabelled:
            rendered.append(render.show_unlabelled(unlabelled, who_answers(inputs.recipe), border=border))
        return render.Group(render.legend(), Text(), *rendered)

    screen.part("A batch, as the student gets it", batch)
    example = sample.examples[0]
    compared = compare_texts(inputs.student.prompt_text(example), inputs.teacher.prompt_text(example))
    screen.part("Both templates", lambda _: render.show_templates(compared))
    alignment = align(sample.rows, inputs.student.template.tokenizer, inputs.teacher.template.tokenizer)
    screen.part("Alignment and lengths", lambda _: render.show_alignment(alignment, sample, by_position=by_position))
    answers = [answer_text(example) for example in sample.examples]
    all_findings = findings.of_sample(sample) + findings.of_alignment(alignment, by_position=by_position)
    for name, tokenizer in (("student", inputs.student), ("teacher", inputs.teacher)):
        encoded = [getattr(row, name) for row in sample.rows]
        all_findings += findings.of_answers(name, check_answers(encoded, answers, tokenizer.template))
    return all_findings


def batch_rows(inputs: Inputs, sample: EncodedSample) -> list[TokenRow]:
    """The rows of the student's side of the first micro-batch, read off its tensors; no teacher is needed for it."""
    collator = dataclasses.replace(inputs.collator, teacher_pad=None)
    batch = collator(sample.rows[: inputs.recipe.distil.micro_batch_size or inputs.recipe.distil.batch_size])
    return token_rows(batch["student"], batch["ids"], inputs.student.template.tokenizer)


def unlabelled_row(inputs: Inputs) -> TokenRow | None:
    """The first question without an answer, as the student will read it."""
    if not inputs.splits.unlabelled:
        return None
    example = inputs.splits.unlabelled[0]
    prompt = TokenizedExample(inputs.student.prompt_ids(example), [])
    return TokenRow(example.id, pieces(inputs.student.template.tokenizer, prompt.ids, [False] * len(prompt.ids)), 0)


def who_answers(recipe: Recipe) -> str:
    """Who writes the answer to an unlabelled question, and what is learned from it."""
    tuned = "the fine-tuned teacher" if recipe.local_teacher.sft else "the teacher"
    return (
        f"{tuned} answers here, at most {recipe.data.max_answer_tokens} tokens: "
        "SeqKD learns its text, distillation its probabilities"
    )


def _show_losses(loaded: LoadedPair, inputs: Inputs, sample: EncodedSample, screen: Screen) -> list[Finding]:
    """Heads, second opinion, terms."""
    probes = probe_heads(loaded, sample)
    check = check_reference(loaded, inputs, sample)
    screen.part("Heads, and the loss computed twice", lambda _: render.show_heads(probes, check))
    losses = measure_losses(loaded)
    screen.part(
        f"One micro-batch: {len(loaded.batch['ids'])} gold rows, {losses.tokens} target tokens",
        lambda _: render.show_losses(losses),
    )
    return findings.of_heads(probes) + findings.of_reference_check(check) + findings.of_losses(losses, inputs.recipe)


def _show_costs(
    loaded: LoadedPair, inputs: Inputs, sample: EncodedSample, summary: DataSummary, screen: Screen
) -> list[Finding]:
    """Step costs and projection; the models of the distillation make room before the teacher's own step."""
    weights = sum(
        p.numel() * p.element_size() for model in (loaded.module, loaded.teacher.model) for p in model.parameters()
    )
    free = free_bytes(loaded.device)
    costs = student_costs(loaded, inputs, sample)
    del loaded
    tuning = teacher_cost(inputs, sample)
    if tuning:
        costs["teacher SFT"] = tuning
    estimate = estimate_time(inputs.recipe, summary.sizes, {name: cost.seconds for name, cost in costs.items()})
    screen.part("What it costs", lambda _: render.show_costs(costs, estimate, weights, free))
    return findings.of_costs(costs, free)
