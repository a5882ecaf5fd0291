"""`understudy sessions`: patterns, samples and baselines without a model; a teacher in context; knowledge joined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from understudy.data.sessions import Session
    from understudy.recipe import Recipe
    from understudy.types import Completer, Example, Splits

app = typer.Typer(
    help="Sessions and their bundles: patterns, samples, baselines, answers in context, knowledge.",
    no_args_is_help=True,
)

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
    from understudy.knowledge.session_sample import session_order
    from understudy.sessions.sampling import taken

    splits = _splits(recipe, overrides)
    train = _train_sessions(splits)
    order = session_order(train, sampler, seed=seed, vectors=vectors, answers=answers)
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
    known, asked = _with_categories(_train_sessions(splits), vectors, list(map(session_of, _test_sessions(splits))))
    texts = {
        name: list(map(write_answer, baseline(name, known, asked, seed=seed, support=support, how=vectors)))
        for name in BASELINES
    }
    for name, answers in texts.items():
        write_jsonl(out / f"{name}.jsonl", map(_prediction, splits.test, answers))
    _show(texts, splits.test)
    typer.echo(f"wrote {out}/{{{','.join(texts)}}}.jsonl")


@app.command("answer")
def answer(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    method: Annotated[str, typer.Option("--method", help="plain, nearest or adaptive.")] = "adaptive",
    teacher: Annotated[
        str | None, typer.Option("--teacher", metavar="MODEL", help="Who answers. Default: that of the recipe.")
    ] = None,
    base_url: Annotated[
        str | None, typer.Option("--base-url", help="Its endpoint; without one the model is loaded here.")
    ] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=0, help="Rounds of feedback at most.")] = 4,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Only so many test sessions, the first.")] = None,
    vectors: Vectors = "words",
    out: Annotated[Path, typer.Option("--out", metavar="FILE.jsonl", help="Where the answers go.")] = Path(
        "answers.jsonl"
    ),
) -> None:
    """Have a teacher answer the test sessions in context, the nearest training session as a demonstration.

    Nothing is trained. The true bundles of a test session are not used: feedback on its answer is only what can be told
    without them. The file goes into `understudy compare` beside a run or the baselines.
    """
    from understudy.data.sessions import session_of
    from understudy.files import write_jsonl
    from understudy.knowledge.prompting import Prompts
    from understudy.knowledge.session_answers import Asking, session_answers
    from understudy.knowledge.session_prompts import SessionPrompts
    from understudy.recipe import load_recipe
    from understudy.recipe.shipped import find_recipe

    splits, loaded = _splits(recipe, overrides), load_recipe(find_recipe(recipe), overrides or [])
    test = _test_sessions(splits)[:rows]
    ask = Asking(_teacher(loaded, teacher, base_url), loaded.data.max_answer_tokens, _counter())
    prompts = SessionPrompts(Prompts(loaded.generate.prompts if loaded.generate else None))
    asked = list(map(session_of, test))
    try:
        answers = session_answers(
            method, _train_sessions(splits), asked, ask, prompts=prompts, rounds=rounds, vectors=vectors
        )
    finally:
        refused = "".join(f", {number:,} refused ({kind})" for kind, number in ask.refused.items())
        typer.echo(f"{ask.answered:,} answers of {ask.completer.name}, {ask.tokens:,} tokens{refused}")
    write_jsonl(out, map(_prediction, test, answers))
    _show({method: answers}, test)
    typer.echo(f"wrote {out}")


@app.command("knowledge")
def knowledge(
    folders: Annotated[list[Path], typer.Argument(metavar="FOLDER...", help="Runs, or folders of knowledge.")],
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="patterns, rules or thoughts; may be given several times.")
    ] = None,
    tokens: Annotated[int | None, typer.Option("--tokens", min=1, help="Tokens at most, over all texts.")] = None,
    tokenizer: Annotated[
        str | None, typer.Option("--tokenizer", metavar="MODEL", help="Whose tokens. Default: words and signs.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where it goes.")] = Path("knowledge"),
) -> None:
    """Join what was learned of sessions: domains accumulate, formats add up, each in turn within the budget."""
    from collections import Counter

    from understudy.errors import ConfigError
    from understudy.sessions.joining import FORMATS, joined, knowledge_in, words_and_signs

    count = _token_counter(tokenizer) if tokenizer else words_and_signs
    known = joined(map(knowledge_in, folders), formats or FORMATS, tokens, count)
    if not known.statements and not known.thoughts:
        within = f" within {tokens:,} tokens" if tokens else ""
        raise ConfigError(
            f"there is no text of {', '.join(formats or FORMATS)}{within} in {', '.join(map(str, folders))}",
            hint="raise --tokens, or name other formats or folders",
        )
    known.write(out)
    counts = Counter((text.domain, f"{text.kind}s") for text in known.statements)
    counts += Counter((text.domain, "thoughts") for text in known.thoughts)
    for (domain, form), number in sorted(counts.items()):
        typer.echo(f"{domain or 'all'}: {number:,} {form}")
    total = sum(count(text.text) for text in (*known.statements, *known.thoughts))
    typer.echo(f"{total:,} {'tokens' if tokenizer else 'words and signs'}: {out}")


# Asking ---------------------------------------------------------------------------------------------------------------


def _teacher(recipe: Recipe, model: str | None, base_url: str | None) -> Completer:
    """Who answers: whoever is named, else the teacher of `generate`, else the recipe's own as it came."""
    from understudy.completers.factory import build_completer
    from understudy.errors import ConfigError
    from understudy.files import cache_folder
    from understudy.recipe import EndpointConfig

    config = recipe.generate.teacher if recipe.generate else None
    if model is not None:
        config = EndpointConfig(model=model, base_url=base_url)
    elif config is None and recipe.served_teacher:
        config = recipe.served_teacher.endpoint
    elif config is None and recipe.teacher is not None:
        config = EndpointConfig(model=recipe.local_teacher.model)
    if config is None:
        raise ConfigError("the recipe has no teacher to ask", hint="name one: --teacher MODEL, with --base-url URL")
    return build_completer(config, cache_folder("teacher"), account="sessions answer")


def _counter() -> Callable[[int], None]:
    """Says on a terminal how many answers came."""
    import sys

    def tell(number: int) -> None:
        if sys.stderr.isatty():
            sys.stderr.write(f"\r{number:,} answers ")

    return tell


def _token_counter(model: str) -> Callable[[str], int]:
    from understudy.models.load import load_template
    from understudy.recipe import ModelConfig

    tokenizer = load_template(ModelConfig(model=model)).tokenizer
    return lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])  # pyright: ignore


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


def _test_sessions(splits: Splits) -> tuple[Example, ...]:
    from understudy.errors import DataError

    if not splits.test:
        raise DataError("there are no test sessions to answer", hint="set data.test above 0, or data.test_source")
    return splits.test


def _with_categories(
    train: list[Session], vectors: str, others: list[Session] | None = None
) -> tuple[list[Session], list[Session]]:
    """The sessions as they are, or with clusters of the training titles where no item has a category."""
    from understudy.sessions.title_clusters import with_categories

    train, others, clusters = with_categories(train, others or [], how=vectors)
    if clusters:
        typer.echo(f"no item has a category: {len(clusters.names)} clusters of titles stand in")
    return train, others


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
