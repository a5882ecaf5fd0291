"""What fits into the time: against figures worked out by hand, and for any machine."""

import functools

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from understudy.errors import ConfigError
from understudy.pilot.full_run import full_run
from understudy.pilot.plan import Design, Plan, lines_of, parts_of, plan
from understudy.pilot.probe import Rates, Sizes
from understudy.pilot.setup import mapping_of, recipe_of, with_answers
from understudy.pipeline.kinds import stages

SIZES = Sizes(train=100, unlabelled=300, dev=50, test=100)
RATES = Rates(sft_step=0.1, method_step=0.2, teacher_step=1.0, student_answer=0.01, teacher_answer=0.1, overhead=2.0)
SMALLEST = Design(rows=64, epochs=1, test_rows=50, dev_rows=50, seeds=1)


@functools.cache
def recipe(*overrides: str):
    return recipe_of(mapping_of("embedded:telecom", "embedded:telecom-teacher", "embedded:telecom-student", overrides))


def test_every_part_is_what_a_hand_works_out() -> None:
    # Amounts 16, 32 and 64 in steps of 32: 1 + 1 + 2 = 4 steps, each twice SFT and once the method.
    # Teachers take 16, 32 and 64 of 400 parts of 10 steps, rounded up: 1 + 1 + 2; their 3 × 50 development answers.
    # Three quarters of 112 rows are questions.
    # 9 students answer 3 × 50 development rows; 9 and 3 base students, 3 teachers 50 test rows.
    # Stages: data, pair, teacher, its answers, two predictions an amount; 3 trainings, 3 predictions a cell.
    assert parts_of(SMALLEST, SIZES, RATES, recipe("teacher.sft={steps: 10}")) == pytest.approx(
        {
            "training": 4 * (2 * 0.1 + 0.2),
            "fine-tuning the teacher": 4 * 1.0 + 3 * 150 * 0.1,
            "the teacher's answers": 84 * 0.1,
            "development": 9 * 150 * 0.01,
            "test": 50 * (12 * 0.01 + 3 * 0.1),
            "starting stages": 36 * 2.0,
        }
    )


def test_a_teacher_as_it_came_costs_no_training_and_without_questions_it_answers_the_rows() -> None:
    mapping = mapping_of("qa.jsonl", "embedded:telecom-teacher", "embedded:telecom-student")
    own = recipe_of(with_answers(mapping, unlabelled=False))
    parts = parts_of(SMALLEST, Sizes(400, 0, 50, 100), RATES, own)
    assert parts["fine-tuning the teacher"] == 0
    assert parts["the teacher's answers"] == pytest.approx(112 * 0.1)


def test_more_time_makes_the_pilot_larger_and_no_time_is_refused_with_what_would_do() -> None:
    tuned = recipe("teacher.sft={steps: 10}")
    smallest = plan(tuned, SIZES, RATES, minutes=3.25)
    assert smallest.design == SMALLEST
    assert smallest.seconds == pytest.approx(165.5)
    assert smallest.amounts == (16, 32, 64)
    assert smallest.steps == (1, 1, 2)
    largest = plan(tuned, SIZES, RATES, minutes=600)
    assert largest.design == Design(rows=400, epochs=3, test_rows=100, dev_rows=50, seeds=3)
    assert largest.share == 1
    with pytest.raises(ConfigError, match="the smallest pilot takes about 3 min") as refused:
        plan(tuned, SIZES, RATES, minutes=2)
    assert "--minutes 4" in refused.value.hint
    assert Plan.from_json(largest.to_json()) == largest
    assert "16, 32, 64 of 400 rows, 1 pass over each: 1, 1, 2 steps of 32" in " ".join(lines_of(smallest))


@given(
    seconds=st.tuples(*[st.floats(1e-4, 2.0)] * 5),
    rows=st.tuples(*[st.integers(1, 3000)] * 4),
    minutes=st.floats(1, 200),
)
def test_whatever_the_machine_the_plan_stays_within_time_and_data(seconds, rows, minutes) -> None:
    sizes, rates = Sizes(*rows), Rates(*seconds, overhead=2.0)
    try:
        planned = plan(recipe("teacher.sft={steps: 10}"), sizes, rates, minutes)
    except ConfigError:
        assume(False)  # Not even the smallest fits.
        return
    assert planned.seconds <= 60 * minutes
    assert 1 <= planned.design.rows <= sizes.learned
    assert planned.design.test_rows <= sizes.test
    assert (1 <= planned.design.epochs <= 3, 1 <= planned.design.seeds <= 3) == (True, True)
    assert list(planned.amounts) == sorted(planned.amounts)


def test_the_full_run_is_each_stage_by_what_there_is_more_of() -> None:
    whole = recipe("teacher.sft={steps: 10}", "distil.steps=40")
    planned = plan(whole, SIZES, RATES, minutes=3.25)
    measured = {
        stage: {"train": 3.0, "sft": 5.0, "answers": 2.0, "predict": 1.0}.get(stage.kind, 0.0)
        for stage in stages(whole, unlabelled=True)
    }
    # 40 steps for 2, the teacher's 10 for 2, 400 rows for 64, 100 test rows for 50.
    expected = 3 * 3.0 * 20 + 5.0 * 5 + 2.0 * 400 / 64 + 5 * 1.0 * 2
    full = full_run(measured, whole, planned, price_per_hour=3.6)
    assert full.seconds == pytest.approx(expected)
    assert full.money == pytest.approx(expected / 1000)
    assert (full.steps, full.rows, full.test_rows) == (40, 400, 100)
