"""What each row of `aggregator.planes` does: one operation a method and path."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from aggregator.site.openapi import budgets, examples, invoices, usage
from aggregator.site.openapi.described import Operation, Parameter
from aggregator.site.openapi.errors import ANY_PATH, BUDGETS_EXCEEDED, KEYED
from aggregator.site.openapi.shapes import one_of, text, whole
from billing.explorer import asking

CALLS, CATALOG, ACCOUNT, USAGE = "Calls", "Models", "Account", "Usage"
KEYS, BUDGETS = "Keys", "Budgets"
TAGS: Final = {
    CALLS: "Ask a model, or ask where a call would go. With an inference key.",
    CATALOG: "What there is, who hosts it, what it costs, how it does right now. For anybody.",
    ACCOUNT: "What a call cost, what is left. With any key.",
    USAGE: "What was used, by whatever it can be told by. With a management key.",
    invoices.TAG: "Statements, invoices and credit notes, and the month that runs. With a management key.",
    KEYS: "Make, change and delete inference keys. With a management key.",
    BUDGETS: "Hard limits of the organization, its members and its end users. With a management key.",
}

_MODEL: Final = (
    Parameter("author", "path", "The part of the id before the slash.", text(), True, "sandbox"),
    Parameter("slug", "path", "The part after it.", text(), True, "harbor"),
)
_KEY: Final = (Parameter("key", "path", "The key's id.", text(), True, "key_PvwCNuo0YbhlA0QD"),)
_BUDGET: Final = (Parameter("budget", "path", "The budget's id.", text(), True, budgets.EXAMPLE["id"]),)
_GENERATION: Final = Parameter(
    "id",
    "query",
    "The `id` of the answer, or its header `X-Generation-Id`.",
    text(pattern="^gen-[0-9a-f]{32}$"),
    True,
    examples.GENERATION_ID,
)
_SESSION: Final = Parameter(
    "X-Session-Id", "header", "Names the conversation, as `session_id` does.", text(maxLength=256)
)
_IDEMPOTENCY: Final = Parameter(
    "Idempotency-Key",
    "header",
    "The same request again with the same key has the same answer again, for 24 hours, and is charged once.",
    text(minLength=1, maxLength=255),
)
_BODY: Final = ("invalid_json", "invalid_request", "payload_too_large")
_CHOOSING: Final = (
    *(*_BODY, "unsupported_parameter"),
    *("model_not_allowed", "model_not_found", "no_endpoints", "too_many_concurrent", "shutting_down"),
)
_LOOKING: Final = (*_CHOOSING, "rate_limit_exceeded")
_CALLING: Final = (
    *_CHOOSING,
    *("insufficient_credits", *BUDGETS_EXCEEDED, "account_suspended", "deadline_exceeded"),
    *("rate_limit_exceeded", "provider_rate_limited", "provider_unavailable", "provider_overloaded"),
    *("timeout", "invalid_idempotency_key", "idempotency_in_flight", "idempotency_answer_not_kept"),
    "idempotency_mismatch",
)
_USAGE: Final = (
    Parameter(
        "group_by",
        "query",
        f"One of {', '.join(f'`{name}`' for name in asking.GROUPS)}, or two with a comma. `end_user` goes "
        "alone, or with `day` or `month`.",
        text(),
        False,
        "day,model",
    ),
    Parameter(
        "from",
        "query",
        "A day or a whole hour, UTC. By default a day ago by `hour`, 30 days ago by `day`, else a year ago. "
        "At most 31 days by `hour`, 400 by `day`, 1,100 else; 7 and 92 where hours or days are told by key "
        "or member as well.",
        text(),
        False,
        "2026-11-01",
    ),
    Parameter(
        "to", "query", "A day, which is included, or a whole hour, which is not.", text(), False, "2026-11-30"
    ),
    Parameter("model", "query", "Of this model alone.", text(), False, "sandbox/harbor"),
    Parameter("provider", "query", "Of this provider alone.", text()),
    Parameter("endpoint", "query", "Of this endpoint alone.", text()),
    Parameter("key", "query", "Of the key with this id alone.", text()),
    Parameter("member", "query", "Of the keys that this member made, by e-mail address.", text()),
    Parameter("end_user", "query", "Of the calls with this `user` alone.", text()),
    Parameter(
        "sort",
        "query",
        "With a minus, the largest first. By `name` no line is skipped or comes twice, whatever is called "
        "meanwhile; by a figure, a line that grows may.",
        one_of([f"{sign}{name}" for name in asking.SORTS for sign in ("", "-")]),
        False,
        "-charge",
    ),
    Parameter("limit", "query", "How many lines.", whole(minimum=1, maximum=asking.MOST_LINES), False, 100),
    Parameter("after", "query", "The `next` of the page before.", text()),
)
_ACTIVITY: Final = (
    Parameter("date", "query", "One of those days alone.", text(), False, "2026-11-22"),
    Parameter("api_key_hash", "query", "Of the key with this id alone.", text()),
    Parameter("user_id", "query", "Of the keys that this member made, by e-mail address.", text()),
)
_TYPED: Final = (*_BODY, "unsupported_media_type")

OPERATIONS: Final[Mapping[tuple[str, str], Operation]] = {
    ("POST", "chat_completions"): Operation(
        CALLS,
        "Ask a model",
        "OpenAI's chat completion. Name a model, or `auto` and what matters. With `stream` the answer comes "
        "as server-sent events: chunks, a last chunk with the usage and its cost, `[DONE]`. An error after "
        "the first byte is the last event.",
        "ChatCompletion",
        examples.COMPLETION,
        errors=_CALLING,
        body="ChatRequest",
        body_example=examples.CHAT_REQUEST,
        parameters=(_IDEMPOTENCY, _SESSION),
        headers=(
            *("X-Generation-Id", "X-Fairlead-Endpoint", "X-Fairlead-Preference", "X-Fairlead-Reason"),
            *("X-Fairlead-Predicted-Cost", "X-Fairlead-Attempts", "X-Fairlead-Max-Tokens"),
            *("X-RateLimit-Limit", "X-RateLimit-Remaining", "Idempotent-Replayed"),
        ),
        streamed="ChatCompletionChunk",
    ),
    ("POST", "route"): Operation(
        CALLS,
        "Preview a route",
        "Takes the body of a call, and answers where it would go, why, and what it would cost. Calls nobody "
        "and is free; wallet and the calls' rate limit are not asked. Previews have a limit of their own a "
        "key and minute, which `POST /cost` shares.",
        "RoutePreview",
        examples.PREVIEW,
        errors=_LOOKING,
        body="ChatRequest",
        body_example=examples.CHAT_REQUEST,
        parameters=(_SESSION,),
    ),
    ("POST", "cost"): Operation(
        CALLS,
        "Price a usage",
        "What so many tokens cost at every endpoint of a model that this key may use, the cheapest first, "
        "with your mark-up. State them as `usage`, or send the body of a call: its prompt is estimated then, "
        "its answer taken to be as long as it may become. The same function prices calls. Free.",
        "CostAnswer",
        examples.COST,
        errors=_LOOKING,
        body="CostRequest",
        body_example=examples.COST_REQUEST,
        parameters=(_SESSION,),
    ),
    ("GET", "models"): Operation(
        CATALOG,
        "List the models",
        "Every model that can be called now, with its price and who hosts it.",
        "ModelList",
        {"data": [examples.MODEL]},
    ),
    ("GET", "model"): Operation(
        CATALOG,
        "Read one model",
        "One model of the list.",
        "OneModel",
        examples.ONE_MODEL,
        errors=("model_not_found",),
        parameters=_MODEL,
    ),
    ("GET", "endpoints"): Operation(
        CATALOG,
        "List a model's endpoints",
        "Who hosts a model: prices, data policies, and latency, throughput and uptime of live calls.",
        "EndpointList",
        examples.ENDPOINTS,
        errors=("model_not_found",),
        parameters=_MODEL,
    ),
    ("GET", "openapi"): Operation(
        CATALOG,
        "Read this description",
        "The whole API as an OpenAPI 3.1 document. It has an `ETag`.",
        "Description",
        {"openapi": "3.1.0", "info": {"title": "Fairlead"}},
        headers=("ETag",),
    ),
    ("GET", "generation_content"): Operation(
        ACCOUNT,
        "Read what a call said",
        "Messages and completion of one call, where your organization has its requests logged. An inference "
        "key reads its own calls, a management key those of the whole organization; each reading stands in "
        "the audit log.",
        "ContentAnswer",
        {"data": examples.CONTENT},
        errors=("invalid_request", "not_found", "content_not_kept", "generation_not_kept"),
        parameters=(_GENERATION,),
    ),
    ("GET", "generation"): Operation(
        ACCOUNT,
        "Read a call's receipt",
        "What one call of your organization used and cost, with the price arithmetic and the decision. It is "
        "there as soon as the answer has ended.",
        "GenerationAnswer",
        {"data": examples.GENERATION},
        errors=("invalid_request", "not_found", "generation_not_kept"),
        parameters=(_GENERATION,),
    ),
    ("GET", "key"): Operation(
        ACCOUNT,
        "Read the calling key",
        "Its limits, and what it has used of them.",
        "KeyStateAnswer",
        {"data": examples.KEY_STATE},
    ),
    ("GET", "credits"): Operation(
        ACCOUNT,
        "Read the credit",
        "Everything ever put into the wallet, everything ever charged, and what is left.",
        "CreditsAnswer",
        {"data": examples.CREDITS},
    ),
    ("GET", "usage"): Operation(
        USAGE,
        "Sum up the usage",
        "Requests, tokens and what they cost, by time, model, provider, endpoint, key, member or end user. "
        "Calls count from the second that they ended.",
        "UsageAnswer",
        usage.ANSWER,
        errors=("invalid_request",),
        parameters=_USAGE,
    ),
    ("GET", "activity"): Operation(
        USAGE,
        "Read the last 30 days",
        "The last 30 days that are over, by model and endpoint, in OpenRouter's shape.",
        "ActivityAnswer",
        {"data": [usage.ACTIVITY]},
        errors=("invalid_request",),
        parameters=_ACTIVITY,
    ),
    **invoices.OPERATIONS,
    ("GET", "keys"): Operation(
        KEYS,
        "List the keys",
        "The organization's inference keys, newest first.",
        "ApiKeyList",
        {"data": [examples.API_KEY]},
        errors=("invalid_request",),
        parameters=(Parameter("offset", "query", "How many to leave out.", whole(minimum=0), False, 0),),
    ),
    ("POST", "keys"): Operation(
        KEYS,
        "Make a key",
        "The key's text stands in `key`, this once.",
        "NewApiKeyAnswer",
        {"data": examples.API_KEY, "key": "fl_live_…"},
        errors=_TYPED,
        status=201,
        body="NewApiKey",
        body_example=examples.NEW_KEY,
    ),
    ("GET", "key_detail"): Operation(
        KEYS,
        "Read a key",
        "One key of the list.",
        "ApiKeyAnswer",
        {"data": examples.API_KEY},
        errors=("not_found",),
        parameters=_KEY,
    ),
    ("PATCH", "key_detail"): Operation(
        KEYS,
        "Change a key",
        "Only what is sent is changed. It is in force at the next call, everywhere.",
        "ApiKeyAnswer",
        {"data": examples.API_KEY},
        errors=(*_TYPED, "not_found", "deleted_key"),
        body="ApiKeyChange",
        body_example={"limit": 50, "limit_reset": "monthly"},
        parameters=_KEY,
    ),
    ("DELETE", "key_detail"): Operation(
        KEYS,
        "Delete a key",
        "It is refused from the next call on. Its calls stay in your books.",
        "Deleted",
        {"deleted": True},
        errors=("not_found", "deleted_key"),
        parameters=_KEY,
    ),
    ("GET", "budgets"): Operation(
        BUDGETS,
        "List the budgets",
        "Each with what is used of it and what is left. Spend limits of keys stand with the keys.",
        "BudgetList",
        {"data": [budgets.EXAMPLE]},
        errors=("invalid_request",),
        parameters=(Parameter("offset", "query", "How many to leave out.", whole(minimum=0), False, 0),),
    ),
    ("POST", "budgets"): Operation(
        BUDGETS,
        "Set a budget",
        "In force at the next call, everywhere; what was used in the running window counts. A budget of one "
        "member or end user stands in place of the one that each of them has.",
        "BudgetAnswer",
        {"data": budgets.EXAMPLE},
        errors=(*_TYPED, "budget_exists"),
        status=201,
        body="NewBudget",
        body_example=budgets.NEW_EXAMPLE,
    ),
    ("GET", "budget_detail"): Operation(
        BUDGETS,
        "Read a budget",
        "One budget of the list.",
        "BudgetAnswer",
        {"data": budgets.EXAMPLE},
        errors=("not_found",),
        parameters=_BUDGET,
    ),
    ("PATCH", "budget_detail"): Operation(
        BUDGETS,
        "Change a budget",
        "Only what is sent is changed. It is in force at the next call, everywhere.",
        "BudgetAnswer",
        {"data": budgets.EXAMPLE},
        errors=(*_TYPED, "not_found", "budget_deleted"),
        body="BudgetChange",
        body_example={"limit": 50},
        parameters=_BUDGET,
    ),
    ("DELETE", "budget_detail"): Operation(
        BUDGETS,
        "Delete a budget",
        "It refuses nothing from the next call on.",
        "Deleted",
        {"deleted": True},
        errors=("not_found", "budget_deleted"),
        parameters=_BUDGET,
    ),
}
"""By method and the route's name."""


def heard(operation: Operation, scope: str | None) -> tuple[str, ...]:
    """Every error type that an operation may answer with."""
    keyed = KEYED if scope is not None else ("internal_error", "service_unavailable")
    return tuple(dict.fromkeys((*operation.errors, *keyed, *ANY_PATH)))
