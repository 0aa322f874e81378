"""What the documentation holds: its pages in their order, and its examples. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Final, NamedTuple

from billing.core import pricing
from billing.core.money import usd
from billing.core.usage import Usage


class Doc(NamedTuple):
    slug: str
    """Empty for the first page."""
    title: str
    says: str
    """One sentence under the title."""


DOCS: Final = (
    Doc("", "Quick start", "A key, a call, a streamed answer and what it cost: a minute in all."),
    Doc("models", "Models and auto", "Name a model, or say what matters and read why it was chosen."),
    Doc("streaming", "Streaming", "Tokens as they are written, and the cost in the last chunk."),
    Doc("limits", "Budgets and limits", "Walls for money, rates and time, and retries that never pay twice."),
    Doc("errors", "Errors", "One shape, stable types, and what to do about each."),
    Doc("billing", "What a call costs", "What each ending is charged, and the arithmetic of one receipt."),
    Doc("plans", "Plans and mark-up", "What is added to the provider’s price, and what is given back."),
    Doc("webhooks", "Webhooks", "Hear of budgets and invoices as they happen, in messages you can verify."),
    Doc("privacy", "Privacy", "What is kept of a call, and who may see your prompts."),
    Doc("migration", "Moving here", "From OpenAI, OpenRouter or LiteLLM by changing one line."),
    Doc(
        "reference",
        "API reference",
        "Every path, field, answer and error.",
    ),
)
BY_SLUG: Final[Mapping[str, Doc]] = {doc.slug: doc for doc in DOCS}

LANGUAGES: Final[Mapping[str, str]] = {"curl": "curl", "python": "Python", "javascript": "JavaScript"}
_ALL: Final = tuple(LANGUAGES)
SAMPLES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(("hello", "stream", "choose", "fallbacks", "preview", "cost", "retry", "receipt"), _ALL),
    **dict.fromkeys(("errors", "openai", "openrouter", "litellm"), ("python", "javascript")),
    **dict.fromkeys(("budgets", "keys", "models", "privacy"), ("curl",)),
    "webhook": ("python",),
}
"""Each lies at `templates/site/docs/samples/NAME.LANGUAGE`."""


def around(slug: str) -> tuple[Doc | None, Doc | None]:
    """The pages before and after this one."""
    at = DOCS.index(BY_SLUG[slug])
    return (DOCS[at - 1] if at else None), (DOCS[at + 1] if at + 1 < len(DOCS) else None)


# ── The arithmetic of one receipt ────────────────────────────────────────────────────────────────

_USAGE: Final = Usage(input=1200, output=350)
_PRICE: Final = pricing.parse_price(1, {"input": "2.50", "output": "10"})
_MARKUP: Final = Decimal("0.10")


def receipt() -> dict[str, str]:
    """A call at list prices, priced by the function that prices them all: what each line says."""
    charged = pricing.charge(_USAGE, _PRICE, _MARKUP)
    amounts = {kind: amount for kind, _, amount in charged.parts}
    base = charged.base_nanos
    return {
        "input_tokens": f"{_USAGE.input:,}",
        "output_tokens": f"{_USAGE.output:,}",
        "input_rate": f"{_PRICE.rates.input.normalize():,f}",
        "output_rate": f"{_PRICE.rates.output.normalize():,f}",
        "input_usd": "2.50",
        "input_nanos": f"{amounts['input'].normalize():,f}",
        "output_nanos": f"{amounts['output'].normalize():,f}",
        "base_nanos": f"{base:,}",
        "markup_nanos": f"{charged.nanos - base:,}",
        "markup_percent": f"{(_MARKUP * 100).normalize():f}",
        "cost_nanos": f"{charged.nanos:,}",
        "cost": usd(charged.nanos),
    }
