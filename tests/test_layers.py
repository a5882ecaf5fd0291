"""The house has floors: a module imports only lower ones, and neighbours do not import each other."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "understudy"

# First part of a module's path under `understudy` → its floor; each entry of a floor is a room of its own.
FLOORS = [
    ["arms", "errors", "files", "extensions", "records", "types"],
    ["recipe"],
    ["run", "data", "losses", "metrics"],
    ["tokens"],
    ["models"],
    ["completers", "teachers"],
    ["knowledge", "training", "evaluation"],
    ["build"],
    ["report"],
    ["pipeline", "study", "serve"],
    ["grid", "inspection", "api"],
    ["cli"],
    ["__main__"],
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
# files.py raises errors.py; both are ground floor and belong to each other.
GROUND = ("arms", "errors", "files", "extensions", "records", "types")
SAME_ROOM = dict.fromkeys(GROUND, "ground")


def imports(path: Path) -> set[str]:
    """Rooms of `understudy` that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
        same = other == room or SAME_ROOM.get(other, other) == SAME_ROOM.get(room, room)
        assert same or FLOOR[other] < FLOOR[room], f"{path.name} ({room}) imports {other}"


def test_every_room_has_a_floor() -> None:
    rooms = {path.relative_to(SOURCE).parts[0].removesuffix(".py") for path in FILES}
    assert rooms <= FLOOR.keys()


LIGHT = ("__init__", "api", "errors", "extensions", "files", "run")


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
