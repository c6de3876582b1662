"""Traces, metrics, logs. One thin span per request, transaction, batch, fact, step and outbound call; no payloads."""

from __future__ import annotations

import logging
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager, suppress
from typing import Any, TextIO, cast

import structlog
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags
from prometheus_client import Counter, Gauge, Histogram

from chassis.settings import ServiceSettings

REQUESTS = Histogram(
    "remit_request_seconds", "Requests by use case.", ("service", "operation", "status"), unit="seconds",
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30),
)  # fmt: skip
FACTS_PUBLISHED = Counter("remit_facts_published", "Facts the broker has confirmed.", ("service",))
FACTS_APPLIED = Counter("remit_facts_applied", "Facts a consumer has committed.", ("service", "producer"))
FACTS_PARKED = Counter("remit_facts_parked", "Facts a consumer could not apply.", ("service", "producer"))
RELAY_LAG = Gauge("remit_relay_lag_facts", "Facts numbered and not yet confirmed by the broker.", ("service",))
CONSUMER_LAG = Gauge("remit_consumer_lag_facts", "Facts attested and not yet applied.", ("service", "producer"))
COMMANDS_DONE = Counter("remit_commands", "Commands by outcome.", ("service", "command", "outcome"))

_tracers: dict[str, trace.Tracer] = {}
_NO_SPAN = trace.INVALID_SPAN
_ODD = frozenset("13579bdf")


def set_up_telemetry(settings: ServiceSettings) -> None:
    """Start logs, and traces to the OTLP receiver if the settings name one. Once per process and service."""
    set_up_logs(settings.log_format, settings.log_level)
    if settings.otlp_endpoint is None or settings.service in _tracers:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  (slow to import)

    provider = TracerProvider(
        resource=Resource.create({"service.name": f"remit-{settings.service}"}),
        sampler=ParentBased(TraceIdRatioBased(settings.trace_sample_ratio)),
    )
    exporter = OTLPSpanExporter(endpoint=f"{settings.otlp_endpoint.rstrip('/')}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=8192, schedule_delay_millis=1000))
    _tracers[settings.service] = provider.get_tracer("remit")


class _Lines:
    """Standard error, of which a line may be lost: whoever reads it can die before us, and no work fails for that."""

    def write(self, text: str) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.write(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            sys.stderr.flush()


def set_up_logs(log_format: str, level: str = "info") -> None:
    """JSON lines in production, colours on a console; the trace id is in each line."""
    renderer: Any = structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _add_trace_id,
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.WriteLoggerFactory(file=cast("TextIO", _Lines())),
        cache_logger_on_first_use=True,
    )


def logger(**bound: str) -> Any:
    """A logger that carries these fields in each line."""
    return structlog.get_logger(**bound)


def _add_trace_id(_: object, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = f"{context.trace_id:032x}"
    return event


@contextmanager
def span(
    name: str, *, service: str, traceparent: str = "", kind: SpanKind = SpanKind.INTERNAL, **attributes: str | int
) -> Iterator[Span]:
    """A span under the current one, or under `traceparent`; next to free where the trace is not sampled."""
    tracer = _tracers.get(service)
    parent = _parent(traceparent)
    if tracer is None or (parent is not None and not parent.trace_flags.sampled):
        yield _NO_SPAN
        return
    context = None if parent is None else trace.set_span_in_context(NonRecordingSpan(parent))
    with tracer.start_as_current_span(name, context=context, kind=kind, attributes=attributes) as current:
        yield current


@contextmanager
def batch_span(name: str, service: str, traceparents: Iterable[str], **attributes: str | int) -> Iterator[Span]:
    """One span for what many traces share: under the first that is sampled, linked to the others; none without any."""
    tracer = _tracers.get(service)
    traces: dict[int, SpanContext] = {}
    if tracer is not None:
        for traceparent in traceparents:
            # Most are not sampled, which their last digit says: cheaper than reading them.
            context = _parent(traceparent) if traceparent[-1:] in _ODD else None
            if context is not None:
                traces.setdefault(context.trace_id, context)
    if tracer is None or not traces:
        yield _NO_SPAN
        return
    first, *others = traces.values()
    parent = trace.set_span_in_context(NonRecordingSpan(first))
    links = [Link(other) for other in others]
    with tracer.start_as_current_span(name, context=parent, attributes=attributes, links=links) as current:
        yield current


def _parent(traceparent: str) -> SpanContext | None:
    if not traceparent:
        current = trace.get_current_span().get_span_context()
        return current if current.is_valid else None
    parts = traceparent.split("-")
    if len(parts) != 4:
        return None
    try:
        flags = TraceFlags(int(parts[3], 16))
        context = SpanContext(int(parts[1], 16), int(parts[2], 16), is_remote=True, trace_flags=flags)
    except ValueError:
        return None
    return context if context.is_valid else None


def current_traceparent(fallback: str = "") -> str:
    """The W3C header of the current span, for whatever is sent on from here; `fallback` where nothing is recorded."""
    context = trace.get_current_span().get_span_context()
    if not context.is_valid:
        return fallback
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def new_traceparent() -> str:
    """A trace that begins here; unsampled, because nothing here records it."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"


def trace_id(traceparent: str) -> str:
    """The trace id in a W3C header; empty when there is none."""
    parts = traceparent.split("-")
    return parts[1] if len(parts) == 4 else ""


def detach() -> object:
    """Forget the current span: for loops that outlive the request that started them."""
    return otel_context.attach(otel_context.Context())


def bind_log(**fields: str) -> Mapping[str, Any]:
    """Carry these fields in every log line of this task."""
    return structlog.contextvars.bind_contextvars(**fields)
