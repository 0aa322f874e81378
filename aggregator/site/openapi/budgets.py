"""What `/budgets` takes and answers."""

from __future__ import annotations

from typing import Any, Final

from aggregator.site.openapi.shapes import (
    Schema,
    asked,
    data,
    flag,
    moment,
    nanos,
    number,
    one_of,
    or_null,
    ref,
    several,
    text,
    thing,
    usd,
    whole,
)

_KINDS: Final = ("organization", "member", "end_user")
_WINDOWS: Final = ("day", "week", "month", "total")
_AMOUNT: Final[Schema] = {
    "description": "Dollars, as a number or as text. 0 refuses every call.",
    "anyOf": [number(minimum=0), text(pattern=r"^[0-9]*\.?[0-9]+$")],
}
_THRESHOLDS: Final = several(
    whole(minimum=1, maximum=100),
    "In percent of the limit: when people and webhooks are told, once each in a window.",
    maxItems=10,
)
_OWN: Final[dict[str, Schema]] = {
    "member": or_null(text("Their e-mail address.")),
    "end_user": or_null(text("As `user` of your calls names them.")),
}

BUDGET: Final = thing(
    {
        "id": text(pattern="^bud_"),
        "kind": one_of(_KINDS, "Whose calls it limits."),
        **_OWN,
        "each": flag("Every member, or every end user, has it for themselves."),
        "window": one_of(_WINDOWS, "In UTC, by when a call was admitted; a week begins on Monday."),
        "limit": usd("In dollars."),
        "limit_nanos": nanos("The same in whole billionths."),
        "thresholds": _THRESHOLDS,
        "used": or_null(
            usd("In the window of now, without what calls under way hold. Null where each has it.")
        ),
        "left": or_null(usd("The rest of the limit.")),
        "resets_at": or_null(moment("When the window ends; null never.")),
        "fullest": several(
            thing({**_OWN, "used": usd(), "left": usd()}),
            "Where each has it: those who used most of it, at most ten.",
        ),
        "created_at": moment(),
    },
    "A hard limit: a call that could go over it is refused before it starts.",
)

SCHEMAS: Final = {
    "Budget": BUDGET,
    "BudgetAnswer": data(ref("Budget")),
    "BudgetList": data(
        several(ref("Budget"), "The organization's, then members', then end users'; 100 at a time.")
    ),
    "NewBudget": asked(
        {
            "kind": one_of(_KINDS),
            "member": or_null(text("The address of a member; left out, every member has it.", maxLength=254)),
            "end_user": or_null(text("Left out, every end user has it.", maxLength=256)),
            "window": one_of(_WINDOWS),
            "limit": _AMOUNT,
            "thresholds": {**_THRESHOLDS, "default": [50, 80, 100]},
        },
        "A budget to be set.",
        needed=("kind", "window", "limit"),
        additionalProperties=False,
    ),
    "BudgetChange": asked(
        {"limit": _AMOUNT, "thresholds": _THRESHOLDS},
        "Only what is sent is changed.",
        additionalProperties=False,
    ),
}

NEW_EXAMPLE: Final[dict[str, Any]] = {
    "kind": "member",
    "window": "month",
    "limit": 25,
    "thresholds": [80, 100],
}
EXAMPLE: Final[dict[str, Any]] = {
    "id": "bud_7Yc2mQ0aVt4Zx1Lk",
    "kind": "member",
    "member": None,
    "end_user": None,
    "each": True,
    "window": "month",
    "limit": 25,
    "limit_nanos": 25_000_000_000,
    "thresholds": [80, 100],
    "used": None,
    "left": None,
    "resets_at": "2026-12-01T00:00:00Z",
    "fullest": [{"member": "ada@example.com", "end_user": None, "used": 21.5, "left": 3.5}],
    "created_at": "2026-11-23T10:01:11.829088Z",
}
