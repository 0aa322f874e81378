"""The one table of methods and paths under `/api/v1` and `/v1`: which plane serves it, which key may call it.

Both planes' dispatch reads this table, so no path can be served by one and authorised by the other.
"""

from __future__ import annotations

from dataclasses import dataclass

PREFIXES = ("/api/v1", "/v1")

HOOKS = "/hooks/"
"""Beside the table: where others tell us of events. They are known by signatures, not by keys."""
MOST_HOOK_BYTES = 256 * 1024

DATA = "data"
MANAGEMENT = "management"


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str
    """Relative to each of PREFIXES; a part in braces stands for one path segment, or for what
    comes before its ending, as in `{invoice}.pdf`; the first row that fits is meant."""
    plane: str
    scope: str | None
    """The key scope that may call it (`accounts.core.roles.SCOPES`); None is public."""
    name: str


ROUTES = (
    Route("POST", "/chat/completions", DATA, "inference", "chat_completions"),
    Route("POST", "/route", DATA, "inference", "route"),
    Route("POST", "/cost", DATA, "inference", "cost"),
    Route("GET", "/models", DATA, None, "models"),
    Route("GET", "/models/{author}/{slug}", DATA, None, "model"),
    Route("GET", "/models/{author}/{slug}/endpoints", DATA, None, "endpoints"),
    Route("GET", "/openapi.json", MANAGEMENT, None, "openapi"),
    Route("GET", "/generation", MANAGEMENT, "read", "generation"),
    Route("GET", "/generation/content", MANAGEMENT, "read", "generation_content"),
    Route("GET", "/key", MANAGEMENT, "read", "key"),
    Route("GET", "/credits", MANAGEMENT, "read", "credits"),
    Route("GET", "/usage", MANAGEMENT, "management", "usage"),
    Route("GET", "/activity", MANAGEMENT, "management", "activity"),
    Route("GET", "/invoices", MANAGEMENT, "management", "invoices"),
    Route("GET", "/invoices/current", MANAGEMENT, "management", "invoice_current"),
    Route("GET", "/invoices/{invoice}.pdf", MANAGEMENT, "management", "invoice_pdf"),
    Route("GET", "/invoices/{invoice}.csv", MANAGEMENT, "management", "invoice_csv"),
    Route("GET", "/invoices/{invoice}", MANAGEMENT, "management", "invoice"),
    Route("GET", "/keys", MANAGEMENT, "management", "keys"),
    Route("POST", "/keys", MANAGEMENT, "management", "keys"),
    Route("GET", "/keys/{key}", MANAGEMENT, "management", "key_detail"),
    Route("PATCH", "/keys/{key}", MANAGEMENT, "management", "key_detail"),
    Route("DELETE", "/keys/{key}", MANAGEMENT, "management", "key_detail"),
    Route("GET", "/budgets", MANAGEMENT, "management", "budgets"),
    Route("POST", "/budgets", MANAGEMENT, "management", "budgets"),
    Route("GET", "/budgets/{budget}", MANAGEMENT, "management", "budget_detail"),
    Route("PATCH", "/budgets/{budget}", MANAGEMENT, "management", "budget_detail"),
    Route("DELETE", "/budgets/{budget}", MANAGEMENT, "management", "budget_detail"),
)

_EXACT = {
    (route.method, prefix + route.path): route
    for route in ROUTES
    if "{" not in route.path
    for prefix in PREFIXES
}
_PATTERNS = tuple((route, route.path.split("/")) for route in ROUTES if "{" in route.path)


def relative(path: str) -> str | None:
    """The path under its prefix, or None when it lies under neither."""
    for prefix in PREFIXES:
        if path.startswith(prefix + "/"):
            return path[len(prefix) :]
    return None


def find(method: str, path: str) -> Route | None:
    """The route of a whole request path such as `/api/v1/models`; None when the table has none."""
    if method == "HEAD":
        method = "GET"
    route = _EXACT.get((method, path))
    if route is not None:
        return route
    inside = relative(path)
    if inside is None:
        return None
    parts = inside.split("/")
    for candidate, pattern in _PATTERNS:
        if candidate.method == method and _fits(pattern, parts):
            return candidate
    return None


def methods(path: str) -> tuple[str, ...]:
    """The methods that a path answers to, for `405` and its `Allow` header."""
    return tuple(method for method in ("GET", "POST", "PATCH", "DELETE") if find(method, path) is not None)


def _fits(pattern: list[str], parts: list[str]) -> bool:
    return len(pattern) == len(parts) and all(
        wanted == part or (wanted.startswith("{") and _stands_for(wanted, part))
        for wanted, part in zip(pattern, parts, strict=True)
    )


def _stands_for(wanted: str, part: str) -> bool:
    ending = wanted.partition("}")[2]
    return part.endswith(ending) and len(part) > len(ending)
