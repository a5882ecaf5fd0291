"""The house has floors: a module imports only lower ones, and neighbours do not import each other."""

import ast
import functools
import graphlib
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "understudy"

# First part of a module's path under `understudy` → its floor; each entry of a floor is a room of its own.
FLOORS = [
    ["bounds", "errors", "types", "strict_json", "normal_form", "distribution"],
    ["files", "records", "bundle_answers", "database"],
    ["extensions"],
    ["arms"],
    ["recipe"],
    ["run", "data", "losses", "metrics"],
    ["tokens", "sessions", "confidence"],
    ["models"],
    ["completers", "teachers"],
    ["knowledge", "training", "evaluation"],
    ["build", "caching"],
    ["report", "web"],
    ["pipeline", "study"],
    ["serve", "deployment"],
    ["monitor"],
    ["grid", "inspection", "api"],
    ["tuning", "pilot", "planning"],
    ["cli"],
    ["__main__"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """Everything in a file."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports(path: Path) -> set[str]:
    """Rooms of `understudy` that a file imports, inside functions too."""
    found = set()
    for node in nodes(path):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {name.split(".")[1] for name in names if name.startswith("understudy.")}
    return {name for name in found if name in FLOOR or (SOURCE / name).exists()}


FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.stem != "__init__")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_lower_floors(path: Path) -> None:
    room = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for other in imports(path):
        assert other == room or FLOOR[other] < FLOOR[room], f"{path.name} ({room}) imports {other}"


def test_every_room_has_a_floor() -> None:
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms <= FLOOR.keys()


LIGHT = ("__init__", "api", "distribution", "errors", "extensions", "files", "run", "strict_json")


def test_light_modules_do_not_import_torch() -> None:
    light = [
        *(SOURCE / "cli").glob("*.py"),
        *(SOURCE / "recipe").glob("*.py"),
        *(SOURCE / f"{name}.py" for name in LIGHT),
    ]
    for path in light:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
                assert not any(n.split(".")[0] in {"torch", "transformers"} for n in names), path


def module_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Imports inside functions count; what a module imports of a package below its own name does not."""
    paths = {module_of(path): path for path in SOURCE.rglob("*.py")}
    graph: dict[str, set[str]] = {}
    for module, path in paths.items():
        names: set[str] = set()
        for node in nodes(path):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        graph[module] = {name for name in names & paths.keys() if name != module and not module.startswith(f"{name}.")}
    # Raises CycleError, which names the circle.
    assert set(graphlib.TopologicalSorter(graph).static_order()) == paths.keys()
