"""Who did what: the log as a page, and as a file."""

from __future__ import annotations

import csv
from typing import Final

from django.http import HttpResponse
from django.shortcuts import render
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from accounts import access, audit_log
from accounts.access import MemberRequest
from accounts.core import roles
from aggregator.lib import cursors, spreadsheets

_PAGE: Final = 50
_MOST_EXPORTED: Final = 20_000


@require_safe
@access.member(roles.AUDIT)
def audit(request: MemberRequest) -> HttpResponse:
    owner = request.membership.organization_id
    asked = audit_log.read(request.GET)
    keep = asked.as_query()
    listed = cursors.listed(
        audit_log.entries(owner, asked),
        request.GET,
        sorts={"at": "at"},
        default="-at",
        size=_PAGE,
        keep=keep,
    )
    context = {
        "list": listed,
        "lines": list(audit_log.lines(owner, listed.rows)),
        "asked": asked,
        "actors": audit_log.actors(owner),
        "kinds": audit_log.KINDS.items(),
        "periods": audit_log.PERIODS.items(),
        "filtered": any(keep.values()),
        "query": urlencode({name: value for name, value in keep.items() if value}),
    }
    return render(request, "accounts/audit.html", context)


@require_safe
@access.member(roles.AUDIT)
def audit_csv(request: MemberRequest) -> HttpResponse:
    """What the page shows with these filters, the newest first; so many rows that the filters matter."""
    owner = request.membership.organization_id
    rows = audit_log.entries(owner, audit_log.read(request.GET)).order_by("-at", "-pk")[:_MOST_EXPORTED]
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = 'attachment; filename="audit.csv"'
    writer = csv.writer(answer)
    writer.writerow(["at", "actor", "did", "object", "details"])
    for line in audit_log.lines(owner, rows):
        cells = [line.at.isoformat(), line.actor, line.did, line.object, "; ".join(line.details)]
        writer.writerow([spreadsheets.cell(cell) for cell in cells])
    return answer
