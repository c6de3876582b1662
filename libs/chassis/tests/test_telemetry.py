"""Spans over what several traces share."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chassis import telemetry
from chassis.telemetry import batch_span

FIRST, SECOND, UNSAMPLED = (f"00-{digit * 32}-{digit * 16}-0{sampled}" for digit, sampled in ("a1", "b1", "c0"))


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    telemetry._tracers["probe"] = provider.get_tracer("remit")
    yield exporter
    del telemetry._tracers["probe"]
    provider.shutdown()


def test_a_batch_belongs_to_the_first_sampled_trace_and_is_linked_to_the_others(exporter: InMemorySpanExporter) -> None:
    with batch_span("publish", "probe", [UNSAMPLED, "", FIRST, FIRST, SECOND], facts=5):
        pass
    (span,) = exporter.get_finished_spans()
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x}" == "a" * 32
    assert [f"{link.context.trace_id:032x}" for link in span.links] == ["b" * 32]
    assert span.attributes == {"facts": 5}


def test_a_batch_that_nobody_samples_makes_no_span(exporter: InMemorySpanExporter) -> None:
    with batch_span("publish", "probe", [UNSAMPLED, "", "no traceparent 1"]):
        pass
    assert exporter.get_finished_spans() == ()


def test_a_service_that_records_nothing_does_not_even_look() -> None:
    def never() -> Iterator[str]:
        raise AssertionError("read although nothing records")
        yield ""

    with batch_span("publish", "silent", never()) as span:
        assert not span.is_recording()


def test_a_log_that_nobody_reads_any_more_fails_no_work() -> None:
    """The supervisor reads the services' output and may be killed before them."""
    program = """
import os
from chassis.telemetry import logger, set_up_logs
reads, writes = os.pipe()
os.dup2(writes, 2)
os.close(reads)
set_up_logs("json")
logger().warning("nobody hears this")
print("went on")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout == "went on\n"
