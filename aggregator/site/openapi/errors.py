"""Every `error_type` that the product answers with: its status, what it means, what to do about it.

The types are stable for ever; `tests/site/test_openapi.py` finds each of them where the code raises it.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Error(NamedTuple):
    type: str
    statuses: tuple[int, ...]
    means: str
    do: str
    retry: bool = False
    """Whether the same request may succeed a little later, unchanged."""


_LATER: Final = "Retry after `Retry-After` seconds."

_OF_A_BUDGET: Final = (
    "`metadata` has `limit` and `left` in dollars, `window`, `resets_at` (null: never) and `changed_by`, the "
    "roles that may change it, beside what `insufficient_credits` has."
)

ERRORS: Final = (
    Error(
        "invalid_json",
        (400,),
        "The body is not JSON in UTF-8, or nests too deeply.",
        "Send one JSON object, at most 64 levels deep.",
    ),
    Error(
        "invalid_request",
        (400, 406, 413, 422),
        "A field is missing, has the wrong type or a value out of bounds; `param` names it. With 413 or 422 "
        "the provider refused the request itself, in its own words.",
        "Repair the field that `param` names.",
    ),
    Error(
        "unsupported_parameter",
        (400,),
        "A field would change the price in a way that no price list knows, or reach what is stored at a "
        "provider; `metadata.why` says which.",
        "Leave the field out.",
    ),
    Error(
        "key_in_url",
        (400,),
        "An API key stands in the URL, where logs keep it. It is flagged as exposed.",
        "Send keys in the `Authorization` header alone, and rotate this one.",
    ),
    Error(
        "invalid_idempotency_key",
        (400,),
        "`Idempotency-Key` is empty, too long or not printable.",
        "Send 1 to 255 printable ASCII characters.",
    ),
    Error(
        "missing_key",
        (401,),
        "There is no `Authorization` header with a key.",
        "Send `Authorization: Bearer fl_live_…`.",
    ),
    Error("malformed_key", (401,), "This is not a whole key: its checksum is wrong.", "Copy the whole key."),
    Error("unknown_key", (401,), "Nobody has this key.", "Make one on the keys page."),
    Error(
        "revoked_key",
        (401,),
        "The key was deleted, or rotated and its time is over.",
        "Take the key that replaced it.",
    ),
    Error("disabled_key", (401,), "The key is switched off.", "Enable it on the keys page."),
    Error("expired_key", (401,), "The key's expiry has passed.", "Make a new key, or move its expiry."),
    Error(
        "insufficient_credits",
        (402,),
        "The wallet does not cover what the call can cost at most. `metadata.affordable_tokens` says how "
        "many completion tokens it does cover.",
        "Add credit, or lower `max_tokens`.",
    ),
    Error(
        "key_limit_exceeded",
        (402,),
        f"The key's own spend limit leaves too little. {_OF_A_BUDGET}",
        "Raise the limit, lower `max_tokens`, or wait for `metadata.resets_at`.",
    ),
    Error(
        "member_budget_exceeded",
        (402,),
        f"The budget of the member who made the key leaves too little. {_OF_A_BUDGET}",
        "Raise the member's budget, lower `max_tokens`, or wait for `metadata.resets_at`.",
    ),
    Error(
        "organization_budget_exceeded",
        (402,),
        f"The organization's own budget leaves too little, whatever its credit. {_OF_A_BUDGET}",
        "Raise the budget, lower `max_tokens`, or wait for `metadata.resets_at`.",
    ),
    Error(
        "end_user_budget_exceeded",
        (402,),
        f"The budget of the end user whom `user` names leaves too little. {_OF_A_BUDGET}",
        "Raise the end user's budget, lower `max_tokens`, or wait for `metadata.resets_at`.",
    ),
    Error(
        "account_suspended",
        (402,),
        "The account is suspended, whatever its credit; `metadata.because` says why.",
        "Do what the message says; more credit would not help.",
    ),
    Error(
        "forbidden",
        (403,),
        "This key may not do that.",
        "Use a key of the scope that the operation asks for.",
    ),
    Error(
        "forbidden_scope",
        (403,),
        "The key is of another kind: inference keys call models, management keys manage keys.",
        "Use a key of the scope in `metadata.needed`.",
    ),
    Error(
        "model_not_allowed",
        (403,),
        "The key's list of models leaves out what was asked for.",
        "Ask for a model on the list, or change the list.",
    ),
    Error("not_found", (404,), "There is no such path, call or key.", "Check the address and the id."),
    Error(
        "model_not_found",
        (404,),
        "No model has this id; `metadata.nearest` names the one most like it.",
        "Take an id from `GET /models`.",
    ),
    Error(
        "no_endpoints",
        (404,),
        "The model is there, but the request's demands leave none of its providers. `metadata.constraints` "
        "counts which demand left out how many.",
        "Loosen the demand that `param` names.",
    ),
    Error(
        "content_not_kept",
        (404,),
        "Nothing is kept of what this call said: request logging was off, left it out, or it was deleted.",
        "Switch request logging on under settings, privacy, for the calls to come.",
    ),
    Error(
        "method_not_allowed",
        (405,),
        "The path does not answer to this method.",
        "Use a method from the `Allow` header.",
    ),
    Error(
        "generation_not_kept",
        (410,),
        "Calls of its month are not kept any more. `metadata.month` names it, `metadata.kept_since` the "
        "first that is kept.",
        "Read `GET /usage` or the month's document.",
    ),
    Error("request_timeout", (408,), "The request did not arrive in time.", "Send it faster."),
    Error(
        "deadline_exceeded",
        (408,),
        "The `timeout` that the request chose has passed, or its stream was read too slowly. The prompt and "
        "what was produced until then are charged: `metadata.cost_nanos`.",
        "Ask for less, or allow more time.",
    ),
    Error("deleted_key", (409,), "The key to be changed was deleted in the meantime.", "Take another key."),
    Error(
        "budget_exists",
        (409,),
        "There is a budget for the same, in the same window.",
        "Change that one.",
    ),
    Error(
        "budget_deleted",
        (409,),
        "The budget to be changed was deleted in the meantime.",
        "Set a new one.",
    ),
    Error(
        "idempotency_in_flight",
        (409,),
        "A call with this `Idempotency-Key` is under way.",
        _LATER,
        retry=True,
    ),
    Error(
        "idempotency_answer_not_kept",
        (409,),
        "The call with this `Idempotency-Key` was made and charged, and its answer is not kept.",
        "Look at `GET /generation?id=` with `metadata.generation_id`; to ask again, send another key.",
    ),
    Error("payload_too_large", (413,), "The body is too long.", "Send less, or smaller images."),
    Error(
        "unsupported_media_type", (415,), "The body is not JSON.", "Send `Content-Type: application/json`."
    ),
    Error(
        "idempotency_mismatch",
        (422,),
        "This `Idempotency-Key` came with another body before.",
        "Send each request with a key of its own.",
    ),
    Error(
        "rate_limit_exceeded",
        (429,),
        "The key has made its requests, or its previews, of this minute; `metadata.limit` says how many.",
        "Wait for `Retry-After` seconds, or raise the key's limit of requests.",
        retry=True,
    ),
    Error(
        "too_many_concurrent",
        (429,),
        "Your organization has too many calls under way at once.",
        "Let some of them end first.",
        retry=True,
    ),
    Error(
        "provider_rate_limited",
        (429,),
        "Every provider of this model is at capacity. Nothing was charged.",
        f"{_LATER} Fallback `models` avoid it.",
        retry=True,
    ),
    Error("headers_too_large", (431,), "The headers are too long.", "Send fewer or shorter headers."),
    Error(
        "provider_unavailable",
        (502,),
        "Every provider that was tried failed; `metadata.previous_errors` lists them. Nothing was charged.",
        "Retry; name fallback `models` for when it lasts.",
        retry=True,
    ),
    Error(
        "internal_error",
        (503,),
        "Something went wrong on our side. Nothing was charged.",
        "Retry; if it stays, tell us the id in `metadata.id`.",
        retry=True,
    ),
    Error(
        "service_unavailable",
        (503,),
        "A part of ours is away for a moment. Nothing was charged.",
        _LATER,
        retry=True,
    ),
    Error(
        "overloaded",
        (503,),
        "Too many calls are under way here. Nothing was charged.",
        _LATER,
        retry=True,
    ),
    Error(
        "provider_overloaded",
        (503,),
        "Every provider of this model is overloaded. Nothing was charged.",
        _LATER,
        retry=True,
    ),
    Error(
        "shutting_down",
        (503,),
        "This server is being restarted. Nothing was charged, unless `metadata.cost_nanos` states it.",
        _LATER,
        retry=True,
    ),
    Error(
        "timeout",
        (504,),
        "The provider did not answer in time. Nothing was charged.",
        "Retry; `provider.sort: latency` prefers the quick ones.",
        retry=True,
    ),
)
"""By status, as the API answers them."""

ON_PAGES: Final = frozenset(
    {
        *("already_subscribed", "amount_too_large", "amount_too_small", "cap_too_small", "card_declined"),
        *("insufficient_credit", "invalid_amount", "invalid_threshold", "no_card", "not_refundable"),
        *("not_set", "not_subscribed", "nothing_to_refund", "payment_overdue", "plan_is_agreed"),
        *("same_plan", "too_many_checkouts", "too_many_declines", "unknown_plan"),
        *("already_member", "another_address", "last_owner", "logging_unavailable", "own_factor_first"),
        *("too_many_invitations", "too_many_organizations", "too_many_sessions"),
        *("unknown_invitation", "unknown_member"),
        *("invalid_overlap", "invalid_webhook", "too_many_webhooks", "too_many_webhooks_by_hand"),
        *("unknown_webhook", "webhook_off", "webhook_waits", "webhooks_unavailable"),
    }
)
"""Refusals of forms alone, which show their message at the field: no API path raises one."""

BY_TYPE: Final = {error.type: error for error in ERRORS}

BUDGETS_EXCEEDED: Final = (
    *("key_limit_exceeded", "member_budget_exceeded"),
    *("organization_budget_exceeded", "end_user_budget_exceeded"),
)

ANY_PATH: Final = ("key_in_url", "method_not_allowed", "request_timeout", "headers_too_large")
KEYED: Final = (
    *("missing_key", "malformed_key", "unknown_key", "revoked_key", "disabled_key", "expired_key"),
    *("forbidden", "forbidden_scope", "internal_error", "service_unavailable", "overloaded"),
)
"""What any call with a key may hear."""
