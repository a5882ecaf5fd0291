"""Systems to measure: the arms of runs, or files of predictions from any tool, each with a name of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from understudy.arms import FIRST_OPTION, MAJORITY, main_arm
from understudy.errors import ConfigError, DataError, listed
from understudy.evaluation.answer_tables import Item, check_columns
from understudy.evaluation.given_answers import given_answers
from understudy.evaluation.majority import first_option_baseline, majority_baseline
from understudy.evaluation.prediction_files import FileOptions, PredictionTable, read_predictions
from understudy.files import fingerprint, read_jsonl
from understudy.recipe import Recipe
from understudy.records import Prediction
from understudy.run import Run
from understudy.tokens.thoughts import without_thought

ANSWERABLE = "answerable"
"""The field by which questions that the context answers are told from those that it leaves open."""


@dataclass(frozen=True)
class System:
    """One system's predictions.

    Attributes:
        name: what it is called in print, unique among those compared.
        rows: its predictions, one an item.
        origin: the run folder or file that they come from.
        arm: which arm of a run; empty for a file.
        like: for an arm that the recipe declares itself, the declared arm that it is like; else empty.
        recipe: name of the run's recipe.
        has_ids: whether items go by names of their own; else they are paired by their order.
        seed: the training seed, where a recipe tells it.
        family: fingerprint of the recipe without its seed, and the arm: runs that differ only in seed share it.
        notes: what a reader has to know of these predictions, in words.
        fields: field of the data → id of an item → its value there; of a run whose recipe names some.
    """

    name: str
    rows: Sequence[Prediction]
    origin: str
    arm: str = ""
    like: str = ""
    recipe: str = ""
    has_ids: bool = True
    seed: int | None = None
    family: str = ""
    notes: tuple[str, ...] = ()
    fields: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read_systems(
    sources: Sequence[str],
    *,
    arm: str | None = None,
    references: Sequence[str | Path] = (),
    options: FileOptions | None = None,
) -> list[System]:
    """Read everything that is to be measured.

    Args:
        sources: run folders, `RUN:arm`, or files of predictions. One run folder alone gives all its arms.
        arm: which arm to take of every run that names none; default: `distilled` (else `explained`), or all where
            there is one run, or where all runs share one recipe but for the seed.
        references: right answers, for files that hold none.
        options: how files are read; its own references come behind `references`.

    Raises:
        ConfigError: no such file or run, a run without that arm, or references for a run.
        DataError: a file cannot be read.
    """
    systems: list[System] = []
    runs = [source for source in sources if run_of(source)[0] is not None]
    options = options or FileOptions()
    options = replace(options, references=(*references, *options.references))
    if options.references and runs:
        raise ConfigError("--references is for files of predictions", hint="a run holds its own right answers")
    if options.final_answer and runs:
        raise ConfigError(
            "--final-answer is for files of predictions", hint="give the run's predictions.jsonl, if that is meant"
        )
    present: set[str] = set()
    for source in sources:
        run, source_arm = run_of(source)
        if run is None:
            table = _file(source, options)
            present |= table.columns
            systems += _file_systems(source, table, options)
        else:
            systems += run_systems(run, source_arm or arm)
    check_columns(options.data.columns_of("test"), present)
    if arm is None and len(runs) > 1 and not _same_but_for_the_seed(systems):
        with_arm = {str(run_of(source)[0].folder) for source in runs if run_of(source)[1]}  # pyright: ignore
        main = {
            origin: main_arm({s.arm for s in systems if s.origin == origin}) for origin in {s.origin for s in systems}
        }
        systems = [s for s in systems if not s.arm or s.origin in with_arm or s.arm == main[s.origin]]
        silent = [str(run.folder) for source in runs if (run := run_of(source)[0]) and not _has_system_of(systems, run)]
        if silent:
            raise ConfigError(
                f"{silent[0]} has neither an arm `distilled` nor `explained`",
                hint="say which one to take: RUN:arm, or --arm",
            )
    return _with_names(systems)


def _has_system_of(systems: Sequence[System], run: Run) -> bool:
    return any(system.origin == str(run.folder) for system in systems)


def _same_but_for_the_seed(systems: Sequence[System]) -> bool:
    """Whether all are arms of one recipe, run with different seeds."""
    recipes = {system.family.split("/")[0] for system in systems}
    return len(recipes) == 1 and "" not in recipes


def run_of(source: str) -> tuple[Run | None, str | None]:
    """The run that a source names, and its arm; (None, None) for a file."""
    folder, colon, arm = source.rpartition(":")
    if (Path(source) / "recipe.yaml").is_file():
        return Run.open(Path(source)), None
    if colon and (Path(folder) / "recipe.yaml").is_file():
        return Run.open(Path(folder)), arm
    return None, None


# Runs -----------------------------------------------------------------------------------------------------------------


def run_arms(run: Run) -> dict[str, list[Prediction]]:
    """Predictions of each arm that was answered, behind them the majority baseline, and the first option where it pays.

    Raises:
        ConfigError: no arm was answered yet.
    """
    arms = {arm: run.predictions(arm) for arm in run.recipe.answering_arms if run.predictions_path(arm).is_file()}
    if not arms:
        raise ConfigError(
            f"{run.folder} holds no predictions yet", hint="call `understudy run` with its recipe until it is done"
        )
    test = next(iter(arms.values()))
    classes = {row["id"]: _class(row) for row in read_jsonl(run.folder / "data" / "test.jsonl")}
    train = read_jsonl(run.folder / "data" / "train.jsonl")
    gold = [(_class(row), without_thought(row["answers"][0]) or row["answers"][0]) for row in train if row["answers"]]
    arms[MAJORITY.name] = majority_baseline(gold, test, classes)
    if first_option := first_option_baseline(test):
        arms[FIRST_OPTION.name] = first_option
    return arms


def _class(row: Mapping[str, Any]) -> str:
    """What the majority baseline may know of a question: its relation or category, nothing else."""
    meta = row.get("meta", {})
    return str(meta.get("relation") or meta.get("category") or meta.get("kind") or "all")


def family(recipe: Recipe) -> str:
    """A fingerprint that runs share which differ only in name and training seed."""
    return fingerprint({key: value for key, value in recipe.identity().items() if key not in ("seed", "name")})


def run_systems(run: Run, arm: str | None = None) -> list[System]:
    """The arms of a run, or one of them, under their own names.

    Raises:
        ConfigError: no arm was answered yet, or not this one.
    """
    arms, recipe = run_arms(run), run.recipe
    if arm is not None and arm not in arms:
        raise ConfigError(f"{run.folder} has no arm {arm!r}", hint=f"it has: {listed(arms)}")
    fields, notes = _fields(run, recipe.evaluate.slices)
    return [
        System(
            fields=fields,
            notes=notes if name == next(iter(arms)) else (),
            name=name,
            rows=rows,
            origin=str(run.folder),
            arm=name,
            like=recipe.likes.get(name, ""),
            recipe=recipe.name,
            seed=recipe.seed,
            family=f"{family(recipe)}/{name}",
        )
        for name, rows in arms.items()
        if arm in (None, name)
    ]


def _fields(run: Run, names: Sequence[str]) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """Field → item → value, of the test rows that have it; and of a field that none has, that there is none."""
    if not names:
        return {}, ()
    rows = read_jsonl(run.folder / "data" / "test.jsonl")
    fields = {name: {row["id"]: v for row in rows if (v := _value(row.get("meta") or {}, name))} for name in names}
    known = sorted({key for row in rows for key in row.get("meta") or {}})
    notes = tuple(
        f"evaluate.slices: no test row has a field {name!r}; there are: {listed(known)}"
        for name, values in fields.items()
        if not values
    )
    return fields, notes


def _value(meta: Mapping[str, Any], name: str) -> str:
    if name == ANSWERABLE and name not in meta:
        return "unanswerable" if meta.get("impossible") else "answerable"
    value = meta.get(name)
    return "" if value is None or isinstance(value, list | dict) else " ".join(str(value).split())


# Files ----------------------------------------------------------------------------------------------------------------


def _file(source: str, options: FileOptions) -> PredictionTable:
    path = Path(source)
    if path.is_dir():
        raise ConfigError(
            f"{source} is no run folder", hint="give a folder that `understudy run` printed, or a file of predictions"
        )
    if not path.is_file():
        raise ConfigError(f"no such run or file: {source}", hint="check the path; it is relative to the current folder")
    return read_predictions(path, options=options)


def _file_systems(source: str, table: PredictionTable, options: FileOptions) -> list[System]:
    items: dict[str, list[Item]] = {}
    for item in table.items:
        items.setdefault(item.system or Path(source).stem, []).append(item)
    systems = []
    for name, own in items.items():
        answered, notes = given_answers(name, own, options.final_answer)
        rows = [item.record() for item in answered]
        if not table.has_ids:
            rows = [replace(row, id=str(number)) for number, row in enumerate(rows, start=1)]
        all_notes = (*(() if systems else table.notes), *notes)
        systems.append(System(name, rows, source, has_ids=table.has_ids, notes=all_notes))
    return systems


# Names and pairs ------------------------------------------------------------------------------------------------------


def _with_names(systems: list[System]) -> list[System]:
    """Give every system the shortest name that is its own; runs of one recipe with other seeds keep one name.

    Raises:
        ConfigError: something is given twice.
    """
    for source, count in Counter((system.origin, system.arm or system.name) for system in systems).items():
        if count > 1:
            raise ConfigError(f"{source[0]} is given twice" + (f" ({source[1]})" if source[1] else ""))
    seeds = Counter((system.family, system.seed) for system in systems if system.family)
    if any(count > 1 for count in seeds.values()):
        raise ConfigError("two of these runs have the same recipe and the same seed", hint="one of them is enough")
    folders: dict[str, str] = {}
    for system in systems:
        folders.setdefault(system.family, Path(system.origin).name)
    several_recipes = len({system.family.split("/")[0] for system in systems if system.family}) > 1
    names: list[str] = []
    for level in range(1 if several_recipes else 0, 4):
        names = [_label(system, level, folders[system.family]) for system in systems]
        owners: dict[str, set[str]] = {}
        for name, system in zip(names, systems, strict=True):
            owners.setdefault(name, set()).add(system.family or f"{system.origin}/{system.name}")
        if all(len(families) == 1 for families in owners.values()):
            break
    return [replace(system, name=name) for system, name in zip(systems, names, strict=True)]


def _label(system: System, level: int, folder: str) -> str:
    if system.arm:
        return (
            system.arm,
            f"{system.recipe}:{system.arm}",
            f"{folder}:{system.arm}",
            f"{system.origin}:{system.arm}",
        )[level]
    path = Path(system.origin)
    parent = path.parent.name or "."
    short = f"{parent}/{path.stem}" if system.name == path.stem else f"{path.stem}/{system.name}"
    return (system.name, system.name, short, f"{system.origin}: {system.name}")[level]


def same_items(systems: Sequence[System]) -> list[System]:
    """The systems with their rows under one set of ids, so that each item of one has its pair in the others.

    Items go by id where all systems have ids, else by their order, if the right answers agree throughout.

    Raises:
        DataError: neither is possible.
    """
    if all(system.has_ids for system in systems):
        return list(systems)
    base = next((system for system in systems if system.has_ids), systems[0])
    paired = []
    for system in systems:
        if len(system.rows) != len(base.rows):
            raise DataError(
                f"{base.name} has {len(base.rows)} items and {system.name} {len(system.rows)}, and not both have ids",
                hint="give both files a column `id`, or the same items in the same order",
            )
        for number, (row, base_row) in enumerate(zip(system.rows, base.rows, strict=True), start=1):
            if sorted(row.references) != sorted(base_row.references):
                raise DataError(
                    f"cannot pair {base.name} with {system.name}: the right answers of row {number} differ, and not "
                    "both have ids",
                    hint="give both files a column `id`, or the same items in the same order",
                )
        rows = [replace(row, id=base_row.id) for row, base_row in zip(system.rows, base.rows, strict=True)]
        paired.append(replace(system, rows=rows))
    return paired
