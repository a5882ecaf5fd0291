"""The recipes that come with the package, by name."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from understudy.errors import unknown


def shipped() -> dict[str, Path]:
    """Name to file of every shipped recipe."""
    folder = Path(str(resources.files("understudy") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of a shipped one.

    Raises:
        ConfigError: neither; the nearest shipped name is given.
    """
    if Path(name).is_file():
        return Path(name)
    known = shipped()
    stem = Path(name).name.removesuffix(".yaml")
    if stem in known and (name == stem or not Path(name).parent.is_dir()):
        return known[stem]
    raise unknown("recipe", name, known, hint="a file of your own is named by its path")
