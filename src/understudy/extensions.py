"""Files of a user's own that add to the registries: divergences, metrics, data layouts, steps, methods, arms, stages.

A recipe names them (`extensions: [mine.py]`), and nothing else is ever run. A file is run once; when its content has
changed, what it had registered goes and it is run again. Two files of one name are two versions of one extension.

A registry is a plain dictionary. Its `register` begins with `claim`, which refuses a name that is taken and writes down
which file a name came from:

```python
def register(name, thing):
    claim("divergence", name, DIVERGENCES)
    DIVERGENCES[name] = thing
```
"""

from __future__ import annotations

import os
import sys
import traceback
import types
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.errors import ConfigError, RunError, UnderstudyError
from understudy.files import fingerprint_file, read_text

Entry = tuple[MutableMapping[str, Any], str]
"""A registry, and a name in it."""


@dataclass(frozen=True)
class Extension:
    """A file as it was run.

    Attributes:
        path: where it stands, from the root.
        fingerprint: of its content.
    """

    path: Path
    fingerprint: str


@dataclass
class _Version:
    """What is registered of a file now."""

    fingerprint: str
    entries: list[Entry] = field(default_factory=list)

    def names(self, registry: MutableMapping[str, Any]) -> list[str]:
        return [name for into, name in self.entries if into is registry]

    def is_whole(self) -> bool:
        return all(name in registry for registry, name in self.entries)

    def withdraw(self) -> None:
        for registry, name in self.entries:
            registry.pop(name, None)


_versions: dict[str, _Version] = {}
_running: list[_Version] = []


def claim(kind: str, name: str, registry: MutableMapping[str, Any]) -> None:
    """Take a name for whoever registers it now.

    Args:
        kind: what the registry holds, as a noun.
        name: the name that something is about to be registered under.
        registry: name → thing.

    Raises:
        ConfigError: the name is taken.
    """
    if name in registry:
        owner = next((f", of {stem}.py" for stem, version in _versions.items() if name in version.names(registry)), "")
        raise ConfigError(f"there is a {kind} {name!r} already{owner}", hint="give yours another name")
    if _running and not _registered_by_package():
        _running[-1].entries.append((registry, name))


def _registered_by_package() -> bool:
    """Whether a module of this package registers: a user's file may be the first to import it."""
    frame = sys._getframe(2)
    registering_module = frame.f_globals.get("__name__")
    while frame.f_back and frame.f_globals.get("__name__") == registering_module:
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")).startswith("understudy.")


def load_all(names: Sequence[str | os.PathLike[str]], where: str = "extensions") -> tuple[Extension, ...]:
    """Run the files that a recipe names, as far as they have not been run already.

    Args:
        names: paths, relative to the current folder.
        where: the field that names them, for messages.

    Raises:
        ConfigError: a file is absent or fails, two of them have one name, or one registers a name that is taken.
    """
    paths = [Path(name).expanduser().absolute() for name in names]
    stems = [path.stem for path in paths]
    if len(set(stems)) < len(stems):
        duplicate = next(stem for stem in stems if stems.count(stem) > 1)
        raise ConfigError(
            f"{where}: two files are called {duplicate}", hint="an extension goes by the name of its file"
        )
    for path, name in zip(paths, names, strict=True):
        if not path.is_file():
            raise ConfigError(f"{where}: no such file: {name}", hint="the path is relative to the current folder")
    return tuple(_load(path, Path(name)) for path, name in zip(paths, names, strict=True))


def load_unchanged(extensions: Iterable[Extension]) -> None:
    """Run files in this process that were run in another one.

    Args:
        extensions: the files as they were run there.

    Raises:
        RunError: a file is gone, or has changed since.
    """
    for extension in extensions:
        if not extension.path.is_file() or fingerprint_file(extension.path) != extension.fingerprint:
            raise RunError(f"{extension.path} changed while it was in use", hint="run the same command again")
        _load(extension.path, extension.path)


def registered_by(extension: Extension, registry: MutableMapping[str, Any]) -> list[str]:
    """The names in a registry that a file has put there."""
    version = _versions.get(extension.path.stem)
    return version.names(registry) if version else []


def _load(path: Path, label: Path) -> Extension:
    extension = Extension(path, fingerprint_file(path))
    before = _versions.get(path.stem)
    if before and before.fingerprint == extension.fingerprint and before.is_whole():
        return extension
    if before:
        before.withdraw()
    version = _versions[path.stem] = _Version(extension.fingerprint)
    try:
        with _registering(version):
            _run(path, label)
    except BaseException:
        version.withdraw()
        del _versions[path.stem]
        raise
    return extension


@contextmanager
def _registering(version: _Version) -> Iterator[None]:
    _running.append(version)
    try:
        yield
    finally:
        _running.pop()


def _run(path: Path, label: Path) -> None:
    """Run a file as a module of its own; whatever it fails with becomes one line."""
    name = f"understudy_own_{path.stem}"
    module = types.ModuleType(name)
    module.__file__ = str(path)
    # Known by its name, as dataclasses of the file want it.
    sys.modules[name] = module
    try:
        # Compiled here: an import would take yesterday's bytecode where a file changes within the second.
        exec(compile(read_text(path), str(path), "exec"), module.__dict__)
    except UnderstudyError as error:
        raise ConfigError(f"{label}: {error.message}", hint=error.hint) from error
    except SyntaxError as error:
        raise _fault(label, error.lineno, error) from error
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        raise _fault(label, lines[-1] if lines else None, error) from error


def _fault(path: Path, line: int | None, error: BaseException) -> ConfigError:
    where = f"{path}:{line}" if line else str(path)
    return ConfigError(f"{where}: {type(error).__name__}: {error}", hint="mend the file, then try again")
