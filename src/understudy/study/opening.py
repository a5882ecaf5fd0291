"""A study with its database open, or a line that says which package that takes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from understudy.distribution import install_command
from understudy.errors import ConfigError
from understudy.study.folder import open_study

if TYPE_CHECKING:
    from understudy.study.store import Store


@contextmanager
def open_store(folder: Path, database: str | None) -> Iterator[Store]:
    """The raters of a study, while its database is open.

    Args:
        folder: of the study.
        database: as `--database`; None: what the environment names, else SQLite in the folder.

    Raises:
        ConfigError: the packages for databases are not installed, or the URL is wrong.
    """
    try:
        from understudy.study.database import open_database
        from understudy.study.store import Store
    except ModuleNotFoundError as error:
        raise ConfigError(f"the study needs the package {error.name}", hint=install_command("study")) from error
    study = open_study(folder)
    base = open_database(study, database)
    try:
        yield Store(study, base)
    finally:
        base.close()
