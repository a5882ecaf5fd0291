"""Finished requests as OpenTelemetry spans, by its conventions for generative AI.

One span a request, `{gen_ai.operation.name} {gen_ai.request.model}`, of kind INTERNAL, for the model is usually in this
process (semantic conventions, gen-ai-spans, in development; the names are those of 1.41). No text is in a span: what
users wrote is in the monitor's database, where it is redacted and forgotten. Where spans go, how many and under which
name, say the environment variables that every OpenTelemetry SDK knows: `OTEL_EXPORTER_OTLP_ENDPOINT`,
`OTEL_TRACES_SAMPLER`, `OTEL_SERVICE_NAME`, `OTEL_SDK_DISABLED`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from understudy.distribution import NAME, install_command
from understudy.errors import ConfigError
from understudy.serve.exchange import Exchange
from understudy.serve.gateway import Gateway

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

PROVIDER = "understudy"
_SECOND = 10**9
_OPERATIONS = {"/v1/completions": "text_completion", "/v1/embeddings": "embeddings"}
Value = str | bool | int | float | list[str]


class Tracing:
    """An observer of a gateway that makes a span of each finished request.

    A span is handed to the SDK, whose thread sends them; a server of traces that is down holds up no answer.

    Args:
        provider: of the SDK; None: one that sends OTLP over HTTP.

    Raises:
        ConfigError: the SDK is not installed.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._provider = provider or _otlp()
        self._tracer = self._provider.get_tracer(NAME)

    def finished(self, exchange: Exchange) -> None:
        """Make the span of a request; returns at once."""
        from opentelemetry.trace import SpanKind, Status, StatusCode

        values = attributes(exchange)
        begin = int(exchange.time * _SECOND)
        span = self._tracer.start_span(
            f"{values['gen_ai.operation.name']} {exchange.model}".strip(),
            kind=SpanKind.INTERNAL,
            attributes=values,
            start_time=begin,
        )
        if exchange.status >= 400:
            span.set_status(Status(StatusCode.ERROR))
        span.end(begin + int(exchange.seconds * _SECOND))

    def close(self) -> None:
        """Send what waits, and end."""
        self._provider.shutdown()


@contextmanager
def traced(gateway: Gateway, provider: TracerProvider | None = None) -> Iterator[None]:
    """Make spans of a gateway's requests while the block runs; those that wait are sent at its end."""
    tracing = Tracing(provider)
    gateway.observers = (*gateway.observers, tracing)
    try:
        yield
    finally:
        tracing.close()


def attributes(exchange: Exchange) -> Mapping[str, Value]:
    """What a span says of a request; `understudy.*` is what the conventions have no name for."""
    values: dict[str, Value | None] = {
        "gen_ai.operation.name": _OPERATIONS.get(exchange.endpoint, "chat"),
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": exchange.model or None,
        "gen_ai.request.stream": exchange.streamed or None,
        "gen_ai.response.id": exchange.id,
        "gen_ai.response.model": exchange.source or None,
        "gen_ai.response.finish_reasons": [exchange.finish_reason] if exchange.finish_reason else None,
        "gen_ai.response.time_to_first_chunk": exchange.first_seconds if exchange.streamed else None,
        "gen_ai.usage.input_tokens": exchange.prompt_tokens,
        "gen_ai.usage.output_tokens": exchange.completion_tokens,
        "error.type": str(exchange.status) if exchange.status >= 400 else None,
        "understudy.confidence": exchange.confidence,
        "understudy.cascade.decision": exchange.decision or None,
        "understudy.teacher_tokens": exchange.teacher_tokens or None,
    }
    return {name: value for name, value in values.items() if value is not None}


def _otlp() -> TracerProvider:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise ConfigError(f"traces need the package {error.name}", hint=install_command("traces")) from error
    # What the environment says of the service comes last, and wins.
    resource = Resource.create({"service.name": PROVIDER}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
