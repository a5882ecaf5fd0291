"""All that is known of a study's answers: ratings, preferences, guesses, raters, and the study they are of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.errors import DataError
from understudy.study.attention import RaterRow
from understudy.study.folder import CONFIG, DATABASE, Study, open_study
from understudy.study.opening import open_store
from understudy.study.ratings import (
    SUFFIXES,
    Preference,
    Ratings,
    read_foresight,
    read_preferences,
    read_ratings,
    read_table,
)

EXPORT, SIMULATED = "export", "simulated"
"""Folders of a study: what was exported, and what simulated raters said."""


@dataclass(frozen=True, eq=False)
class Answers:
    """Answers to analyse.

    Attributes:
        name: what to call them.
        source: where they were read.
        ratings: of explanations; None where there are none.
        foresight: whether answers were foreseen, as ratings of 0 and 1.
        preferences: choices between two.
        raters: name -> row of the table of raters.
        study: the study; None for a table from elsewhere.
        simulated: whether no person gave them.
    """

    name: str
    source: Path
    ratings: Ratings | None = None
    foresight: Ratings | None = None
    preferences: tuple[Preference, ...] = ()
    raters: Mapping[str, RaterRow] = field(default_factory=dict)
    study: Study | None = None
    simulated: bool = False

    @property
    def slots(self) -> dict[str, int]:
        """Rater -> row of the assignment."""
        return {name: row.slot for name, row in self.raters.items() if row.slot is not None}


def read_answers(path: Path, *, simulated: bool = False, columns: Mapping[str, str] | None = None) -> Answers:
    """Answers of a study, of an exported folder, or of a table of ratings.

    Args:
        path: a study's folder, a folder with exported tables, or a file.
        simulated: of a study, those of simulated raters.
        columns: field -> column, of a file of another tool.

    Raises:
        DataError: nothing to analyse is there, or a table is damaged.
    """
    if path.is_file():
        ratings = read_ratings(path, columns)
        return Answers(path.stem, path, ratings, simulated=_says_simulated(path))
    if not path.is_dir():
        raise DataError(f"no such file or folder: {path}", hint="check the path; it is relative to the current folder")
    if (path / CONFIG).is_file():
        study = open_study(path)
        folder = path / (SIMULATED if simulated else EXPORT)
        command = "simulate" if simulated else "export"
        return _of_folder(folder, study, f"understudy study {command} {path}")
    return _of_folder(path, None, f"{path} holds neither {CONFIG} nor ratings.csv")


def refresh(folder: Path, database: str | None = None) -> bool:
    """Export what a study's database holds into its folder `export`; nothing where there is no database.

    Args:
        folder: of the study.
        database: its URL; None: the one beside the study.

    Returns:
        Whether there was a database.

    Raises:
        ConfigError: the packages for databases are not installed, or the URL is wrong.
    """
    if not (folder / CONFIG).is_file() or (database is None and not (folder / DATABASE).is_file()):
        return False
    with open_store(folder, database) as store:
        from understudy.study.export import export  # Only where there is a database, for it needs the extra.

        export(store, folder / EXPORT, "csv")
    return True


def _of_folder(folder: Path, study: Study | None, hint: str) -> Answers:
    tables = {name: file for name in ("ratings", "pairs", "simulation", "raters") if (file := _table(folder, name))}
    if not {"ratings", "pairs", "simulation"} & set(tables):
        raise DataError(f"no answers in {folder}", hint=hint)
    raters = _raters(tables["raters"]) if "raters" in tables else {}
    marked = any(row.simulated for row in raters.values())
    return Answers(
        name=folder.name if study is None else study.config.title[study.config.languages[0]],
        source=folder,
        ratings=read_ratings(tables["ratings"]) if "ratings" in tables else None,
        foresight=read_foresight(tables["simulation"]) if "simulation" in tables else None,
        preferences=read_preferences(tables["pairs"]) if "pairs" in tables else (),
        raters=raters,
        study=study,
        simulated=marked or any(_says_simulated(file) for name, file in tables.items() if name != "raters"),
    )


def _table(folder: Path, name: str) -> Path | None:
    """The table of a name, whatever its format; of several the newest."""
    found = [file for suffix in SUFFIXES if (file := folder / f"{name}{suffix}").is_file()]
    return max(found, key=lambda file: file.stat().st_mtime, default=None)


def _says_simulated(path: Path) -> bool:
    return any(_is_true(row.get(SIMULATED)) for _, row in read_table(path, ()))


def _raters(path: Path) -> dict[str, RaterRow]:
    rows = (row for _, row in read_table(path, ("rater",)))
    return {str(row["rater"]): _rater(row) for row in rows}


def _rater(row: Mapping[str, Any]) -> RaterRow:
    slot, failed = _whole(row.get("slot")), _whole(row.get("attention_failed"))
    return RaterRow(
        rater=str(row["rater"]),
        slot=slot,
        excluded=_is_true(row.get("excluded")),
        reason=str(row.get("reason") or ""),
        attention_failed=failed or 0,
        started=str(row.get("started") or ""),
        finished=str(row.get("finished") or ""),
        simulated=_is_true(row.get(SIMULATED)),
    )


def _whole(value: Any) -> int | None:
    try:
        return int(float(value))
    except (TypeError, ValueError):
        return None


def _is_true(value: Any) -> bool:
    return str(value).strip().lower() in ("true", "1", "1.0", "yes")


def seats_of(study: Study | None) -> tuple[Any, ...] | None:
    """The seats of a study, slots in order; None where there is none."""
    if study is None:
        return None
    return tuple(seat for slot in sorted(study.slots) for seat in study.slots[slot])
