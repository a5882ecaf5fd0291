"""The tables of docs/results.md say what the data beside them say, and the data what their runs give."""

from __future__ import annotations

import copy
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scipy import stats

from understudy.files import read_json
from understudy.grid.analysis import effects
from understudy.grid.means import cell_figures
from understudy.grid.table import TableRow
from understudy.grid.telecom_study import findings, judge_choice
from understudy.metrics.significance import adjusted
from understudy.report.grid_inputs import GridAnalysis
from understudy.report.grid_page import grid_csv
from understudy.report.grid_reading import grid_analysis

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "docs" / "results"
PAGE = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
PROSE = " ".join(PAGE.split())
GRIDS = ("telecom_study", "commonsense_explain")


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "scripts"))
        yield import_module("render_results")


def check(page: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "render_results.py"), "--check", "--page", str(page)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# -- page against data -----------------------------------------------------------------------------------------------


def test_every_table_is_that_of_its_data() -> None:
    outcome = check(ROOT / "docs" / "results.md")
    assert (outcome.returncode, outcome.stderr) == (0, "")


def test_a_figure_that_is_changed_on_the_page_and_a_table_without_data_are_named(
    tmp_path: Path, script: ModuleType
) -> None:
    """The last digit of every table is another one, and a table is added that says of no data."""

    def altered(match: re.Match[str]) -> str:
        head, digit, tail = re.fullmatch(r"(.*)(\d)(\D*)", match[0], re.DOTALL).groups()  # pyright: ignore[reportOptionalMemberAccess]
        return f"{head}{(int(digit) + 1) % 10}{tail}"

    page = tmp_path / "page.md"
    page.write_text(script.MARKED.sub(altered, PAGE) + "\n| a | b |\n|---|---|\n| 1 | 2 |\n", encoding="utf-8")
    outcome = check(page)
    assert outcome.returncode == 1
    names = [f"{match['file']} {match['name']}" for match in script.MARKED.finditer(PAGE)]
    assert len(names) == len(set(names)) == len(script.LINES.findall(PAGE))
    assert outcome.stderr.splitlines() == ["no data: | a | b |", *(f"not what its data say: {name}" for name in names)]


def test_every_table_is_written_again_from_its_data_alone(tmp_path: Path, script: ModuleType) -> None:
    page = tmp_path / "page.md"
    bare = script.MARKED.sub(lambda match: match[0].removesuffix(match["table"]), PAGE)
    assert "\n|" not in bare
    page.write_text(bare, encoding="utf-8")
    command = [sys.executable, str(ROOT / "scripts" / "render_results.py"), "--page", str(page)]
    subprocess.run(command, check=True)
    assert page.read_text(encoding="utf-8") == PAGE


PAGES = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
STATED = sorted(path.name for path in DATA.glob("*.json") if "tables" in read_json(path))


@pytest.mark.parametrize("file", STATED)
def test_no_figure_of_the_data_can_change_without_the_table(file: str, script: ModuleType) -> None:
    document = read_json(DATA / file)
    assert document["made_by"]
    for name, table in document["tables"].items():
        assert f"<!-- table: {file} {name} -->" in PAGES
        lines = script.stated(table)
        for number, row in enumerate(table["rows"]):
            for field, value in row.items():
                other = copy.deepcopy(table)
                other["rows"][number][field] = value + "x" if isinstance(value, str) else 1.01 * value + 1
                assert script.stated(other) != lines, f"{file} {name}: {row} prints no {field}"


SHOWN = {
    "telecom_study": ("exact_match", "rougeL", "bleu", "chrf", "bertscore_f1", "answer_similarity"),
    "commonsense_explain": ("exact_match", "choice_accuracy"),
}
BOUNDED = ("rougeL", "choice_accuracy")


@pytest.mark.parametrize("name", GRIDS)
def test_no_figure_of_a_grid_can_change_without_its_table(name: str, script: ModuleType) -> None:
    document = read_json(DATA / f"{name}.json")
    compute = script.COMPUTED[f"{name}.json"]
    lines = compute(document, "cells")
    entries = [*document["cells"], *document["references"]]
    assert len(lines) == 2 + len(entries) == 2 + len(document["cells"]) + 3
    for entry in entries:
        for metric in SHOWN[name]:
            bounds = ("low", "high") if metric in BOUNDED and entry in document["cells"] else ()
            for part in ("mean", *bounds):
                figures = entry["metrics"][metric]
                before = figures[part]
                figures[part] = 1.1 * before + 0.002 * document["metrics"][metric]["maximum"]
                changed = sum(a != b for a, b in zip(lines, compute(document, "cells"), strict=True))
                assert changed == 1, (entry, metric, part)
                figures[part] = before


def test_the_tables_of_five_seeds_have_their_title_and_the_readme_their_means(script: ModuleType) -> None:
    texts = script.tables(read_json(DATA / "telecom_qa_seeds.json"), "exact_match")
    on_page = [
        title for title in texts if f"{title}\n\n<!-- table: telecom_qa_seeds.json {title.split('**')[1]} -->" in PAGE
    ]
    assert len(on_page) == PAGE.count("telecom_qa_seeds.json") - 3
    mean = [cell.split(" ±")[0] for cell in texts[on_page[0]].splitlines()[-1].strip("| ").split(" | ")[1:]]
    order = [script.ARMS.index(arm) for arm in ("teacher", "base_student", "sft", "kd_gold", "seqkd", "distilled")]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"| {' | '.join(mean[place] for place in order)} |" in readme


# -- data against their own computation ------------------------------------------------------------------------------


def saved(name: str) -> GridAnalysis:
    return grid_analysis(read_json(DATA / f"{name}.json"))


def runs_of(analysis: GridAnalysis) -> list[TableRow]:
    """One row a run, from the figures of single seeds."""
    return [
        TableRow(cell.levels, seed, analysis.arm, {m: mean.values[n] for m, mean in cell.metrics.items()}, Path(), None)
        for cell in analysis.cells
        for n, seed in enumerate(cell.seeds)
    ]


def close(a: Any, b: Any) -> bool:
    """Equal but for the last digits of floats; p-values near the smallest that are computed may differ by more."""
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(close(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(close, a, b))
    return a == (pytest.approx(b, rel=1e-6, abs=1e-12) if isinstance(b, float) else b)


@pytest.mark.parametrize("name", GRIDS)
def test_means_effects_and_csv_of_a_grid_follow_from_its_runs(name: str) -> None:
    analysis = saved(name)
    rows, metrics = runs_of(analysis), list(analysis.metrics)
    again = cell_figures(rows, metrics, analysis.settings.confidence)
    assert close([cell.to_dict() for cell in again], [cell.to_dict() for cell in analysis.cells])
    # Tukey's distribution takes long: two metrics stand for all, and Holm is checked by itself.
    for metric, found in effects(rows, metrics[:2]).items():
        stated, again = analysis.anova[metric].anova, found.anova
        assert stated is not None
        assert again is not None
        assert close(again.to_dict(), stated.to_dict()), metric
    terms = {
        (metric, term.name): (term.p_value, found.p_holm[term.name])
        for metric, found in analysis.anova.items()
        if found.anova
        for term in found.anova.terms
    }
    assert close(adjusted({key: p for key, (p, _) in terms.items()}), {key: holm for key, (_, holm) in terms.items()})
    assert (DATA / f"{name}.csv").read_text(encoding="utf-8") == grid_csv(analysis)


def test_the_findings_of_the_study_follow_from_its_runs() -> None:
    """(a), (b), (c) from the runs, on two metrics; Holm over the p-values of all; (d) from its counts."""
    analysis = saved("telecom_study")
    facts = {name: analysis.metrics[name] for name in ("rougeL", "bleu")}
    *found, _ = findings(runs_of(analysis), facts, (), analysis.settings.alpha)
    *stated, of_loss = analysis.findings
    for again, finding in zip(found, stated, strict=True):
        rows = {(row.what, row.metric): (row.difference, row.p) for row in finding.rows if row.metric in facts}
        assert len(rows) == len(again.rows)
        for row in again.rows:
            assert close(rows[row.what, row.metric], (row.difference, row.p)), (finding.finding, row)
        parts = [[row for row in finding.rows if (row.what == "interaction") == part] for part in (True, False)]
        for part in parts:
            p_holm = adjusted({n: row.p for n, row in enumerate(part) if row.p is not None})
            assert close([p_holm[n] for n in range(len(part))], [row.p_holm for row in part])
    assert of_loss.counts is not None
    assert of_loss.rows[0].difference is not None
    again = judge_choice(of_loss.counts, of_loss.rows[0].difference, analysis.settings.alpha)
    assert close(again.to_dict(), of_loss.to_dict())
    assert of_loss.counts.blind == (pytest.approx(2 / 3),) * 48
    against_half = stats.binom.cdf(of_loss.counts.missed, of_loss.counts.runs, 0.5)
    assert f"first tested against misses in half of the runs (p = {against_half:.3f} for fewer)" in PROSE


# -- sentences -------------------------------------------------------------------------------------------------------


def test_the_sentences_about_the_study_say_what_its_data_say() -> None:
    document = read_json(DATA / "telecom_study.json")
    terms = {term["name"]: term for term in document["anova"]["rougeL"]["terms"]}
    size = {name: f"{term['partial_omega_squared']:.2f}" for name, term in terms.items()}
    assert (
        f"What moves ROUGE-L: SFT of the teacher (partial ω² {size['teacher.sft']}), "
        f"vocabulary ({size['vocabulary']}), algorithm ({size['algorithm']}), "
        f"teacher SFT × vocabulary ({size['teacher.sft × vocabulary']}), "
        f"teacher SFT × algorithm ({size['teacher.sft × algorithm']})."
    ) in PROSE
    student = terms["student.sft"]
    [pair] = [pair for pair in document["anova"]["rougeL"]["tukey"] if pair["factor"] == "student.sft"]
    assert (pair["a"], f"{-100 * pair['difference']:+.1f}") == ("false", "+1.0")
    assert (
        f"(+1.0, p = {student['p_value']:.3f} before Holm over all terms of all metrics, {student['p_holm']:.0f} after;"
        in PROSE
    )
    of_student = {
        metric: next(term["p_holm"] for term in anova["terms"] if term["name"] == "student.sft")
        for metric, anova in document["anova"].items()
    }
    assert [metric for metric, p_holm in of_student.items() if p_holm < 0.05] == ["bleu"]
    assert f"only BLEU stays, p = {of_student['bleu']:.2f}" in PROSE
    anova = document["anova"]["rougeL"]
    assert (
        f"(Shapiro and Wilk p = {anova['shapiro_p']:.2f}), spreads equal (Levene p = {anova['levene_p']:.2f})" in PROSE
    )


def test_kd_stands_above_dskd_as_the_page_says() -> None:
    document = read_json(DATA / "telecom_study.json")
    ahead = {
        metric: [
            test["p_holm"]
            for test in document["tests"]
            if (test["axis"], test["metric"]) == ("algorithm", metric) and test["difference"] < 0
        ]
        for metric in ("exact_match", "rougeL", "bleu")
    }
    assert {metric: len(p_values) for metric, p_values in ahead.items()} == {"exact_match": 8, "rougeL": 8, "bleu": 7}
    assert [sum(p < 0.05 for p in ahead[metric]) for metric in ("exact_match", "rougeL")] == [6, 7]
    assert "significant in six and in seven of them, Holm over 288 tests) and in seven of eight on BLEU" in PROSE
    assert len(document["tests"]) == 288


def test_the_cells_below_the_majority_answer_are_those_that_the_page_names() -> None:
    analysis = saved("telecom_study")
    [majority] = [one for one in analysis.references if one.arm == "majority"]
    shown = ("exact_match", "rougeL", "bleu", "chrf", "bertscore_f1", "answer_similarity")
    below = {
        metric: [cell.levels for cell in analysis.cells if cell.metrics[metric].mean < majority.metrics[metric].mean]
        for metric in shown
    }
    untuned = [cell.levels for cell in analysis.cells if cell.levels["teacher.sft"] == "false"]
    other = [
        cell.levels
        for cell in analysis.cells
        if (cell.levels["teacher.sft"], cell.levels["vocabulary"]) == ("true", "different")
    ]
    assert (len(untuned), len(other)) == (8, 4)
    assert all(levels in below[metric] for metric in shown for levels in untuned)
    assert [metric for metric in shown if all(levels in below[metric] for levels in other)] == [
        *("rougeL", "bleu", "chrf", "answer_similarity")
    ]
    assert (
        "so do the four of another vocabulary under a fine-tuned teacher on ROUGE-L, BLEU, chrF and answer similarity"
    ) in PROSE


def test_the_sentences_about_explanations_say_what_their_data_say() -> None:
    document = read_json(DATA / "commonsense_explain.json")
    anova = document["anova"]["exact_match"]
    [term] = anova["terms"]
    assert term["p_holm"] < 0.001
    assert (
        f"F = {term['f']:.0f}, p < 0.001 after Holm, partial ω² {term['partial_omega_squared']:.2f}; Levene "
        f"p = {anova['levene_p']:.2f}, Shapiro and Wilk p = {anova['shapiro_p']:.2f}"
    ) in PROSE
    tukey = {(pair["a"], pair["b"]): pair for pair in anova["tukey"]}
    tukey |= {(b, a): {**pair, "difference": -pair["difference"]} for (a, b), pair in tukey.items()}

    def against(a: str, b: str, places: int = 3) -> str:
        return f"{100 * tukey[a, b]['difference']:+.1f}, p = {tukey[a, b]['p_value']:.{places}f}".replace("-", "−")

    assert f"MT stands above MT+CF ({against('MT', 'MT+CF')}) and above CF (" in PROSE
    assert f"MT cannot be told from it ({against('MT', 'answer-only', 2)})" in PROSE
    assert f"No method can be told from its revised twin except CF ({against('CF revised', 'CF')})" in PROSE
    assert all(tukey[name, f"{name} revised"]["p_value"] > 0.05 for name in ("MT", "MT+CF"))


def test_the_figures_of_fitting_and_of_large_tokenizers_are_those_of_their_data() -> None:
    fitting = read_json(DATA / "context_fitting.json")
    both = {
        name: [" and ".join(f"{run[key]:.1f}" for run in fitting[side]["runs"]) for side in ("before", "after")]
        for name, key in (("fit", "fitting_cpu_seconds"), ("run", "run_cpu_seconds"))
    }
    assert {run["calls"] for side in ("before", "after") for run in fitting[side]["runs"]} == {6315}
    assert f"fitting took {both['fit'][0]} seconds before (commit {fitting['before']['commit']})" in PROSE
    assert f"and takes {both['fit'][1]} now; the whole run took {both['run'][0]}, and takes {both['run'][1]}." in PROSE
    seconds = [run["seconds"] for run in read_json(DATA / "large_tokenizers.json")["runs"]]
    reading, comparing, doctor = (
        " and ".join(f"{run[what]['cpu']:.1f}" for run in seconds) for what in ("reading", "comparing", "doctor")
    )
    together = " and ".join(f"{run['reading']['cpu'] + run['comparing']['cpu']:.1f}" for run in seconds)
    assert f"Reading both takes {reading} seconds, comparing them {comparing}: {together} together" in PROSE
    assert f"`understudy doctor` takes {doctor} from its start" in PROSE
    assert all(run["reading_again"]["cpu"] == 0 for run in seconds)
