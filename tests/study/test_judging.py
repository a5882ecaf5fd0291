"""A judge beside people, over a real server: what it reads, what is kept, how far it agrees."""

import json
from pathlib import Path

import numpy as np
import pytest

from support.scripted_judge import material
from support.servers import Call, Reply, Server
from support.studies import METHODS, make_study
from understudy.cli import app
from understudy.errors import DataError
from understudy.metrics.significance.agreement import krippendorff_alpha
from understudy.study.answers import SIMULATED, read_answers
from understudy.study.config import StudyConfig
from understudy.study.findings import JudgeFindings
from understudy.study.folder import Study
from understudy.study.judging import JudgeRatings, beside_people, judge_study, saved_judge
from understudy.study.simulated import Bias, parse_effects, simulate


def rates_by_length(call: Call) -> Reply:
    """Five points for the longest explanations; a text with `broken` in its question gets no verdict."""
    found = material(call.prompt)
    if "number 3 " in found["QUESTION"]:
        return Reply("I would rather not")
    rating = min(5, 1 + len(found["EXPLANATION"]) // 40)
    form = json.loads(call.prompt.rsplit("Form: ", 1)[1])
    return Reply(json.dumps({"reason": "r", "ratings": dict.fromkeys(form["ratings"], rating)}))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return make_study(tmp_path, texts=10, items=8, raters=8, per_rater=8, languages=("en",))


def run(*words: str) -> None:
    app(args=list(words), standalone_mode=False)


def test_a_judge_rates_what_raters_read_and_stands_beside_them(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    # Simulated raters who like length as the judge does.
    simulate(study, Bias(length=2.0), 0, study.folder / SIMULATED)
    with Server(rates_by_length) as server:
        run("study", "judge", str(study.folder), "--judge-model", "judge", "--judge-url", server.base_url)
        asked = list(server.calls)
    shown = [item for item in study.items.values() if "number 3 " not in item.question]
    said = saved_judge(study)
    assert said is not None
    assert len(said.ratings) == len(shown) * len(METHODS)
    assert said.missing == (len(study.items) - len(shown)) * len(METHODS)
    for call in asked:
        prompt = call.prompt
        assert material(prompt)["EXPLANATION"]
        assert "contrastiveness:" in prompt
        # `MT+CF revised` would tell; CF alone may be in a word.
        assert "MT+CF" not in prompt
    for (item, method), ratings in said.table().items():
        length = len(study.items[item].methods[method].text.strip())
        assert set(ratings.values()) == {min(5, 1 + length // 40)}
    capsys.readouterr()
    run("study", "analyse", str(study.folder), "--simulated", "--draws", "199")
    page = (study.folder / SIMULATED / "analysis.html").read_text()
    assert "A judge beside people" in page
    saved = json.loads((study.folder / SIMULATED / "analysis.json").read_text())["judge"]
    quality = saved["constructs"][-1]
    assert quality["construct"] == "quality"
    assert quality["spearman"] > 0.5


def test_agreement_is_that_of_the_formulas(study: Study) -> None:
    simulate(study, Bias(parse_effects(["MT=0.8"], study)), 1, study.folder / SIMULATED)
    ratings = read_answers(study.folder, simulated=True).ratings
    assert ratings is not None
    rows = [
        {"item": item, "method": method, **dict.fromkeys(ratings.constructs, 5 if method == "CF" else 3)}
        for item in study.items
        for method in METHODS
    ]
    found = beside_people(JudgeRatings("j", "s", len(rows), 0, tuple(rows)), ratings)
    assert isinstance(found, JudgeFindings)
    clear = found.constructs[0]
    values = ratings.of(clear.construct)
    judged = np.where(ratings.method == "CF", 5.0, 3.0)
    numbers = np.arange(len(values))
    expected = krippendorff_alpha(np.concatenate([values, judged]), np.concatenate([numbers, numbers]))
    assert clear.alpha.value == pytest.approx(expected.value)
    assert clear.method_bias["CF"] > 0 > clear.method_bias["MT"]
    assert clear.texts == len(set(zip(ratings.item, ratings.method, strict=True)))
    assert [row.construct for row in found.constructs] == [*ratings.constructs, "quality"]


def test_no_verdict_at_all_and_preferences_are_refused(tmp_path: Path, study: Study) -> None:
    class Silent:
        """A completer that gives nothing back."""

        name = "silent"

        def complete(self, requests):
            return iter(())

    with pytest.raises(DataError, match="no explanation got a verdict: lost"):
        judge_study(study, Silent())
    assert isinstance(study.config, StudyConfig)
    (tmp_path / "pairs").mkdir()
    pairs = make_study(tmp_path / "pairs", items=8, raters=6, per_rater=4, pairwise=True)
    with pytest.raises(DataError, match="asks for preferences"):
        judge_study(pairs, Silent())
