"""A document as a file to be saved: the same bytes whenever it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from django.http import HttpResponse

from aggregator.lib.errors import unavailable
from billing.documents import kept
from billing.documents.pdf import Untypeset
from billing.models import Document

_FORMS: Final[Mapping[str, tuple[str, Callable[[Document], bytes | str]]]] = {
    "pdf": ("application/pdf", kept.as_pdf),
    "csv": ("text/csv; charset=utf-8", kept.as_csv),
    "json": ("application/json", kept.as_json),
}


def saved(document: Document, form: str) -> HttpResponse:
    """Under the document's number. Raises Refusal where there is no PDF to be had now."""
    type, write = _FORMS[form]
    try:
        answer = HttpResponse(write(document), content_type=type)
    except Untypeset as error:
        raise unavailable("The PDF", retry_after=error.seconds) from error
    answer["Content-Disposition"] = f'attachment; filename="{document.number}.{form}"'
    answer["Cache-Control"] = "private, no-store"
    return answer
