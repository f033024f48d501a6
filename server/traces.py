"""Traces: a span of OpenTelemetry for each request, with its route, its model and its status, if SLUICE_TRACES asks for them.

While they are off, no package of OpenTelemetry is imported, and requests go the way that they went without this file. A span holds
no query string, no credential and nothing of a body.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aiohttp import web

from handlers.http.routes import Around, Handler

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanProcessor
    from opentelemetry.trace import Span, Tracer

# What is not exported this long after the server has stopped is lost: a collector that hangs must not keep the process alive.
FLUSH_S = 1.0


class MissingPackages(Exception):
    """The packages of the extra `otel` are not installed. The message says so in one line."""


@contextlib.contextmanager
def traced(destination: str, around: Around) -> Iterator[Around]:
    """What is to be called around each handler: `around` itself for `none`, else the same within a span. MissingPackages.

    destination  none, console or otlp
    """
    if destination == "none":
        yield around
        return
    try:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider

        processor = _processor(destination)
    except ImportError as error:
        raise MissingPackages(f"SLUICE_TRACES={destination} needs more packages: pip install 'sluice[otel]' ({error})") from None
    # What the variables of OpenTelemetry say comes last, because it holds.
    resource = Resource.create({"service.name": "sluice"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(processor)
    try:
        yield _within_span(provider.get_tracer("sluice"), around)
    finally:
        ending = threading.Thread(target=provider.shutdown, name="end of traces", daemon=True)
        ending.start()
        ending.join(FLUSH_S)


def _processor(destination: str) -> "SpanProcessor":
    """What takes the spans that are over. The console gets each at once, as a line of JSON; a collector gets many at a time."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SimpleSpanProcessor

    if destination == "console":
        return SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stdout, formatter=lambda span: f"{span.to_json(indent=None)}\n"))
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return BatchSpanProcessor(OTLPSpanExporter())


def _within_span(tracer: "Tracer", around: Around) -> Around:
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    async def run(handler: Handler, request: web.Request) -> web.StreamResponse:
        attributes = _attributes(request)
        name = f"{request.method} {attributes['http.route']}" if "http.route" in attributes else request.method
        # The caller's own trace goes on here if its request names one (the header traceparent).
        with tracer.start_as_current_span(name, extract(request.headers), SpanKind.SERVER, attributes) as span:
            response = await around(handler, request)
            _note_status(span, response.status)
            return response

    return run


def _attributes(request: web.Request) -> dict[str, str]:
    """What is known of a request at its start, by the names of OpenTelemetry's conventions where there are some."""
    matched = request.match_info
    attributes = {"http.request.method": request.method}
    if "unknown" not in matched and matched.route.resource is not None:  # an unknown path is no route, and may hold anything
        attributes["http.route"] = matched.route.resource.canonical.rstrip("/") or "/"
    if "owner" in matched and "model" in matched:
        attributes["sluice.model"] = f"{matched['owner']}/{matched['model']}"
    return attributes


def _note_status(span: "Span", status: int) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
