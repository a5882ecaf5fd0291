"""An inspection on the screen. Whatever comes from data or models is put into `Text`, which knows no markup."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from understudy.inspection.cost import Cost
from understudy.inspection.findings import Finding
from understudy.inspection.inputs import DataSummary, EncodedSample
from understudy.inspection.loss_terms import Losses, LossTerm
from understudy.inspection.reference_check import HeadProbe, ReferenceCheck
from understudy.inspection.time_estimate import TimeEstimate, in_bytes, in_time
from understudy.inspection.tokens import Piece, TextComparison, TokenAlignment, TokenRow, visible

# Neighbouring tokens take turns between two grounds, so that their borders show.
PROMPT = ("#9aa3b3 on #1a1e26", "#9aa3b3 on #303846")
LEARNED = ("#a6f0b5 on #12401f", "#a6f0b5 on #1f6a35")
SPECIAL = "bold #ff9ddb"
PADDING = "#6b5f3a on #211d12"
DIFFERS = "bold #ffd166 on #4a3200"
GOOD, BAD, QUIET, NAME = "#7bd88f", "bold #ff6b6b", "#8a93a3", "bold #8ec7ff"
MAX_PIECES = 360


def section(number: int, title: str, *body: RenderableType) -> Panel:
    """A part of the inspection."""
    return Panel(
        Group(*body),
        title=Text(f" {number}  {title} ", style=NAME),
        title_align="left",
        border_style="#3d4657",
        box=box.ROUNDED,
        padding=(1, 2),
    )


def pairs(rows: Sequence[tuple[str, RenderableType]]) -> Table:
    """Names and values, one pair a line."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style=QUIET, no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows:
        grid.add_row(Text(visible(name)), Text(visible(value)) if isinstance(value, str) else value)
    return grid


def table(*columns: str) -> Table:
    """A table whose first column is text and whose others are numbers."""
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style=QUIET)
    for place, column in enumerate(columns):
        grid.add_column(column, justify="left" if place == 0 else "right")
    return grid


# -- data and models -------------------------------------------------------------------------------------------------


def show_data_summary(summary: DataSummary, recipe: Any) -> RenderableType:
    """Data sizes, notes, tokenizers."""
    sizes = ", ".join(f"{count:,} {role}" for role, count in summary.sizes.items())
    rows: list[tuple[str, RenderableType]] = [("data", f"{recipe.data.title}: {sizes}")]
    for name, value in summary.notes.items():
        text = note_text(value)
        if name not in ("sizes", "rows_read") and text:
            rows.append((f"  {name.replace('_', ' ')}", text))
    for model in ("teacher", "student"):
        config = getattr(recipe, model)
        fresh = " (fresh weights)" if config.init == "fresh" else ""
        rows.append((model, f"{config.model}{fresh}, {summary.vocabulary[model]:,} tokens"))
        rows += [("", note) for note in summary.tokenizer_notes[model]]
    if summary.difference:
        rows.append(("vocabularies", Text(f"differ: {visible(summary.difference)}", style="#ffd166")))
    else:
        rows.append(("vocabularies", Text("are the same", style=GOOD)))
    rows.append(("method", Text(visible(summary.soundness), style=GOOD if summary.sound else BAD)))
    return pairs(rows)


def note_text(value: Any) -> str:
    """A loader's note in a line; empty where there is nothing to say."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {note_text(inner)}" for key, inner in value.items() if inner)
    if isinstance(value, list | tuple):
        return "; ".join(note_text(inner) for inner in value[:3]) + (" …" if len(value) > 3 else "")
    return "" if value in (0, None, "", False) else str(value)


# -- a batch ---------------------------------------------------------------------------------------------------------


def legend() -> Text:
    """What the colours mean."""
    text = Text()
    for sample, style, meaning in (
        (" prompt ", PROMPT[1], "read only  "),
        (" learned ", LEARNED[1], "counted in the loss, between ⟦ and ⟧  "),
        (" <special> ", f"{SPECIAL} on #303846", "special token  "),
        (" pad ", PADDING, "masked"),
    ):
        text.append(sample, style).append(f" {meaning} ", QUIET)
    return text


def show_row(row: TokenRow, *, border: str = "") -> RenderableType:
    """One row, token by token.

    Args:
        row: the row.
        border: stands between tokens where there are no colours to tell them apart.
    """
    text = Text(overflow="fold")
    num_hidden = len(row.pieces) - MAX_PIECES
    middle = range(MAX_PIECES // 3, MAX_PIECES // 3 + num_hidden) if num_hidden > 0 else range(0)
    for place, piece in enumerate(row.pieces):
        if place in middle and not piece.learned:
            if place == middle.start:
                text.append(f" … {num_hidden} tokens not shown … ", QUIET)
            continue
        learned_before = place > 0 and row.pieces[place - 1].learned
        if piece.learned and not learned_before:
            text.append("⟦", GOOD)
        elif learned_before and not piece.learned:
            text.append("⟧", GOOD)
        elif place:
            text.append(border)
        _append(text, piece, place)
    if row.pieces and row.pieces[-1].learned:
        text.append("⟧", GOOD)
    if row.padding:
        text.append(f" pad × {row.padding} ", PADDING)
    counts = f"{len(row.pieces)} tokens, {row.learned} learned"
    return Group(Text.assemble((visible(row.id), NAME), (f"   {counts}", QUIET)), text, Text())


def _append(text: Text, piece: Piece, place: int) -> None:
    style = (LEARNED if piece.learned else PROMPT)[place % 2]
    text.append(piece.text, f"{style} {SPECIAL}" if piece.special else style)


def show_unlabelled(row: TokenRow, answerer: str, *, border: str = "") -> RenderableType:
    """An unlabelled question, and who will answer it."""
    return Group(show_row(row, border=border), Text(f"   ↳ {answerer}", style="italic #ffd166"))


# -- templates and alignment -----------------------------------------------------------------------------------------


def show_templates(compared: TextComparison) -> RenderableType:
    """Both prompts as rendered, side by side."""
    grid = Table(box=box.MINIMAL, expand=True, header_style=NAME, pad_edge=False)
    for side in ("student", "teacher"):
        grid.add_column(f"{side} reads", ratio=1, overflow="fold")
    grid.add_row(_spans(compared.student), _spans(compared.teacher))
    if not compared.places:
        return Group(grid, Text("The two read the same text.", style=GOOD))
    places = "one place" if compared.places == 1 else f"{compared.places} places"
    return Group(grid, Text(f"They differ in {places}, marked.", style="#ffd166"))


def _spans(spans: Sequence[tuple[str, bool]]) -> Text:
    text = Text(overflow="fold")
    for text_of_span, differs in spans:
        text.append(text_of_span, DIFFERS if differs else "")
    return text


def show_alignment(alignment: TokenAlignment, sample: EncodedSample, *, by_position: bool) -> RenderableType:
    """Equality of the targets, lengths and cuts."""
    rows: list[tuple[str, RenderableType]] = []
    if by_position:
        equal = alignment.same_targets == alignment.rows
        text = f"equal position by position in {alignment.same_targets} of {alignment.rows} rows"
        rows.append(("target tokens", Text(text, style=GOOD if equal else BAD)))
    else:
        ratio = alignment.teacher_tokens / max(1, alignment.student_tokens)
        text = (
            f"{alignment.student_tokens:,} of the student, {alignment.teacher_tokens:,} of the teacher (× {ratio:.2f})"
        )
        rows.append(("target tokens", f"{text} in {alignment.rows} rows, aligned by attention"))
    rows.append(("whole rows", f"{alignment.same_reading} of {alignment.rows} are the very same ids to both models"))
    rows.append(("looked at", f"{sample.num_sampled:,} of {sample.num_available:,} rows"))
    rows.append(("lengths", f"prompts {_spread(sample.prompts)}, answers {_spread(sample.answers)} tokens"))
    cuts = [f"{model}: {what} × {count}" for model, counts in sample.cut.items() for what, count in counts.items()]
    rows.append(("cut", "; ".join(cuts) or Text("nothing", style=GOOD)))
    if alignment.first_difference is None:
        return pairs(rows)
    name, student_text, teacher_text = alignment.first_difference
    first = Text.assemble(("for example ", QUIET), (visible(name), NAME))
    return Group(pairs(rows), Text(), first, pairs([("  student", student_text), ("  teacher", teacher_text)]))


def _spread(lengths: Sequence[int]) -> str:
    ordered = sorted(lengths)
    return f"{ordered[len(ordered) // 2]} (median) to {ordered[-1]}"


# -- losses ----------------------------------------------------------------------------------------------------------


def show_heads(probes: Mapping[str, HeadProbe], check: ReferenceCheck) -> RenderableType:
    """Head probe and second opinion."""
    rows: list[tuple[str, RenderableType]] = []
    for model, probed in probes.items():
        if probed.gap is None:
            rows.append((f"{model}'s head", Text(visible(probed.fault), style=BAD)))
        else:
            text = f"head(hidden) is the model's own logits, to {probed.gap:.1e}"
            rows.append((f"{model}'s head", Text(text, style=GOOD)))
    text = f"{check.objective:.6g} fused, {check.dense:.6g} by full logits, per token on {check.tokens} tokens"
    gaps = f"apart by {check.value_gap:.1e} in value and {check.gradient_gap:.1e} in gradient"
    rows += [("the loss", text), ("", Text(gaps, style=GOOD if check.agrees else BAD))]
    return pairs(rows)


def show_losses(losses: Losses) -> RenderableType:
    """Each term with its gradient."""
    has_projectors = losses.total.objective_gradient is not None
    columns = ["term", "logged", "enters the loss", "gradient on the student"]
    grid = table(*columns, *(["on the projectors"] if has_projectors else []))
    for term in losses.terms:
        grid.add_row(*_cells(term, has_projectors))
    grid.add_section()
    grid.add_row(*_cells(losses.total, has_projectors), style="bold")
    rows: list[tuple[str, RenderableType]] = [
        ("gold answers", f"cost the student {losses.student_gold:.2f} nats each, the teacher {losses.teacher_gold:.2f}")
    ]
    if losses.kl is not None and losses.agreement is not None:
        text = f"KL {losses.kl:.3f} nats per token, the same first choice on {losses.agreement:.0%} of them"
        rows.append(("teacher and student", text))
    return Group(grid, pairs(rows))


def _cells(term: LossTerm, has_projectors: bool) -> list[Text]:
    values = [term.logged, term.entering, term.student_gradient, *([term.objective_gradient] if has_projectors else [])]
    return [Text(term.name.replace("_", " ")), *(_number(value) for value in values)]


def _number(value: float | None) -> Text:
    if value is None:
        return Text("–", style=QUIET)
    return Text(f"{value:.4g}", style="" if math.isfinite(value) else BAD)


# -- cost ------------------------------------------------------------------------------------------------------------


def show_costs(costs: Mapping[str, Cost], estimate: TimeEstimate, weights: int, free: int | None) -> RenderableType:
    """Cost of a step, and of the recipe's training."""
    grid = table("a step of", "rows", "tokens read", "learned", "seconds", "memory")
    for name, cost in costs.items():
        seconds = Text(in_time(cost.seconds)) if cost.seconds is not None else Text("not measured", style=BAD)
        memory = Text(in_bytes(cost.memory)) if cost.memory is not None else Text("–", style=QUIET)
        grid.add_row(name, f"{cost.rows}", f"{cost.read:,.0f}", f"{cost.learned:,.0f}", seconds, memory)
    training = table("training ahead", "steps", "a step", "in all")
    for stage in estimate.stages:
        step = in_time(stage.step_seconds) if stage.step_seconds is not None else "?"
        whole = in_time(stage.seconds) if stage.seconds is not None else "?"
        training.add_row(stage.title, f"{stage.steps:,}", step, whole)
    side = f" with {estimate.workers} stages side by side" if estimate.workers > 1 else ""
    room = f", {in_bytes(free)} are free" if free is not None else ""
    total = Text.assemble(("about ", QUIET), (in_time(estimate.wall), "bold"), (f" of training{side}", QUIET))
    rest = "Generating answers (for SeqKD, while training and at the end) comes on top."
    return Group(
        grid,
        Text(f"Memory is above the weights of both models ({in_bytes(weights)}){room}.", style=QUIET),
        Text(),
        training,
        total,
        Text(rest, style=QUIET),
    )


# -- the verdict -----------------------------------------------------------------------------------------------------


def show_findings(findings: Sequence[Finding]) -> RenderableType:
    """Warnings first, then notes."""
    grid = Table.grid(padding=(0, 1))
    grid.add_column()
    grid.add_column(overflow="fold")
    warnings = [finding for finding in findings if finding.level == "warning"]
    if not warnings:
        grid.add_row(Text("✓", style=GOOD), Text("nothing suspicious was found", style=GOOD))
    for finding in warnings:
        grid.add_row(Text("!", style=BAD), Text(visible(finding.text), style="#ffb3b3"))
    for finding in findings:
        if finding.level == "note":
            grid.add_row(Text("·", style=QUIET), Text(visible(finding.text), style=QUIET))
    return grid
