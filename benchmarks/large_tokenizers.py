"""What two large tokenizers cost: read, compared, and a whole `understudy doctor`.

    python benchmarks/large_tokenizers.py STUDENT TEACHER

STUDENT and TEACHER are folders of models or hub ids. Prints CPU seconds (user and system) and wall seconds as JSON.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from understudy.models.load import head_columns, load_template
from understudy.recipe import parse_recipe
from understudy.tokens.compatibility import TokenizerPair


def seconds(work: Callable[[], Any], whose: int = resource.RUSAGE_SELF) -> tuple[Any, dict[str, float]]:
    """What a piece of work returns, and the seconds that it takes."""
    before, begin = resource.getrusage(whose), time.perf_counter()
    result = work()
    after = resource.getrusage(whose)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return result, {"cpu": round(cpu, 1), "wall": round(time.perf_counter() - begin, 1)}


def measure(student: str, teacher: str) -> dict[str, Any]:
    """All of it, and reading and comparing once more in the same process."""
    models = {"student": {"model": student}, "teacher": {"model": teacher}}
    recipe = parse_recipe({**models, "distil": {"method": "dskd_v2"}, "data": {"max_length": 512}})
    sides = (recipe.student, recipe.local_teacher)
    templates, reading = seconds(lambda: [load_template(side) for side in sides])
    columns = (head_columns(recipe.student), head_columns(recipe.local_teacher))
    pair, comparing = seconds(lambda: TokenizerPair.of(templates[0], templates[1], columns))
    _, again = seconds(lambda: [load_template(side) for side in sides])
    overrides = [f"student.model={student}", f"teacher.model={teacher}", "teacher.sft=null", "data.max_length=512"]
    command = [sys.executable, "-m", "understudy", "doctor", "telecom_qa", "distil.method=dskd_v2", *overrides]
    done, doctor = seconds(lambda: subprocess.run(command, check=False, capture_output=True), resource.RUSAGE_CHILDREN)
    tokens = dict(zip(("student", "teacher"), pair.vocabularies.tokens, strict=True))
    figures = {"reading": reading, "comparing": comparing, "reading_again": again, "doctor": doctor}
    return {"tokens": tokens, "doctor_ended_with": done.returncode, "seconds": figures}


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
