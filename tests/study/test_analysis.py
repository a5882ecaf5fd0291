"""From raters' answers to a page: what was planted is found, and nothing else."""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest

from support.studies import METHODS, make_study
from understudy.errors import ConfigError, DataError
from understudy.study.analysis import analyse
from understudy.study.answers import SIMULATED, read_answers
from understudy.study.findings import StudyAnalysis
from understudy.study.folder import Study
from understudy.study.options import AnalysisOptions
from understudy.study.page import render_study
from understudy.study.simulated import Bias, parse_effects, simulate

QUICK = AnalysisOptions(draws=1200, resamples=200)


def simulated(study: Study, *effects: str, seed: int = 0, **bias: float) -> StudyAnalysis:
    simulate(study, Bias(parse_effects(effects, study), **bias), seed, study.folder / SIMULATED)
    return analyse(read_answers(study.folder, simulated=True), QUICK)


def rows_of(study: Study, name: str) -> list[dict[str, str]]:
    with (study.folder / SIMULATED / f"{name}.csv").open(newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    folder = tmp_path_factory.mktemp("study")
    return make_study(folder, items=20, raters=32, per_rater=10, languages=("en",), selection="disagreement")


@pytest.fixture(scope="module")
def planted(study: Study) -> StudyAnalysis:
    return simulated(study, "MT+CF revised=0.6", "CF:contrastiveness=-0.8", inattentive=0.1, unfinished=0.1)


def test_what_was_planted_is_found_and_nothing_else(planted: StudyAnalysis) -> None:
    """Revised above all others in everything; CF below MT and MT+CF in contrastiveness, and so in quality a little."""
    assert planted.main is not None
    found = {(pair.outcome, frozenset((pair.a, pair.b))): pair.better for pair in planted.main.pairs}
    revised = {key: better for key, better in found.items() if "MT+CF revised" in key[1]}
    assert set(revised.values()) <= {"MT+CF revised", None}
    assert sum(better is not None for better in revised.values()) >= 15
    for other in ("MT", "MT+CF"):
        assert found["contrastiveness", frozenset(("CF", other))] == other
    rest = [key for key in found if key not in revised and key[0] not in ("contrastiveness", "quality")]
    assert [found[key] for key in rest] == [None] * len(rest) == [None] * 12
    assert found["contrastiveness", frozenset(("MT", "MT+CF"))] is None


def test_estimates_lie_by_what_was_planted(planted: StudyAnalysis) -> None:
    assert planted.main is not None
    for pair in planted.main.pairs:
        if (pair.a, pair.b) == ("MT", "MT+CF revised"):
            assert pair.model is not None
            assert pair.length_free is not None
            assert pair.model.low - 0.15 < -0.6 < pair.model.high + 0.15
            assert pair.difference == pytest.approx(pair.model.value, abs=0.05)
            assert pair.length_free.low < pair.model.value < pair.length_free.high
            assert pair.effect.value < 0.5
    assert planted.main.cronbach > 0.7
    quality = planted.main.outcome("quality")
    assert quality.rater_icc.low < 0.35 < quality.rater_icc.high + 0.2
    assert abs(quality.text_icc.value) < 0.2  # the texts themselves were given nothing


def test_those_who_do_not_attend_are_left_out_by_the_stated_rules_and_shown_both_ways(
    study: Study, planted: StudyAnalysis
) -> None:
    raters = rows_of(study, "raters")
    lazy = {row["rater"] for row in raters if int(row["attention_failed"])}
    assert lazy
    assert set(planted.attention.left_out) == lazy
    assert planted.attention.constant >= len(lazy)
    assert planted.main is not None
    assert planted.other is not None
    assert (planted.main.raters, planted.other.raters) == (32 - len(lazy), 32)


def test_items_of_strata_have_weighted_means_besides(study: Study, planted: StudyAnalysis) -> None:
    """Σwy/Σw of the rows, by hand."""
    rows = rows_of(study, "ratings")
    kept = [row for row in rows if row["rater"] not in planted.attention.left_out]
    mine = [row for row in kept if (row["method"], row["construct"]) == ("MT", "plausibility")]
    weights = np.array([study.items[row["item"]].weight for row in mine])
    ratings = np.array([float(row["rating"]) for row in mine])
    assert planted.main is not None
    found = planted.main.mean("MT", "plausibility")
    assert found.mean.value == pytest.approx(ratings.mean())
    assert found.weighted is not None
    assert found.weighted.value == pytest.approx((weights * ratings).sum() / weights.sum())
    assert sum(found.counts.values()) == len(mine)
    accuracy = planted.accuracies[0]
    assert (accuracy.source, accuracy.accuracy.n) == ("run", 40)


def test_nothing_planted_nothing_found_and_length_is_told_from_the_method(tmp_path: Path) -> None:
    study = make_study(tmp_path, items=20, raters=24, per_rater=10, languages=("en",))
    none = simulated(study, seed=5)
    assert none.main is not None
    assert [pair.better for pair in none.main.pairs] == [None] * 36
    long = simulated(study, seed=6, length=1.2)
    assert long.main is not None
    length = long.main.outcome("quality").length
    assert length is not None
    assert length.p_value < 0.01
    assert length.low < 1.2 < length.high + 0.5


def test_the_page_says_simulated_everywhere_and_names_the_figures(planted: StudyAnalysis, tmp_path: Path) -> None:
    page = tmp_path / "analysis.html"
    render_study(planted, page)
    text = page.read_text(encoding="utf-8")
    sections = re.findall(r"<h2>[^<]+(<span class=\"mark\">simulated</span>)?</h2>", text)
    assert len(sections) == text.count("<h2>") >= 7
    assert sections.count("") == 1  # the verdict, which stands under the banner
    assert "Simulated ratings: no person gave them" in text
    assert "MT+CF revised is rated higher in quality than" in text
    assert "1,200 draws" in text
    assert "take the ratings of one person as independent" in text
    assert "Krippendorff" in text
    assert planted.main is not None
    assert f"{planted.main.explanations:,} in all" in text
    assert "http" not in re.sub(r'xmlns(:xlink)?="[^"]+"', "", text)
    json.dumps(planted.to_dict(), allow_nan=False)
    again = tmp_path / "again.html"
    render_study(planted, again)
    assert again.read_bytes() == page.read_bytes()


def test_names_from_elsewhere_are_escaped(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    rows = [
        [f"r{r}", f"q{(r + k) % 6}", (bad, "plain")[(r + k + r // 2) % 2], bad, (r * k) % 5 + 1]
        for r in range(8) for k in range(4)
    ]  # fmt: skip
    path = tmp_path / "ratings.csv"
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows([["rater", "item", "method", "construct", "rating"], *rows])
    analysis = analyse(read_answers(path), AnalysisOptions(draws=199, resamples=100))
    render_study(analysis, tmp_path / "page.html")
    assert "<script>" not in (tmp_path / "page.html").read_text()
    assert analysis.settings.mechanism == "within raters"
    assert not analysis.simulated
    assert not analysis.attention.stated


def test_preferences_by_bradley_and_terry_and_by_the_design(tmp_path: Path) -> None:
    study = make_study(tmp_path, items=20, raters=24, per_rater=12, pairwise=True, languages=("en",))
    analysis = simulated(study, "MT+CF revised=1.0", seed=2)
    found = analysis.preferences
    assert found is not None
    assert analysis.main is None
    assert found.choices == 24 * 12
    better = {frozenset((pair.a, pair.b)): pair.better for pair in found.pairs}
    assert [better[frozenset(("MT+CF revised", other))] for other in METHODS[:3]] == ["MT+CF revised"] * 3
    assert [better[key] for key in better if "MT+CF revised" not in key] == [None] * 3
    strongest = max(found.strengths, key=lambda row: row.value)
    assert strongest.system == "MT+CF revised"
    render_study(analysis, tmp_path / "page.html")
    assert "MT+CF revised is preferred to" in (tmp_path / "page.html").read_text()


def test_foresight_is_tested_by_itself(tmp_path: Path) -> None:
    study = make_study(tmp_path, items=20, raters=16, per_rater=8, simulation=True, languages=("en",))
    analysis = simulated(study, seed=1)
    assert analysis.foresight is not None
    assert analysis.foresight.family_size == 6
    assert [row.mean.value for row in analysis.foresight.means] == pytest.approx([0.6] * 4, abs=0.25)


def test_answers_of_another_study_and_no_answers_are_refused(tmp_path: Path, study: Study) -> None:
    (tmp_path / "other").mkdir()
    other = make_study(tmp_path / "other", items=20, raters=6, per_rater=4, seed=9)
    with pytest.raises(DataError, match="no answers") as error:
        read_answers(other.folder)
    assert "study export" in error.value.hint
    simulate(study, Bias(), 0, other.folder / SIMULATED)
    with pytest.raises(DataError, match="the assignment has"):
        analyse(read_answers(other.folder, simulated=True), QUICK)
    with pytest.raises(ConfigError, match="names no method or construct"):
        parse_effects(["nobody=1"], study)
    with pytest.raises(ConfigError, match="out of 1 to 5"):
        simulate(study, Bias(parse_effects(["MT=3"], study)), 0, tmp_path / "x")


def test_one_method_or_one_rater_compares_nothing(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv"
    path.write_text("rater,item,method,construct,rating\nr1,q1,a,clear,3\nr1,q2,b,clear,4\n")
    with pytest.raises(DataError, match="compare nothing"):
        analyse(read_answers(path), QUICK)


def test_the_preregistration_announces_what_the_analysis_does(study: Study, planted: StudyAnalysis) -> None:
    text = " ".join((study.folder / "preregistration.md").read_text().split())
    assert planted.main is not None
    assert f"6 outcome(s) × 6 pair(s) = {planted.main.family_size} tests" in text
    for part in ("32 places of 10 explanations", "MT+CF revised", "1 attention check or more", "4,000 times"):
        assert part in text
    for construct in study.config.constructs:
        assert construct.statement["en"] in text
    assert "preregistration.md was last changed" in planted.registered
