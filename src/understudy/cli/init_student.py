"""`understudy init-student`: a student cut from its teacher, as a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from understudy.inspection.first_students import Candidate


def init_student(
    teacher: Annotated[str, typer.Argument(help="A hub id, a folder, a GGUF file or embedded:NAME.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as data.source=qa.jsonl.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the student; must not exist.")] = Path("student"),
    layers: Annotated[str | None, typer.Option(help="Blocks that stay: a number, or a list such as 0,4,9.")] = None,
    width: Annotated[int | None, typer.Option(help="Channels of the hidden state that stay.")] = None,
    heads: Annotated[int | None, typer.Option(help="Attention heads of a block that stay.")] = None,
    mlp: Annotated[int | None, typer.Option(help="Neurons of a feed-forward layer that stay.")] = None,
    by: Annotated[str, typer.Option(help="Which blocks: position, influence, block or loss.")] = "position",
    rows: Annotated[int, typer.Option(help="Rows to measure importance on, and as many others to judge by.")] = 64,
    other: Annotated[
        list[str] | None, typer.Option("--or", help='Try this too, keep what starts best: "layers=20 width=384".')
    ] = None,
) -> None:
    """Cut a student from its teacher; say what stays, and how well it starts: perplexity and agreement.

    Without data.source blocks stay by position, all else by the size of its weights, and no start is measured.
    """
    from understudy.inspection.first_students import cut_and_keep
    from understudy.recipe import parse_recipe

    first = {"layers": _layers(layers), "width": width, "heads": heads, "mlp": mlp, "by": by}
    shapes = [first, *(_shape(text) for text in other or ())]
    recipes = [
        parse_recipe(
            {"teacher": {"model": teacher}, "student": {"from_teacher": {"rows": rows, **shape}}},
            overrides or [],
            origin="init-student",
        )
        for shape in shapes
    ]
    measure = any(text.startswith("data.source=") for text in overrides or ())
    print_candidates(cut_and_keep(recipes, out, measure=measure))
    typer.echo(f"student: {out}")


def _layers(text: str | None) -> Any:
    """A number, or a list of numbers; whatever else it is, the recipe says what is wrong with it."""
    if text is None:
        return None
    numbers = [int(part) if part.strip().isdigit() else part for part in text.split(",")]
    return numbers[0] if len(numbers) == 1 else numbers


def _shape(text: str) -> dict[str, Any]:
    """`layers=20 width=384` as fields."""
    from understudy.errors import ConfigError

    parts = [part.partition("=") for part in text.split()]
    if not parts or not all(sign for _, sign, _ in parts):
        raise ConfigError(f"--or {text!r} is no list of field=value", hint='such as --or "layers=20 width=384"')
    return {name: _layers(value) if name == "layers" else value for name, _, value in parts}


def print_candidates(candidates: list[Candidate]) -> None:
    """A line for each student that was cut, the one that was kept first."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    measured = candidates[0].start is not None
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("what stays", "parameters", "of the teacher's", *(("perplexity", "agreement") if measured else ())):
        table.add_column(name, overflow="fold")
    for candidate in candidates:
        start = candidate.start
        table.add_row(
            candidate.words,
            f"{candidate.num_parameters:,}",
            f"{candidate.num_parameters / candidate.teacher_parameters:.1%}",
            *((f"{start.perplexity:.4g}", f"{start.agreement:.1%}") if start else ()),
        )
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(table)
    if start := candidates[0].start:
        console.print(f"the teacher's perplexity is {start.teacher_perplexity:.4g}, on {start.tokens:,} target tokens")
