"""From runs and files to a study: which items, of what weight, whose texts, and what is refused."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

from support.studies import METHODS, make_study
from understudy.errors import ConfigError, DataError, RunError
from understudy.files import write_jsonl
from understudy.recipe import dump_recipe
from understudy.recipe.reading import parse_recipe
from understudy.records import ExplainedPrediction
from understudy.study.folder import create_study, open_study
from understudy.study.items import MethodText, StudyItem
from understudy.study.pages import pages_of
from understudy.study.selection import draw, even_shares, length_ratio, matched_in_length, stratum_of
from understudy.study.sources import read_methods


def item(name: str, stratum: str = "mixed", lengths: tuple[int, ...] = (100, 120)) -> StudyItem:
    texts = {f"m{place}": MethodText("x" * length, "a", True, length) for place, length in enumerate(lengths)}
    return StudyItem(name, stratum, 1.0, "What?", ("a", "b"), ("a",), texts)


def run_folder(folder: Path, name: str, texts: dict[str, str | None], *, cut: tuple[str, ...] = ()) -> Path:
    """A finished run whose arm `explained` said this of these questions."""
    value = {"name": name, "data": {"source": "embedded:telecom-choices"}, "teacher": None}
    value |= {"student": {"model": "embedded:telecom-student"}, "tasks": {"kind": "multitask", "rationales": "data"}}
    recipe = parse_recipe(value | {"evaluate": {"arms": ["explained"]}})
    path = folder / name
    path.mkdir()
    (path / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    rows = [
        ExplainedPrediction(
            *(number, None, None, None, f"Question {number}?", None, ("yes", "no"), ("yes",), "(b) NO", None, 3, True),
            raw="no",
            answer_given=True,
            chosen=1 if int(number) % 2 else 0,
            explanation=text,
            explanation_finished=number not in cut,
        ).to_json()
        for number, text in texts.items()
    ]
    write_jsonl(path / "stages" / "predict-explained" / "predictions.jsonl", rows)
    return path


def test_strata_say_who_is_right() -> None:
    assert [stratum_of(c) for c in ([True, True], [False, False], [True, False], [True, None])] == [
        *("right", "wrong", "mixed", "unknown")
    ]


def test_shares_are_as_even_as_the_strata_are_large() -> None:
    assert even_shares({"right": 50, "mixed": 50, "wrong": 50}, 12) == {"right": 4, "mixed": 4, "wrong": 4}
    assert even_shares({"right": 50, "mixed": 3, "wrong": 50}, 13) == {"right": 5, "mixed": 3, "wrong": 5}
    assert even_shares({"right": 1, "mixed": 1, "wrong": 9}, 11) == {"right": 1, "mixed": 1, "wrong": 9}


def test_weights_stand_for_all_items_of_the_stratum() -> None:
    names = ["right"] * 60 + ["mixed"] * 30 + ["wrong"] * 6
    items = [item(str(place), stratum) for place, stratum in enumerate(names)]
    drawn = draw(items, 24, "disagreement", random.Random(0))
    assert Counter(one.stratum for one in drawn) == {"right": 9, "mixed": 9, "wrong": 6}
    assert sum(one.weight for one in drawn) == pytest.approx(96)
    assert {one.weight for one in drawn if one.stratum == "wrong"} == {1.0}
    assert {one.weight for one in draw(items, 24, "random", random.Random(0))} == {4.0}


def test_every_item_is_as_likely_as_its_neighbour() -> None:
    items, counts = [item(str(place)) for place in range(10)], Counter()
    for seed in range(2000):
        counts.update(one.id for one in draw(items, 3, "random", random.Random(seed)))
    # 2000 draws of 3 in 10: 600 expected, standard deviation √(2000·0.3·0.7) = 20.5.
    assert all(abs(counts[str(place)] - 600) < 5 * 20.5 for place in range(10))


def test_texts_matched_in_length_and_the_ratio_that_would_do() -> None:
    items = [item(str(place), lengths=(100, 100 + 10 * place)) for place in range(10)]
    assert length_ratio(items[3]) == pytest.approx(1.3)
    assert [one.id for one in matched_in_length(items, 1.3, 4)] == ["0", "1", "2", "3"]
    with pytest.raises(ConfigError, match=r"4 of 10 items have texts matched in length within 1\.3, and 6") as error:
        matched_in_length(items, 1.3, 6)
    ratio = float(error.value.hint.split()[1])
    assert len(matched_in_length(items, ratio, 6)) == 6


def test_a_run_gives_its_explanations_and_spells_answers_as_options(tmp_path: Path) -> None:
    texts: dict[str, str | None] = {str(n): f"Because of {n}." for n in range(6)} | {"6": " ", "7": None}
    first = run_folder(tmp_path, "first", texts)
    second = run_folder(tmp_path, "second", texts, cut=("2",))
    methods = read_methods([str(first), f"MT+CF={second}"])
    assert [method.name for method in methods] == ["first", "MT+CF"]
    assert methods[0].left_out == {"no text": 1}
    assert methods[1].left_out == {"no text": 1, "cut at the longest length": 1}
    study = create_study(tmp_path / "s", methods, {"items": 5, "raters": 4, "per_rater": 2})
    assert "2" not in study.items
    shown = study.items["1"].methods["MT+CF"]
    assert (shown.text, shown.answer, shown.correct, shown.length) == ("Because of 1.", "no", False, 13)
    assert study.items["0"].methods["first"].correct is True
    assert (
        len(
            create_study(
                tmp_path / "all",
                read_methods([str(first), str(second)], finished_only=False),
                {"items": 6, "raters": 4, "per_rater": 2},
            ).items
        )
        == 6
    )


def test_a_study_is_read_as_it_was_written_and_its_design_is_what_must_not_change(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    again = open_study(study.folder)
    assert (again.items, again.slots, again.design()) == (study.items, study.slots, study.design())
    assert all(set(one.methods) == set(METHODS) for one in again.items.values())
    config = study.folder / "study.yaml"
    config.write_text(config.read_text().replace("What makes a good explanation?", "Another title"), encoding="utf-8")
    assert open_study(study.folder).design() == study.design()
    config.write_text(config.read_text().replace("name: completeness", "name: complete"), encoding="utf-8")
    assert open_study(study.folder).design() != study.design()


def test_the_same_seed_gives_the_same_study(tmp_path: Path) -> None:
    studies = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        studies.append(make_study(tmp_path / name, seed=seed))
    assert (studies[0].items, studies[0].slots) == (studies[1].items, studies[1].slots)
    assert studies[0].slots != studies[2].slots


def test_attention_checks_stand_between_items_and_differ_between_raters(tmp_path: Path) -> None:
    study = make_study(tmp_path, raters=20, per_rater=12, attention_checks=2)
    places = []
    for slot, seats in study.slots.items():
        pages = pages_of(study.config, seats, slot)
        kinds = [page.kind for page in pages]
        assert [page.seat.item for page in pages if page.kind == "item"] == [seat.item for seat in seats]
        assert kinds[:4] == ["consent", "about", "practice", "check"]
        assert (kinds[4], kinds[-2], kinds[-1]) == ("item", "item", "final")
        assert kinds.count("attention") == 2
        places.append(tuple(place for place, kind in enumerate(kinds) if kind == "attention"))
    assert len(set(places)) > 10
    simulated = make_study(tmp_path / "s", simulation=True) if (tmp_path / "s").mkdir() is None else study
    kinds = [page.kind for page in pages_of(simulated.config, simulated.slots[0], 0)]
    assert all(kinds[place + 1] == "item" for place, kind in enumerate(kinds) if kind == "foresee")
    assert kinds.count("foresee") == 4


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"id": "q1", "question": "Q?", "text": "T."}, "no answer"),
        ({"id": "q1", "question": "Q?", "text": " ", "answer": "a"}, "no text"),
        ({"id": "q1", "question": "Q?", "text": "T.", "answer": "a", "correct": "maybe"}, "correct is 'maybe'"),
        ({"id": "q1", "question": "Q?", "text": "T.", "answer": "a", "choices": "[a, b"}, "not a JSON list"),
    ],
)
def test_a_bad_row_of_a_file_is_named_by_its_line(row: dict[str, str], message: str, tmp_path: Path) -> None:
    good = {"id": "q0", "question": "Q?", "text": "T.", "answer": "a"}
    (tmp_path / "t.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n", encoding="utf-8")
    with pytest.raises(DataError, match=f"t.jsonl:2: {message}".replace("[", r"\[")):
        read_methods([str(tmp_path / "t.jsonl")])


def test_a_csv_file_with_bars_between_options(tmp_path: Path) -> None:
    lines = ["id,method,question,choices,gold,answer,text,correct"]
    lines += [f'{n},{m},"Where, {n}?",pond | sea,pond,pond,"It is, so.",' for n in range(3) for m in "AB"]
    lines += ["3,A,Where?,pond|sea,,sea,Salt.,false", "3,B,Where?,pond|sea,,pond,Fresh.,true"]
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    first, second = read_methods([str(tmp_path / "t.csv")])
    assert (first.name, second.name) == ("A", "B")
    assert first.explained["0"].choices == ("pond", "sea")
    assert [first.explained[n].text.correct for n in "03"] == [True, False]


def test_a_damaged_study_is_refused(tmp_path: Path) -> None:
    study = make_study(tmp_path)
    lines = (study.folder / "items.jsonl").read_text().splitlines()
    (study.folder / "items.jsonl").write_text("\n".join(lines[:-3]) + "\n", encoding="utf-8")
    with pytest.raises(RunError, match=r"has items that items\.jsonl lacks"):
        open_study(study.folder)
    with pytest.raises(ConfigError, match="is no study"):
        open_study(tmp_path)
