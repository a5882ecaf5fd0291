"""What the pages say stays true: links lead somewhere, generated parts and counts are those of the code."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from understudy.arms import trained_arms
from understudy.data.embedded.telecom import generate
from understudy.data.formats import FORMATS
from understudy.losses import DIVERGENCES
from understudy.metrics import METRICS
from understudy.models.load import resolve
from understudy.recipe import METHODS
from understudy.recipe.fields import is_known

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as the usual hosts make them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_relative_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{page.name}: {link}"
        assert ROOT in target.parents, f"{page.name}: {link} leads out of the repository"
        assert not anchor or anchor in anchors(target), f"{page.name}: {link}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    waiting, seen = [ROOT / "README.md"], set()
    while waiting:
        page = waiting.pop()
        seen.add(page)
        for link in LINK.findall(prose(page)):
            target = (page.parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.exists() and target not in seen:
                waiting.append(target)
    assert {page for page in DOCS.glob("*.md") if page.name != "results.md"} <= seen


@pytest.mark.parametrize(
    ("script", "page"),
    [("document_recipe", "docs/recipes.md"), ("document_embedded", "docs/embedded.md"), ("document_tree", "README.md")],
)
def test_generated_parts_are_those_of_today(script: str, page: str) -> None:
    spec = importlib.util.spec_from_file_location(script, ROOT / "scripts" / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    text = (ROOT / page).read_text(encoding="utf-8")
    assert module.updated(text) == text, f"run: python scripts/{script}.py"


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("losses.md", (*DIVERGENCES, *METHODS)),
        ("metrics.md", METRICS),
        ("data.md", FORMATS),
        ("recipes.md", trained_arms()),
        ("evaluation.md", trained_arms()),
    ],
)
def test_a_page_names_all_that_there_is(page: str, names: tuple[str, ...]) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert not [name for name in names if f"`{name}`" not in text]


def test_what_the_readme_says_of_quickstart_is_so() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    notes = generate().notes
    share = f"{notes['gold_facts'] / notes['facts']:.0%}"
    assert f"{share} of the facts are *gold*" in readme
    assert f"{notes['kinds']['test']['two_step']} of them need two" in readme
    assert sum(notes["kinds"]["test"].values()) > 1000


def test_files_named_in_the_tree_exist() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    outer = next(block for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL) if "Makefile" in block)
    for line in outer.splitlines():
        assert (ROOT / line.split()[0]).exists(), line


def test_no_page_names_a_path_of_some_machine() -> None:
    for page in PAGES:
        found = re.findall(r"(?<![\w.])/(?:work|tmp|root|home)/", page.read_text(encoding="utf-8"))
        assert not found, f"{page.name}: {found}"


def test_every_recipe_field_on_the_page_for_users_of_trl_exists() -> None:
    text = re.sub(r"```.*?```", "", (DOCS / "coming-from-trl.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    named = re.findall(r"`((?:data|distil|student|teacher|evaluate|seqkd)\.[a-z_0-9.]+)[`:]", text)
    assert len(set(named)) > 25
    assert not [path for path in named if not is_known(path)]


def test_what_the_readme_says_of_the_weights_types_is_so() -> None:
    """The embedded models load as float16, and AdamW turns that into NaN at its first step; float32 stays finite."""
    for dtype in ("auto", torch.float32):
        model = AutoModelForCausalLM.from_pretrained(resolve("embedded:telecom-student"), dtype=dtype)
        assert model.dtype == (torch.float16 if dtype == "auto" else dtype)
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
        ids = torch.tensor([[5, 6, 7, 8]])
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        assert model.get_output_embeddings().weight.isfinite().all() == (dtype == torch.float32)
