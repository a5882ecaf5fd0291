"""Whatever fits our OpenAPI, and much that does not, is answered or refused: schemathesis finds no 500."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from support.serving import Served, causal_run, encoder_run, serving
from understudy.serve.opening import Plan

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is in the extra `dev`")
OFTEN = int(os.environ.get("UNDERSTUDY_FUZZ", "60"))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("fuzz")
    with serving(causal_run(folder), Plan(cascade=0.4, feedback=folder / "feedback.jsonl")) as server:
        yield server


def fuzz(served: Served, examples: int, only: tuple[str, ...] = ()) -> None:
    schema = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    codes: dict[str, set[int]] = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        if only and operation.path not in only:
            continue
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            if mode is schemathesis.GenerationMode.POSITIVE or operation.method.upper() == "POST":
                ask_often(
                    operation.as_strategy(generation_mode=mode), examples, codes.setdefault(operation.path, set())
                )
    asked = only or ("/v1/chat/completions", "/v1/completions", "/v1/answer")
    assert 200 in set().union(*(codes[path] for path in asked))
    assert served.gateway.admission.under_way == 0


def ask_often(cases: Any, examples: int, codes: set[int]) -> None:
    """Send what is drawn; nothing is answered with 500 or above, and a refusal says why."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=cases)
    def once(case: Any) -> None:
        answer = case.call(timeout=30)
        codes.add(answer.status_code)
        assert answer.status_code < 500, (case.as_curl_command(), answer.text)
        if answer.status_code >= 400:
            assert answer.json()["error"]["message"], answer.text

    once()


def test_no_request_makes_the_server_fail(served: Served) -> None:
    fuzz(served, 6)


def test_no_request_makes_an_encoder_fail(tmp_path: Path) -> None:
    with serving(encoder_run(tmp_path, "classify")) as encoder:
        fuzz(encoder, 8, only=("/v1/embeddings", "/v1/answer"))


@pytest.mark.slow
def test_no_request_of_many_makes_the_server_fail(served: Served) -> None:
    fuzz(served, OFTEN)
