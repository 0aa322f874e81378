"""What a key may be limited to: how much it may spend, over which window, and how often it may call."""

from __future__ import annotations

import re
from decimal import Context, Decimal, InvalidOperation
from typing import Final

WINDOWS: Final = ("total", "day", "week", "month")
"""Windows of a spend limit: UTC, weeks begin on Monday; `total` never starts again."""

NANOS_PER_USD: Final = 1_000_000_000
MOST_NANOS: Final = 2**53 - 1
"""The gate counts in numbers that are exact below 2⁵³."""
MOST_REQUESTS_PER_MINUTE: Final = 1_000_000
MOST_MODELS: Final = 200
MOST_NAME: Final = 80

LOG_DAYS: Final = (1, 90)
"""How long request logs may be kept: at least and at most."""

EXACT: Final = Context(prec=60)

MODEL_ID: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}/(\*|[A-Za-z0-9][A-Za-z0-9._:-]{0,95})")
"""`author/model`, or `author/*` for all of an author's."""


def nanos(usd: Decimal | str | int) -> int:
    """An amount in dollars → whole nano-dollars, exactly. Raises ValueError when it is not one."""
    try:
        amount = Decimal(usd.strip() if isinstance(usd, str) else usd)
    except InvalidOperation as error:
        raise ValueError("must be an amount in dollars, such as 12.50") from error
    if not amount.is_finite() or amount < 0:
        raise ValueError("must be zero or more")
    if amount > MOST_NANOS // NANOS_PER_USD:
        raise ValueError("must be at most 9007199 dollars")
    scaled = EXACT.multiply(amount, Decimal(NANOS_PER_USD))
    if scaled != scaled.to_integral_value() or len(amount.as_tuple().digits) > EXACT.prec - 10:
        raise ValueError("must have at most nine decimal places")
    return int(scaled)


def usd(amount_nanos: int) -> str:
    """Whole nano-dollars → a plain decimal literal in dollars, never with an exponent."""
    whole, rest = divmod(amount_nanos, NANOS_PER_USD)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".") if rest else str(whole)
