"""The name under which this package is installed: not the one it is imported by, which another project has."""

from __future__ import annotations

from importlib import metadata

NAME = "understudy-distil"
"""The distribution. On the package index `understudy` is another project, for the evaluation of agents."""

IMPORTED_AS = "understudy"
"""The import and the command."""


def install_command(extra: str) -> str:
    """The command that adds an optional extra to this package.

    Args:
        extra: one of `[project.optional-dependencies]` in pyproject.toml.
    """
    return f"pip install '{NAME}[{extra}]'"


def namesake_note() -> str:
    """One line where the other distribution is installed too, empty otherwise.

    Both write into one folder `understudy`, so whichever was installed last has overwritten files of the other. One
    that leaves no files there – an editable install of this project under its former name – does no harm.
    """
    try:
        other = metadata.distribution(IMPORTED_AS)
    except metadata.PackageNotFoundError:
        return ""
    if not any(file.parts[0] == IMPORTED_AS for file in other.files or ()):
        return ""
    return (
        f"note: another package, {IMPORTED_AS} {other.version}, is installed here and overwrites files of this one, "
        f"{NAME}: keep them in two environments, or pip uninstall {IMPORTED_AS} {NAME} and install {NAME} again"
    )
