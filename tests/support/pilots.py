"""The page of a pilot that was never run."""

from __future__ import annotations

from understudy.report.pilot_page import PilotInputs, PilotPoint


def pilot_inputs(kind: str = "worth it", *, few: bool = False) -> PilotInputs:
    """A pilot of three amounts; with `few`, of so few test items that nothing has an interval."""
    heights = {"teacher": 78.0, "distilled": 52.0, "seqkd": 47.0, "sft": 38.0, "base_student": 4.0}

    def value(arm: str, place: int) -> tuple[float, float | None, float | None]:
        figure = heights[arm] - (0 if arm == "base_student" else 9.0 * (2 - place))
        return (figure, None, None) if few else (figure, figure - 4, figure + 4)

    points = [
        PilotPoint(rows, rows // 6, rows // 10, {arm: value(arm, place) for arm in heights})
        for place, rows in enumerate((481, 962, 1924))
    ]
    return PilotInputs(
        title="telecom-questions-of-last-year-pilot",
        data="some-folder-with-a-long-name/telecom-questions-of-last-year.jsonl",
        models=("embedded:telecom-teacher", "an-organisation/a-student-with-a-very-long-name-v0.1-instruct"),
        method="byte_aligned",
        why_method="the vocabularies differ; 97.2% of the student's target tokens end where one of the teacher's ends",
        kind=kind,
        why="distilling gains +14.0 points (+9.1 to +18.7) over fine-tuning on the gold answers alone.",
        items_needed=1234 if kind == "cannot tell" else None,
        rows_needed=3848 if kind == "cannot tell" else None,
        metric="exact_match",
        points=points,
        differences=[
            ("distilled", "sft", "+14.0 points (+9.1 to +18.7)", 1),
            ("distilled", "seqkd", "+5.0 points (−0.2 to +10.1)", 0),
            ("teacher", "distilled", "+26.0 points (+20.0 to +31.9)", 1),
        ],
        recovered=None if few else (35.0, 24.1, 46.0),
        advice=[
            ("more rows", "yes", "from 962 rows to 1,924 the distilled student gained +9.0 points (+5.0 to +13.1)."),
            ("more steps", "no", "from step 121 to 181 the development score changed by +0.3 points (one seed)."),
            ("a larger student", "cannot tell", "to the teacher it is +2.0 points (−3.0 to +7.0)."),
        ],
        curves=[[(61, 20.0), (122, 31.0), (183, 33.0)], [(61, 18.0), (122, 30.0), (183, 35.0)]],
        least=1.0,
        test_rows=253,
        test_there=1242,
        seeds=2,
        epochs=3,
        pilot_time="13 min",
        full=[("rows to learn from", "3,848"), ("steps of each student", "363"), ("time", "about 31 min")],
        overrides=("teacher.sft={steps: 120}", "distil.learning_rate=1e-3"),
    )
