"""What an operation of the API is: what goes in, what comes out, what can go wrong. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

from aggregator.site.openapi.shapes import Schema


class Parameter(NamedTuple):
    name: str
    place: str
    """`path`, `query` or `header`."""
    says: str
    schema: Schema
    required: bool = False
    example: Any = None


class Operation(NamedTuple):
    tag: str
    summary: str
    says: str
    answer: str
    """The schema of its success."""
    answer_example: Any
    errors: tuple[str, ...] = ()
    """Beside what any path may say, and any with a key."""
    status: int = 200
    body: str | None = None
    body_example: Any = None
    parameters: tuple[Parameter, ...] = ()
    headers: tuple[str, ...] = ()
    """Of its answer, by their names in `headers.HEADERS`."""
    streamed: str | None = None
    """The schema of one event, where the answer may be a stream."""
    media: str = "application/json"
    """Of its answer."""
