"""Spans of requests: by the conventions, without texts, and sent where the environment says."""

from __future__ import annotations

import http.server
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.commands import serve_command
from support.serving import causal_run, serving
from understudy.serve.opening import Plan
from understudy.serve.tracing import traced

pytest.importorskip("opentelemetry.sdk")
SECRET = "Which number has the subscriber of slice seven?"


def post(url: str, body: dict[str, Any]) -> tuple[int, str]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def chat(**fields: Any) -> dict[str, Any]:
    return {"model": "student", "messages": [{"role": "user", "content": SECRET}], **fields}


def test_a_request_is_a_span_without_its_texts(tmp_path: Path) -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
    from opentelemetry.trace import SpanKind, StatusCode

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with serving(causal_run(tmp_path), Plan(cascade=1.0)) as served, traced(served.gateway, provider):
        _, answer = post(f"{served.url}/v1/chat/completions", chat())
        post(f"{served.url}/v1/chat/completions", chat(stream=True))
        post(f"{served.url}/v1/completions", {"model": "student", "prompt": SECRET, "max_tokens": 3})
        post(f"{served.url}/v1/chat/completions", chat(model="cascade"))
        too_long = [{"role": "user", "content": SECRET * 40}]
        assert post(f"{served.url}/v1/chat/completions", chat(messages=too_long))[0] == 400
    spans = exporter.get_finished_spans()
    assert [span.name for span in spans][:4] == [
        "chat student",
        "chat student",
        "text_completion student",
        "chat cascade",
    ]
    whole, streamed, plain, cascade = (dict(span.attributes or {}) for span in spans[:4])
    told = json.loads(answer)
    assert whole["gen_ai.response.id"] == told["id"]
    assert whole["gen_ai.usage.input_tokens"] == told["usage"]["prompt_tokens"]
    assert whole["gen_ai.usage.output_tokens"] == told["usage"]["completion_tokens"]
    assert whole["gen_ai.response.finish_reasons"] == (told["choices"][0]["finish_reason"],)
    assert (whole["gen_ai.request.model"], whole["gen_ai.response.model"]) == ("student", "student")
    assert streamed["gen_ai.request.stream"] is True
    assert streamed["gen_ai.response.time_to_first_chunk"] > 0
    assert plain["gen_ai.operation.name"] == "text_completion"
    assert (cascade["gen_ai.response.model"], cascade["understudy.cascade.decision"]) == ("teacher", "asked")
    known = {value for value in vars(gen_ai_attributes).values() if isinstance(value, str)}
    for span, exchange in zip(spans, served.notebook.exchanges, strict=True):
        assert span.kind is SpanKind.INTERNAL
        assert span.end_time - span.start_time == pytest.approx(1e9 * exchange.seconds, abs=1e3)
        names = set(span.attributes or {})
        assert {name for name in names if name.startswith("gen_ai.")} <= known
        failed = span.status.status_code is StatusCode.ERROR
        assert failed == ("error.type" in names)
        assert "subscriber" not in span.to_json()
        assert told["choices"][0]["message"]["content"] not in span.to_json()


@contextmanager
def collector() -> Iterator[tuple[str, list[Any]]]:
    """A server that takes OTLP over HTTP, and the spans that came."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    came: list[Any] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            import gzip

            body = self.rfile.read(int(self.headers["Content-Length"]))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                came.extend((resource.resource, span) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", came
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("options", [["--traces"], pytest.param([], marks=pytest.mark.slow)])
def test_the_command_sends_spans_to_a_collector_where_it_is_told_to(tmp_path: Path, options: list[str]) -> None:
    run = causal_run(tmp_path)
    with collector() as (address, came):
        settings = {"OTEL_EXPORTER_OTLP_ENDPOINT": address, "OTEL_SERVICE_NAME": "help desk"}
        with serve_command(run.folder, *options, **settings) as served:
            _, answer = post(f"{served.url}/v1/chat/completions", chat())
    # What waited was sent when the server ended.
    assert len(came) == len(options)
    if not options:
        return
    resource, span = came[0]
    assert {a.key: a.value.string_value for a in resource.attributes}["service.name"] == "help desk"
    assert {a.key: a.value.string_value for a in span.attributes}["gen_ai.response.id"] == json.loads(answer)["id"]
