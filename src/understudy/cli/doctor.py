"""`understudy doctor`: do these two tokenizers fit, and by which methods may one model learn from the other?"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from understudy.inspection.doctor_report import DoctorReport
    from understudy.inspection.server_report import ServerReport


def doctor(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one (`understudy recipes`).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change.")] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="MODEL", help="The weights that a server serves: compute the loss here too."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Compare vocabularies, special tokens and templates of a pair, and say which methods are sound for it.

    A teacher on a server goes through a conformance test first. Ends with 1 where the recipe's own method is unsound,
    where rows are longer than a model's table of positions, or where the server says something else than it should.
    """
    from understudy.inspection.doctor import examine
    from understudy.recipe import load_recipe
    from understudy.recipe.shipped import find_recipe

    report = examine(load_recipe(find_recipe(recipe), overrides or ()), against=against)
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=1, ensure_ascii=False))
    else:
        print_report(report)
    if report.unsound or report.refused or (report.server and report.server.bad):
        raise typer.Exit(1)


def print_report(report: DoctorReport) -> None:
    """Print what was found: the two sides, the vocabularies, one conversation, and the judgement."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, markup=False, emoji=False)
    if report.server:
        _server(console, report.server)
    _sides(console, report)
    for title, lines in (("vocabularies", _vocabularies(report)), ("templates", _templates(report))):
        console.print(Text(title, style="bold"))
        for line in lines:
            console.print(_line(f"  {line}"), soft_wrap=True)
    for note in report.notes:
        console.print(_line(f"  note: {note}"), soft_wrap=True)
    console.print()
    _methods(console, report)
    method = report.methods[report.method]
    if report.unsound:
        message = f"{report.method} is unsound for this pair: {_brief(method.why, report)}"
        console.print(_line(message, "red"), soft_wrap=True)
        console.print(_line(f"  hint: {method.hint}"), soft_wrap=True)
    else:
        console.print(_line(f"{report.method}, the recipe's method: {method.verdict}"), soft_wrap=True)
    if report.refused:
        console.print(_line(report.refused, "red"), soft_wrap=True)
        console.print(_line(f"  hint: {report.refused_hint}"), soft_wrap=True)


def _line(text: str, style: str = "") -> Any:
    """A text that cannot steer the terminal, whatever a tokenizer put into it."""
    from rich.text import Text

    from understudy.cli import one_line

    indent = len(text) - len(text.lstrip(" "))
    return Text(" " * indent + one_line(text), style=style)


def _table(title: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        table.add_column(_line(name), overflow="fold")
    return table


def _server(console: Console, server: ServerReport) -> None:
    table = _table(f"conformance of {server.model} at {server.address}", "looked at", "verdict", "found")
    colours = {"good": "green", "note": "yellow", "bad": "red", "not measured": "dim"}
    table.add_row("can do", "", _line(" · ".join(server.can) or "nothing"))
    for check in server.checks:
        table.add_row(_line(check.name), _line(check.verdict, colours[check.verdict]), _line(check.finding))
    console.print(table)


def _sides(console: Console, report: DoctorReport) -> None:
    table = _table("the pair", "", "student", "teacher")
    sides = (report.student, report.teacher)

    def row(name: str, text_of: Any) -> None:
        table.add_row(name, *(_line(text_of(side)) for side in sides))

    row("model", lambda side: side.model)
    row("tokens", lambda side: f"{side.tokens:,}")
    row("columns of the head", lambda side: "no config" if side.columns is None else f"{side.columns:,}")
    row("padding rows", lambda side: "–" if side.padding_rows is None else f"{side.padding_rows:,}")
    row("special tokens", lambda side: ", ".join(f"{k} {v}" for k, v in side.special.items() if v))
    row("an answer ends with", lambda side: f"{side.end} ({side.end_id})")
    row("thinking", lambda side: side.thinking.text)
    row("does not come back", lambda side: ", ".join(side.lost) or "nothing")
    row("answers altered", lambda side: f"{side.answers_altered} of {report.shares.rows}")
    console.print(table)
    for side, facts in zip(("student", "teacher"), sides, strict=True):
        for note in facts.notes:
            console.print(_line(f"  {side}: {note}"), soft_wrap=True)


def _vocabularies(report: DoctorReport) -> list[str]:
    facts = report.vocabularies
    lines = [f"differ: {facts.difference}" if facts.difference else "one vocabulary"]
    lines.append(f"{facts.same:,} ids write the same bytes on both sides")
    teacher_tokens = report.teacher.tokens
    shared = teacher_tokens - facts.teacher_only
    lines.append(
        f"{shared:,} of the teacher's {teacher_tokens:,} tokens are tokens of the student too, under whatever id"
    )
    return lines


def _templates(report: DoctorReport) -> list[str]:
    facts = report.templates
    same = "alike" if facts.same_prompt else "differently"
    lines = [f"the same conversation ({facts.id}) is rendered {same}"]
    for side in ("student", "teacher"):
        tokens = facts.answer_tokens[side]
        token_text = " ".join(tokens if len(tokens) <= 12 else [*tokens[:9], "…", *tokens[-2:]])
        lines.append(f"{side}: …{facts.prompt[side][-40:]!r} ⟦ {token_text} ⟧")
    if not facts.same_lead:
        lines.append(f"before the answer stand {facts.lead['student']!r} and {facts.lead['teacher']!r}")
    return lines


def _brief(why: str, report: DoctorReport) -> str:
    """A reason without the difference of the vocabularies, which stands above in full."""
    difference = report.vocabularies.difference
    return why.replace(f": {difference}", " (above)") if difference else why


def _methods(console: Console, report: DoctorReport) -> None:
    shares = report.shares
    table = _table(f"methods, on {shares.rows} of {report.gold_rows} gold rows", "method", "verdict", "aligned", "why")
    colours = {"sound": "green", "weak": "yellow", "unsound": "red"}
    for name, assessment in report.methods.items():
        aligned = "–" if assessment.aligned is None else f"{assessment.aligned:.1%}"
        mark = f"{name} ←" if name == report.method else name
        why = _brief(assessment.why, report)
        table.add_row(mark, _line(assessment.verdict, colours[assessment.verdict]), aligned, _line(why))
    console.print(table)
