"""`understudy ask`: student, teacher and undistilled student side by side on a question of one's own."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.text import Text

    from understudy.run import Run
    from understudy.serve.answers import Answer
    from understudy.serve.asking import Asked, Panel

DEFAULT = "student,teacher,undistilled"


def ask(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")],
    question: Annotated[str | None, typer.Argument(help="What is asked; default: questions are read.")] = None,
    context: Annotated[
        str | None, typer.Option("--context", metavar="TEXT|@FILE", help="A text to read; @FILE reads it from a file.")
    ] = None,
    choices: Annotated[
        list[str] | None, typer.Option("--choice", metavar="TEXT", help="An option; give each with a --choice.")
    ] = None,
    models: Annotated[
        str | None,
        typer.Option("--models", metavar="NAME,...", help=f"Whom to ask, arms too. Default: {DEFAULT}."),
    ] = None,
    up: Annotated[str | None, typer.Option("--up", metavar="MODEL", help="Its answer is right: keep it.")] = None,
    down: Annotated[str | None, typer.Option("--down", metavar="MODEL", help="Its answer is wrong.")] = None,
    right: Annotated[
        str | None, typer.Option("--right", metavar="ANSWER", help="With --down: the right answer, to learn from.")
    ] = None,
    feedback: Annotated[
        Path | None, typer.Option("--feedback", metavar="FILE", help="Where thumbs go. Default: in the run.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Where the models go. Default: as the recipe says.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a question.")] = False,
) -> None:
    """Ask the models of a run side by side: answer, confidence, time, tokens, and where they part."""
    from understudy.errors import ConfigError
    from understudy.run import Run

    if right and not down:
        raise ConfigError("--right says what is right where --down says what is wrong", hint="add --down MODEL")
    if (up or down) and question is None:
        raise ConfigError(
            "--up and --down judge the answers to a question", hint="give one, or use + and - at the prompt"
        )
    run = Run.open(folder)
    names = [name.strip() for name in models.split(",") if name.strip()] if models else _there(run)
    text = _context(context)
    from understudy.serve.asking import Panel

    with Panel.open(run, names, device=device) as panel:
        panel.check_named([name for name in (up, down) if name])
        target = feedback or folder / "feedback.jsonl"
        if question is None:
            _prompt(panel, text, choices or (), target, as_json)
            return
        asked = panel.ask(question, text, choices or ())
        _show(asked, as_json)
        for name, verdict in ((up, "up"), (down, "down")):
            if name:
                _keep(asked, name, verdict, right, target, as_json)


def _there(run: Run) -> list[str]:
    from understudy.serve.sides import TEACHER_SIDE

    return [name for name in DEFAULT.split(",") if name != TEACHER_SIDE or run.recipe.teacher is not None]


def _context(value: str | None) -> str | None:
    from understudy.files import read_text

    return read_text(Path(value[1:])) if value and value.startswith("@") else value


def _keep(asked: Asked, name: str, verdict: str, right: str | None, target: Path, as_json: bool) -> None:
    path = asked.keep(name, verdict, target, correction=right if verdict == "down" else None)
    typer.echo(f"kept in {path}", err=as_json)


def _prompt(panel: Panel, context: str | None, choices: Sequence[str], target: Path, as_json: bool) -> None:
    """Questions one by one; a line that begins with + or − judges the last answer."""
    from understudy.errors import UnderstudyError

    if not as_json:
        typer.echo(
            f"asking {', '.join(panel.names)}. A question, or of the last one: + MODEL (right), - MODEL (wrong), "
            "- MODEL = ANSWER (what is right); an empty line ends."
        )
    asked: Asked | None = None
    while line := _line("" if as_json else "? "):
        try:
            if asked is not None and line[0] in "+-":
                name, _, right = line[1:].partition("=")
                verdict = "up" if line[0] == "+" else "down"
                _keep(asked, name.strip() or panel.names[0], verdict, right.strip() or None, target, as_json)
                continue
            asked = panel.ask(line, context, choices)
            _show(asked, as_json)
        except UnderstudyError as error:
            from understudy.cli import print_error

            print_error(error.message, error.hint)


def _line(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        return ""


def _show(asked: Asked, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(asked.to_json(), ensure_ascii=False))
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("model", "answer", "confidence", "ms", "tokens", "cost"):
        table.add_column(heading, overflow="fold", justify="left" if heading in ("model", "answer") else "right")
    for answer in asked.answers:
        table.add_row(*_cells(answer, asked.partings))
    for name, fault in asked.faults.items():
        table.add_row(_plain(name, "red"), _plain(fault, "red"), "–", "–", "–", "–")
    console.print(table)
    for answer in asked.answers:
        if answer.candidates:
            shares = "  ".join(f"{c.text or '(no answer)'} {c.probability:.2f}" for c in answer.candidates)
            console.print(_plain(f"{answer.model} weighs: {shares}"), soft_wrap=True)
    for name, parting in asked.partings.items():
        words = f"“{parting.ours or '(end)'}” where {asked.first} has “{parting.theirs or '(end)'}”"
        console.print(_plain(f"{name} parts from {asked.first} at word {parting.word + 1}: {words}"), soft_wrap=True)


def _cells(answer: Answer, partings: Mapping[str, Any]) -> list[Any]:
    mark = "" if answer.calibrated or answer.confidence is None else "*"
    confidence = "–" if answer.confidence is None else f"{answer.confidence:.2f}{mark}"
    tokens = f"{answer.prompt_tokens} + {answer.completion_tokens}"
    cost = "–" if answer.cost is None else f"{answer.cost:.6g}"
    parting = partings.get(answer.model)
    text = _marked(answer.answer, None if parting is None else parting.word)
    return [_plain(answer.model), text, confidence, f"{1000 * answer.seconds:.0f}", tokens, cost]


def _marked(answer: str, word: int | None) -> Text:
    """An answer with the word from which it goes its own way."""
    if word is None:
        return _plain(answer or "(no answer)")
    words = answer.split()
    text = _plain(" ".join(words[:word]) + (" " if words[:word] and words[word:] else ""))
    text.append_text(_plain(" ".join(words[word : word + 1]) or "▏", "bold underline yellow"))
    return text.append_text(_plain(" ".join(["", *words[word + 1 :]])))


def _plain(text: str, style: str = "") -> Text:
    from rich.text import Text

    from understudy.cli import one_line

    shown = "".join(c if c == " " else one_line(c) for c in text)
    return Text(shown, style=style)
