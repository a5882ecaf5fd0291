"""What the report takes of a run's texts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from understudy.files import write_jsonl
from understudy.knowledge.store import write_step
from understudy.pipeline.knowledge_report import costs, samples, texts_of
from understudy.recipe import parse_recipe
from understudy.records import StepCounts
from understudy.run import Run
from understudy.types import Knowledge

RECIPE = parse_recipe({"generate": {"steps": ["explain", "critique"]}})


def test_costs_in_a_sentence() -> None:
    step = StepCounts(input_tokens=1200, output_tokens=30)
    assert costs([step]) == "It read 1,200 and wrote 30 tokens."
    paid = replace(step, cost=0.25)
    assert costs([paid, step]).endswith("2,400 and wrote 60 tokens, at the recipe's prices 0.2500.")
    # What was recorded elsewhere tells nothing of its cost.
    assert costs([StepCounts()]) == ""
    assert costs([]) == ""


def test_nothing_written_is_nothing_shown(tmp_path: Path) -> None:
    assert texts_of(Run(tmp_path), RECIPE) is None
    assert texts_of(Run(tmp_path), parse_recipe({})) is None


def test_samples_have_all_rows_of_a_few_examples_in_the_order_of_the_steps(tmp_path: Path) -> None:
    run = Run(tmp_path)
    rows = [{"id": f"q{n}", "question": f"{n}?", "choices": ["a", "b"], "answers": ["a"]} for n in range(9)]
    write_jsonl(run.folder / "data" / "train.jsonl", rows)
    folder = run.stage("generate")
    for step in ("critique", "another", "explain"):
        write_step(folder, step, [Knowledge(f"q{n}", step, f"{step} {n}", reasons=("short: 1",)) for n in range(9)])
    write_jsonl(folder / "finished-examples.jsonl", [{"id": "q1", "rows": 3}])
    found, order = samples(run, RECIPE), ("explain", "critique", "another")
    assert found == samples(run, RECIPE)
    assert len({one.id for one in found}) == len(found) == 3
    for one in found:
        number = one.id[1:]
        assert [row.text for row in one.texts] == [f"{step} {number}" for step in order]
        assert (one.question, one.answer, one.texts[0].reasons) == (f"{number}?", "a", ("short: 1",))
    assert len(samples(run, RECIPE, count=100)) == 9
