"""`understudy sessions patterns`, `sample` and `baselines`: what sessions say before any model is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from understudy.data.sessions import Session
    from understudy.types import Example, Splits

app = typer.Typer(help="Sessions and their bundles: patterns, samples, baselines.", no_args_is_help=True)

RecipeArgument = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe whose data are sessions.")]
Overrides = Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change.")]
Vectors = Annotated[
    str, typer.Option("--vectors", help="words: by words alone; embedding: by the sentence model of the metrics.")
]
Support = Annotated[float, typer.Option("--support", help="Least share of training bundles that a pattern stands in.")]


@app.command("patterns")
def patterns(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    kinds: Annotated[
        list[str] | None, typer.Option("--kind", help="category, item or intent; may be given several times.")
    ] = None,
    support: Support = 0.001,
    confidence: Annotated[float, typer.Option("--confidence", help="Least confidence of a pattern's rule.")] = 0.0,
    most: Annotated[int, typer.Option("--most", min=1, help="How many of each kind to show.")] = 20,
    vectors: Vectors = "words",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.jsonl", help="Where all of them go.")] = None,
) -> None:
    """What is found together in the training sessions, in sentences.

    Where the catalogue has no categories, clusters of titles stand in for them.
    """
    from understudy.files import write_jsonl
    from understudy.sessions.patterns import KINDS, mine_patterns, verbalise

    train = _with_categories(_train_sessions(_splits(recipe, overrides)), vectors)[0]
    mined = [mine_patterns(train, kind, support=support, confidence=confidence) for kind in kinds or KINDS]
    for kind, part in zip(kinds or KINDS, mined, strict=True):
        typer.echo(
            f"{kind}: {len(part.patterns):,} patterns of {part.baskets:,} baskets, {part.min_count} or more each"
        )
        for line in filter(None, (part.remark, verbalise([part], most))):
            typer.echo(line)
    if out:
        write_jsonl(out, (_as_json(pattern) for part in mined for pattern in part.patterns))
        typer.echo(f"wrote {out}")


@app.command("sample")
def sample(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    sampler: Annotated[str, typer.Option("--sampler", help="random, length, diversity or difficulty.")] = "random",
    ratio: Annotated[float, typer.Option("--ratio", help="Share of the training sessions, up to 1.")] = 0.1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Samples of one seed are nested.")] = 0,
    vectors: Vectors = "words",
    answers: Annotated[
        Path | None, typer.Option("--answers", metavar="FILE.jsonl", help="For difficulty: rows of id and prediction.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the splits go.")] = Path("sample"),
) -> None:
    """Write a share of the training sessions, and the development and test sessions as they are.

    The folder's files are layout `session`: data.source, data.dev_source and data.test_source take them.
    """
    from understudy.data.sessions import row_of, session_of
    from understudy.files import write_jsonl
    from understudy.sessions.neighbours import session_vectors, titles_of
    from understudy.sessions.sampling import difficulty_of, order_of, taken
    from understudy.sessions.vectors import encoder_of

    splits = _splits(recipe, overrides)
    train = _train_sessions(splits)
    order = order_of(
        sampler,
        train,
        seed=seed,
        vectors=session_vectors(train, encoder_of(vectors, titles_of(train))) if sampler == "diversity" else None,
        difficulty=difficulty_of(_answers(answers), train) if answers else None,
    )
    chosen = [train[place] for place in taken(order, ratio)]
    parts = {"train": chosen, "dev": map(session_of, splits.dev), "test": map(session_of, splits.test)}
    for name, sessions in parts.items():
        write_jsonl(out / f"{name}.jsonl", map(row_of, sessions))
    typer.echo(f"{len(chosen):,} of {len(train):,} training sessions, by {sampler}: {out / 'train.jsonl'}")


@app.command("baselines")
def baselines(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    support: Support = 0.001,
    vectors: Vectors = "words",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the bundles by chance.")] = 0,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where their answers go.")] = Path("baselines"),
) -> None:
    """What a student has to beat: bundles by chance, all in one, of the nearest session, by patterns alone.

    Answers the test sessions, shows figures with their intervals, and writes the answers as files that
    `understudy compare` takes beside a run.
    """
    from understudy.bundle_answers import write_answer
    from understudy.data.sessions import session_of
    from understudy.files import write_jsonl
    from understudy.sessions.baselines import BASELINES, baseline

    splits = _splits(recipe, overrides)
    known, asked = _with_categories(_train_sessions(splits), vectors, list(map(session_of, splits.test)))
    texts = {
        name: list(map(write_answer, baseline(name, known, asked, seed=seed, support=support, how=vectors)))
        for name in BASELINES
    }
    for name, answers in texts.items():
        write_jsonl(out / f"{name}.jsonl", map(_prediction, splits.test, answers))
    _show(texts, splits.test)
    typer.echo(f"wrote {out}/{{{','.join(texts)}}}.jsonl")


# Reading --------------------------------------------------------------------------------------------------------------


def _splits(recipe: str, overrides: Sequence[str] | None) -> Splits:
    from understudy.data.load import load_splits
    from understudy.data.sessions import is_session
    from understudy.errors import ConfigError, DataError
    from understudy.recipe import is_grid, load_recipe, load_yaml
    from understudy.recipe.shipped import find_recipe

    path = find_recipe(recipe)
    if is_grid(load_yaml(path)):
        raise ConfigError(f"{recipe} has axes: it is a grid, not one run", hint="name a recipe of one run")
    splits = load_splits(load_recipe(path, overrides or []).data)
    if not all(map(is_session, (*splits.train, *splits.dev, *splits.test))):
        raise DataError("the rows are no sessions of items", hint="`understudy docs bundles` says which layouts are")
    return splits


def _train_sessions(splits: Splits) -> list[Session]:
    from understudy.data.sessions import session_of
    from understudy.errors import DataError

    if not splits.train:
        raise DataError("there are no training sessions with bundles", hint="check data.source and data.dev, data.test")
    return list(map(session_of, splits.train))


def _with_categories(
    train: list[Session], vectors: str, others: list[Session] | None = None
) -> tuple[list[Session], list[Session]]:
    """The sessions as they are, or with clusters of the training titles where no item has a category."""
    from understudy.sessions.title_clusters import with_categories

    train, others, clusters = with_categories(train, others or [], how=vectors)
    if clusters:
        typer.echo(f"no item has a category: {len(clusters.names)} clusters of titles stand in")
    return train, others


def _answers(path: Path) -> dict[str, list[str]]:
    """Id -> the answers of a file of predictions."""
    from understudy.data.read import read_source
    from understudy.data.rows import BadRow, lowered, required
    from understudy.errors import DataError

    answers: dict[str, list[str]] = {}
    for row in read_source(str(path)).rows:
        try:
            if row.fault:
                raise BadRow("", row.fault)
            fields = lowered(row)
            answers.setdefault(required(fields, "id"), []).append(str(fields.get("prediction") or ""))
        except BadRow as bad:
            raise DataError(f"{row.where}: {bad}", hint="a row needs id and prediction") from bad
    return answers


# Showing --------------------------------------------------------------------------------------------------------------


def _as_json(pattern: object) -> dict[str, object]:
    from dataclasses import asdict

    return asdict(pattern)  # pyright: ignore[reportArgumentType]


def _prediction(example: Example, answer: str) -> dict[str, object]:
    return {
        "id": example.id,
        "question": example.question,
        "references": list(example.answers),
        "prediction": answer,
    }


def _show(texts: Mapping[str, Sequence[str]], test: Sequence[Example]) -> None:
    from rich.console import Console
    from rich.table import Table

    from understudy.metrics import bootstrap_interval, score

    names = ("bundle_precision", "bundle_recall", "bundle_f1", "bundle_coverage", "bundle_exact")
    table = Table("baseline", *(name.removeprefix("bundle_") for name in names), title=f"{len(test):,} test sessions")
    for baseline, answers in texts.items():
        scores = score(answers, [row.answers for row in test], metrics=names)
        intervals = (bootstrap_interval(scores[name]) for name in names)
        table.add_row(baseline, *(f"{i.value:.3f} [{i.low:.3f}, {i.high:.3f}]" for i in intervals))
    Console().print(table)
