"""The page and the tables of a comparison: whole, self-contained, escaped, and true to the figures."""

from __future__ import annotations

import copy
import csv
import html
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from support.embedded_answers import NAMES, embedded_answers
from understudy.evaluation.compare import compare
from understudy.evaluation.scoring import score_systems
from understudy.evaluation.systems import System
from understudy.metrics.significance import Resampling
from understudy.report.caveats import limits, methods
from understudy.report.comparison_page import render_comparison
from understudy.report.comparison_plots import colours, radar_plot, short
from understudy.report.formatting import rounded_up
from understudy.report.headline import headline
from understudy.report.judges import reliability
from understudy.report.tables import CSV_COLUMNS, csv_table, latex, latex_table
from understudy.report.verdicts import items_needed_text, verdict

EVIL = "<script>alert('owned')</script><img src=x onerror=alert(1)> & \\input{x} $1$ {{ 7*7 }}"
METRICS = ("exact_match", "token_f1", "bleu", "rougeL", "chrf", "faithfulness")


def compared(*names: str, prefix: str = "") -> dict[str, Any]:
    systems = []
    for name in names:
        rows = [
            replace(row, prediction=prefix + (row.prediction or ""), question=prefix + (row.question or ""))
            for row in embedded_answers()[name]
        ]
        systems.append(System(prefix + name, rows, f"{prefix}{name}.jsonl"))
    return compare(score_systems(systems, METRICS), resampling=Resampling(500)).to_dict()


@pytest.fixture(scope="module")
def three() -> dict[str, Any]:
    return compared(*NAMES)


@pytest.fixture(scope="module")
def two() -> dict[str, Any]:
    return compared(*NAMES[:2])


def page(comparison: dict[str, Any], folder: Path) -> str:
    render_comparison(comparison, folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


class Seen(HTMLParser):
    """Tags in balance, what would be loaded, handlers, and the text that a reader sees."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in ("meta", "br", "path", "use"):
            self.open.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "br", "path", "use"):
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "use"):
            assert self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_page_is_whole_and_loads_nothing(three: dict[str, Any], tmp_path: Path) -> None:
    text = page(three, tmp_path)
    seen = Seen(text)
    assert seen.open == []
    assert all(target.startswith("#") for target in seen.loads)
    assert not {"script", "link", "img", "iframe"} & seen.tags
    assert not re.search(r"https?://|url\((?!#)|@import", text)
    assert text.count("<figure>") == 4
    assert page(three, tmp_path) == text


def test_a_saved_comparison_gives_the_same_page(three: dict[str, Any], tmp_path: Path) -> None:
    saved = json.loads(json.dumps(three))
    assert page(saved, tmp_path) == page(three, tmp_path)


def test_page_says_what_there_is_and_what_there_is_not(three: dict[str, Any], tmp_path: Path) -> None:
    text = " ".join(Seen(page(three, tmp_path)).text.split())
    for name in NAMES:
        assert name in text
    for word in ("Not measured: Faithfulness", "60 items", "One training run a system", "Holm", "sacrebleu", "Nemenyi"):
        assert word in text, word
    value = three["overall"]["table"][NAMES[0]]["exact_match"]["value"]
    assert f"{NAMES[0]} reaches {100 * value:.1f}" in text
    assert three["metrics"]["bleu"]["signature"] in text
    assert "nan" not in text.lower().split()


def test_what_a_model_or_a_file_name_says_stays_text(tmp_path: Path) -> None:
    comparison = compared(*NAMES, prefix=EVIL)
    comparison["notes"] = [EVIL]
    comparison["kinds"] = {EVIL: {"items": 3, "table": {}}, "b": {"items": 1, "table": {}}}
    comparison["not_measured"] = {EVIL: dict.fromkeys(comparison["overall"]["table"], EVIL)}
    text = page(comparison, tmp_path)
    seen = Seen(text)
    assert not {"script", "img"} & seen.tags
    assert seen.handlers == []
    assert seen.text.count("<script>alert('owned')</script>") > 20
    assert html.escape("<img src=x") in text
    assert "{{ 7*7 }}" in seen.text
    assert "49" not in re.findall(r"\$1\$ (\S+)", seen.text)


def test_two_systems_have_a_verdict_and_no_ranks(two: dict[str, Any], tmp_path: Path) -> None:
    answer = headline(two)
    assert answer.tone == "better"
    assert answer.verdict == f"{NAMES[0]} is better than {NAMES[1]}."
    test = two["comparison"]["tests"][0]["comparison"]
    assert (
        f"+{100 * test['difference']:.1f} (+{100 * test['low']:.1f} to +{100 * test['high']:.1f})"
        in answer.sentences[0]
    )
    text = page(two, tmp_path)
    assert text.count("<figure>") == 3
    assert 'id="ranks"' not in text


def change(comparison: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The comparison with the test of its first metric changed."""
    changed = copy.deepcopy(comparison)
    test = changed["comparison"]["tests"][0]
    if "p_value" in fields:
        fields["alone"] = fields["p_value"] is not None and fields["p_value"] < 0.05
        fields = {"low": 0.01 if fields["alone"] else -0.1, **fields}  # an interval that agrees with p
    for name, value in fields.items():
        (test if name in test else test["comparison"])[name] = value
    return changed


def test_words_follow_the_figures(two: dict[str, Any]) -> None:
    worse = change(two, better=NAMES[1], difference=-0.2)
    assert headline(worse).verdict == f"{NAMES[0]} is worse than {NAMES[1]}."
    open_ = change(two, better="", p_holm=0.3, p_value=0.3, items_needed=1834.2)
    assert headline(open_).tone == "open"
    assert "cannot be told apart" in headline(open_).verdict
    assert "1,900 items would be needed" in headline(open_).sentences[1]
    assert verdict(open_["comparison"]["tests"][0]) == "not significant; 1,900 items would be needed"
    corrected = change(two, better="", p_holm=0.08, p_value=0.01, items_needed=50.0)
    assert "p = 0.080 after correction for 5 tests (p = 0.010 alone)" in headline(corrected).sentences[0]
    assert verdict(corrected["comparison"]["tests"][0]) == "not significant after correction (p = 0.010 alone)"
    nothing = change(two, better="", p_holm=1.0, p_value=1.0, difference=0.0)
    assert verdict(nothing["comparison"]["tests"][0]) == "no difference"
    constant = change(
        two, better="", p_holm=0.2, p_value=0.06, minimal_detectable=0.0, items_needed=2.0, difference=1.0
    )
    assert verdict(constant["comparison"]["tests"][0]) == "not significant"
    assert "differ by as much on every item" in headline(constant).sentences[1]
    parted = change(two, better="", p_holm=0.2, p_value=0.06, low=0.01, items_needed=90.0)
    words = "the interval leaves out 0, though p = 0.060 alone"
    assert verdict(parted["comparison"]["tests"][0]) == f"not significant ({words}); 90 items would be needed"
    assert words[1:] in headline(parted).sentences[1]
    assert "On 1 of 5 tests the interval and p disagree" in " ".join(limits(parted))
    assert "disagree" not in " ".join(limits(corrected))
    other_way = change(two, p_holm=0.04, p_value=0.04, low=-0.01)
    assert verdict(other_way["comparison"]["tests"][0]).endswith("(the interval holds 0, though p = 0.040 alone)")
    alike = change(two, better="", p_holm=1.0, p_value=1.0, minimal_detectable=0.0, difference=0.0)
    assert "do not differ on a single item" in headline(alike).sentences[1]
    alone = copy.deepcopy(two)
    alone["comparison"]["family_size"] = 1
    assert "correction" not in headline(alone).sentences[0]
    unknown = change(two, better="", p_holm=None, p_value=None, low=None, high=None, minimal_detectable=None)
    assert verdict(unknown["comparison"]["tests"][0]) == "too few items to tell"
    assert "too few items" in headline(unknown).sentences[1]


def test_the_items_needed_are_those_of_the_correction(two: dict[str, Any]) -> None:
    """One test alone would have 300 items, its step in Holm's correction needs 505."""
    corrected = change(two, better="", p_holm=0.08, p_value=0.01, items_needed=505.0)
    test = corrected["comparison"]["tests"][0]
    test["comparison"]["items_needed"] = 300.0
    assert verdict(test) == "not significant after correction (p = 0.010 alone); 510 items would be needed"
    assert (
        "for one of the size seen here, 510 items would be needed after the correction."
        in headline(corrected).sentences[1]
    )
    [row, *_] = csv.DictReader(io.StringIO(csv_table(corrected)))
    assert (row["items_needed"], row["items_needed_holm"]) == ("300.0", "505.0")
    del test["items_needed"]  # a file of an earlier release
    assert verdict(test).endswith("300 items would be needed")


def test_counts_in_words() -> None:
    assert [rounded_up(n) for n in (7, 48.1, 100, 101, 1834.2, 99_001)] == [7, 49, 100, 110, 1900, 100_000]
    assert items_needed_text({"items_needed": 3e9, "n": 5}) == "over a million items would be needed"
    assert items_needed_text({"items_needed": None, "n": 5}) == "no number of items would show it"


def test_limits_are_of_this_comparison(three: dict[str, Any], two: dict[str, Any]) -> None:
    texts = " ".join(limits(three))
    assert "15 tests were made together" in texts
    assert "Always answering" in texts or three["constant_answer"]["share"] < 0.02
    assert "“not significant” is not “equal”" in texts
    assert "Judged metrics" not in texts
    seeded = {**two, "systems": [{**s, "arm": "sft", "seeds": [0, 1, 2]} for s in two["systems"]]}
    assert "run with 3 seeds or more" in " ".join(limits(seeded))
    judged = {**two, "judge": {"faithfulness": {NAMES[0]: {"judge": "j"}}}}
    assert "Judged metrics are opinions" in " ".join(limits(judged))
    assert "sacrebleu" in " ".join(methods(two))


def test_a_judge_in_words() -> None:
    details = {
        "judge": "j",
        "repeats": 3,
        "asked": 40,
        "cached": 10,
        "unparseable_share": 0.05,
        "missing": {"refused": 2},
    }
    more = {"varied_share": 0.25, "repeat_variance": 0.04, "reliability": 0.8}
    text = "; ".join(reliability({**details, **more}))
    for phrase in (
        "40 questions, 10 answered from the cache",
        "5.0% of its verdicts",
        "2 (refused)",
        "25.0%",
        "standard deviation of a verdict 20.0 points",
        "0.80",
    ):
        assert phrase in text
    assert "judged once" in "; ".join(reliability({"judge": "j", "asked": 1, "repeats": 1}))


# -- tables for other programs ---------------------------------------------------------------------------------------


def test_csv_holds_every_figure(three: dict[str, Any]) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table(three))))
    tests = three["comparison"]["tests"]
    assert len(rows) == len(tests) == 15
    assert tuple(rows[0]) == CSV_COLUMNS
    for row, test in zip(rows, tests, strict=True):
        assert (row["a"], row["b"], row["metric"]) == (test["a"], test["b"], test["metric"])
        assert float(row["difference"]) == test["comparison"]["difference"]
        assert float(row["p_holm"]) == test["p_holm"]
        assert bool(row["p_mcnemar"]) == (test["metric"] == "exact_match")


def test_a_name_is_no_formula_to_a_spreadsheet() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_table(compared(*NAMES[1::-1], prefix="=1+1 ")))))
    assert {row["a"] for row in rows} == {f"'=1+1 {NAMES[1]}"}
    assert all(text[:1] not in {"=", "+", "@"} for row in rows for text in row.values())
    assert any(float(row["difference"]) < 0 for row in rows)


def test_latex_is_escaped_and_in_balance(tmp_path: Path) -> None:
    text = latex_table(compared(*NAMES[:2], prefix="50% & a_b #1 {x} ~^\\ "))
    assert r"50\% \& a\_b \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{}" in text
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 2
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    columns = [len(re.findall(r"(?<!\\)&", line)) for line in body]
    assert set(columns) == {2, 6}
    assert latex("[x] \x1b[0m\0") == "{[}x{]} {[}0m"
    assert latex('<a> "b" | c–d') == r"\textless{}a\textgreater{} \textquotedbl{}b\textquotedbl{} \textbar{} c--d"


def test_the_radar_stands_in_the_middle(three: dict[str, Any]) -> None:
    arms = ("teacher", "base_student", "sft", "seqkd", "kd_gold", "distilled", "majority")
    table = dict.fromkeys(arms, three["overall"]["table"][NAMES[0]])
    overall = {**three["overall"], "table": table}
    plot = radar_plot({**three, "overall": overall, "systems": [{"name": arm} for arm in arms]})
    assert plot is not None
    width = float(re.findall(r'viewBox="0 0 ([\d.]+)', plot)[-1])  # behind the marks of the legend
    [place] = re.findall(r'text-anchor: middle[^>]* x="([\d.]+)"[^>]*>Exact match<', plot)
    assert abs(float(place) / width - 0.5) < 0.03


def test_names_where_there_is_little_room() -> None:
    assert short("distilled") == "Distilled"
    long = short("a-very-long-name-of-a-system-indeed-it-is")
    assert len(long) == 26
    assert long.startswith("a-very")
    assert long.endswith("it-is")
    assert len(set(colours([f"s{n}" for n in range(10)]).values())) == 10
