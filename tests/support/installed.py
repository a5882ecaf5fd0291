"""The package as a user installs it: built from the clone, alone in a fresh environment, away from the clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from support.house import environment

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ("src", "docs", "pyproject.toml", "README.md", "LICENSE")
_BUILD = "import sys, setuptools.build_meta as b; print(getattr(b, 'build_' + sys.argv[1])(sys.argv[2]))"


def build(kind: str, sources: Path, folder: Path) -> Path:
    """The `wheel` or the `sdist` of a source folder."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", _BUILD, kind, str(folder)]
    done = subprocess.run(command, cwd=sources, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.splitlines()[-1]


def copy_of_clone(folder: Path) -> Path:
    """What a build reads, in a folder of its own: building leaves files behind."""
    folder.mkdir()
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(source, folder / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(source, folder / name)
    return folder


class Installed:
    """A fresh environment that holds the package and what it declares as its dependencies, and nothing else."""

    def __init__(self, archive: Path, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "venv" / "bin"
        venv.create(folder / "venv", with_pip=False)
        [self.site] = (folder / "venv" / "lib").glob("python*/site-packages")
        installer = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", "--quiet"]
        # setuptools of this environment builds an sdist; of the dependencies, see below.
        self._call([*installer, "--no-deps", "--no-build-isolation", str(archive)], PYTHONPATH=_home_of("setuptools"))
        self._link(_needed(self._requirements()))

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `understudy` in the folder, away from the clone."""
        return self._call([str(self.bin / "understudy"), *arguments])

    def python(self, program: str) -> str:
        """What a program prints."""
        return self._call([str(self.bin / "python"), "-c", program]).stdout

    def _call(self, command: list[str], **settings: str) -> subprocess.CompletedProcess[str]:
        variables = {name: value for name, value in environment().items() if name != "PYTHONPATH"} | settings
        done = subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done

    def _requirements(self) -> list[str]:
        [own] = metadata.distributions(path=[str(self.site)])
        return own.requires or []

    def _link(self, names: set[str]) -> None:
        """Put the dependencies there as links; downloading a gigabyte would test no more."""
        for name in names:
            for file in metadata.distribution(name).files or ():
                entry = self.site / file.parts[0]
                if file.parts[0] != ".." and not os.path.lexists(entry):
                    entry.symlink_to(Path(str(metadata.distribution(name).locate_file(file.parts[0]))))


def _home_of(name: str) -> str:
    return str(metadata.distribution(name).locate_file(""))


def _needed(requirements: list[str]) -> set[str]:
    """Distributions that the requirements bring, and theirs, as pip would choose them."""
    names: set[str] = set()
    seen: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = re.sub(r"[-_.]+", "-", requirement.name).lower()
        for wanted in ("", *requirement.extras):
            if (name, wanted) not in seen:
                seen.add((name, wanted))
                names.add(name)
                waiting += [(Requirement(text), wanted) for text in metadata.distribution(name).requires or ()]
    return names
