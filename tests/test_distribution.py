"""The package as it is installed: its name, what its hints tell people to type, and that it works without the clone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from support.house import environment
from support.installed import ROOT, Installed, build, copy_of_clone
from understudy.distribution import NAME, install_command

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TEXTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "src" / "understudy").rglob("*.py")),
]


def test_the_name_in_the_code_is_the_one_that_is_built() -> None:
    assert PROJECT["name"] == NAME
    assert install_command("zip") == "pip install 'understudy-distil[zip]'"


def test_no_text_has_anybody_install_the_namesake() -> None:
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install (?:-\S+ )*['\"]?understudy(?![-\w/])", text), path
        assert not re.search(r"\bunderstudy\[[a-z]", text), path


def test_every_extra_that_a_text_names_exists() -> None:
    named = set()
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(rf"\b{NAME}\[([a-z-]+)\]", text)) | set(re.findall(r'install_command\("(.+?)"\)', text))
    assert named >= {"zip", "qlora", "ray", "offline", "embedding", "lm-eval"}
    assert named <= PROJECT["optional-dependencies"].keys()


def version_beside(folder: Path, files: str) -> subprocess.CompletedProcess[str]:
    """`understudy --version` where a distribution `understudy` with these files is installed too."""
    info = folder / "understudy-9.9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: understudy\nVersion: 9.9\n")
    (info / "RECORD").write_text(f"{files}\nunderstudy-9.9.dist-info/METADATA,,\nunderstudy-9.9.dist-info/RECORD,,\n")
    paths = os.pathsep.join([str(folder), *sys.path])
    command = [sys.executable, "-m", "understudy", "--version"]
    return subprocess.run(command, env=environment() | {"PYTHONPATH": paths}, capture_output=True, text=True)


def test_where_the_namesake_is_installed_too_one_line_says_so(tmp_path: Path) -> None:
    done = version_beside(tmp_path, "understudy/__init__.py,,\nunderstudy/compare.py,,")
    assert done.returncode == 0
    assert done.stdout.startswith("understudy ")
    [line] = done.stderr.splitlines()
    assert line.startswith("note: another package, understudy 9.9, is installed here")
    assert f"pip uninstall understudy {NAME}" in line


def test_a_distribution_without_files_in_our_folder_is_no_matter(tmp_path: Path) -> None:
    done = version_beside(tmp_path, "__editable__.understudy-9.9.pth,,")
    assert (done.returncode, done.stderr) == (0, "")


# -- built, and installed alone --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Wheel and sdist of the clone."""
    folder = tmp_path_factory.mktemp("build")
    return {kind: build(kind, copy_of_clone(folder / kind), folder / "dist") for kind in ("wheel", "sdist")}


def contents(wheel: Path) -> dict[str, int]:
    """Name and checksum of every file of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {info.filename: info.CRC for info in archive.infolist()}


@pytest.mark.slow
def test_both_carry_all_that_the_clone_has(archives: dict[str, Path], tmp_path: Path) -> None:
    subprocess.run(["tar", "-xf", str(archives["sdist"]), "-C", str(tmp_path)], check=True)
    [unpacked] = tmp_path.iterdir()
    files = contents(archives["wheel"])
    assert files == contents(build("wheel", unpacked, tmp_path / "dist"))
    source = ROOT / "src" / "understudy"
    ours = [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    pages = {f"understudy/docs/{path.name}" for path in (ROOT / "docs").glob("*.md")}
    assert not {str(path.relative_to(source.parent)) for path in ours} - files.keys()
    assert {name for name in files if name.startswith("understudy/docs/")} == pages


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installed_alone_it_runs_the_recipe_of_quickstart(kind: str, archives: dict[str, Path], tmp_path: Path) -> None:
    installed = Installed(archives[kind], tmp_path)
    home = installed.python("import understudy; print(understudy.__file__)").strip()
    assert Path(home).is_relative_to(installed.site)
    # The sdist holds the same files (see above): a few steps show that its install works.
    few = [] if kind == "wheel" else ["data.limit=200", "distil.steps=5", "teacher.sft.steps=5", "evaluate.rows=20"]
    done = installed.call("run", "telecom_qa", *few)
    assert "note: another package" not in done.stderr
    [run] = (tmp_path / "runs").iterdir()
    assert (run / "report.html").stat().st_size > 10_000
    assert (run / "student" / "model.safetensors").is_file()
    opened = f"import pathlib, understudy as u; print(u.Run.open(pathlib.Path({str(run)!r})).recipe.name)"
    assert installed.python(opened).strip() == "telecom-qa"
    assert installed.call("docs", "data").stdout == (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
