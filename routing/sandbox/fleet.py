"""What the simulated providers offer: models with prices, paces and faults. The sandbox's own price table.

The catalog states the same prices in its files, and a test compares the two; the sandbox's bill is made from
this table alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from routing.sandbox import broken, odd

PER_MILLION = Decimal(1_000_000)


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and where. `after` counts content chunks (or pieces of a plain body) already sent."""

    kind: str
    """`status`, `hang`, `reset`, `error-event`, `no-usage`, `odd-usage`, `malformed`, `slow-headers`,
    `slow-first`, `empty` (no token and no reason to stop), `too-long` (heeds no bound on its answer),
    `truncated` (a clean end without the last event), `cut` (the connection closes inside an answer),
    `flap` (every other call fails, in no order that one could learn), `strange` (see `strange`),
    `flood` (as fast as the other side takes it)."""
    status: int = 200
    after: int = 0
    seconds: float = 0.0
    usage: str = ""
    """`odd-usage`: in which form of `odd` the usage is stated."""
    retry_after: int | None = None
    """Seconds that a `status` asks for; None: the usual ones."""


@dataclass(frozen=True, slots=True)
class Offer:
    """One model at one provider. Prices in USD per million tokens."""

    provider: str
    model: str
    """The upstream name, as it stands in the request."""
    input: Decimal
    output: Decimal
    ttft_ms: float
    tokens_per_second: float
    cache_read: Decimal | None = None
    """Set when this model remembers prompt prefixes and bills them at this price."""
    reasoning_share: int = 0
    """So many reasoning tokens for each 100 of the answer, billed as output."""
    tokens: int = 0
    """A fixed length of answer; 0 leaves it to the prompt."""
    fault: Fault | None = None
    bills_on: bool = False
    """Bills an answer to its end, also when its client has left."""

    def cost(self, *, prompt: int, cached: int, completion: int) -> Decimal:
        """USD, exact: cached tokens lie inside the prompt, reasoning inside the completion."""
        cached_price = self.input if self.cache_read is None else self.cache_read
        return (
            self.input * (prompt - cached) + cached_price * cached + self.output * completion
        ) / PER_MILLION


def _offer(
    provider: str, model: str, prices: tuple[str, str], pace: tuple[int, int], **more: object
) -> Offer:
    return Offer(provider, model, Decimal(prices[0]), Decimal(prices[1]), *pace, **more)  # type: ignore[arg-type]


_OFFERS = [
    # Small: quick and cheap; `auto` only takes it when the customer asks for small models too.
    _offer("sandbox-swift", "pebble", ("0.08", "0.32"), (60, 450)),
    _offer("sandbox-thrift", "pebble", ("0.04", "0.16"), (300, 120)),
    # Standard: cheap and slow, dear and fast, and between them.
    _offer("sandbox-thrift", "harbor", ("0.25", "0.80"), (900, 45)),
    _offer("sandbox-steady", "harbor", ("0.40", "1.40"), (450, 70)),
    _offer("sandbox-swift", "swallow", ("1.50", "6.00"), (60, 600)),
    _offer("sandbox-steady", "meridian", ("0.45", "1.25"), (200, 200), cache_read=Decimal("0.045")),
    _offer("sandbox-deep", "meridian", ("0.60", "1.80"), (350, 150), cache_read=Decimal("0.06")),
    # Frontier: the dearest; one remembers prefixes, one reasons.
    _offer("sandbox-deep", "summit", ("3.00", "15.00"), (700, 80), cache_read=Decimal("0.30")),
    _offer("sandbox-steady", "summit", ("3.20", "16.00"), (500, 90), cache_read=Decimal("0.32")),
    _offer("sandbox-deep", "oracle", ("5.00", "25.00"), (1500, 60), reasoning_share=80),
    # Works on when its client has left, and bills that too.
    _offer("sandbox-unstoppable", "unstoppable", ("0.50", "1.50"), (400, 100), tokens=100, bills_on=True),
    # For benchmarks: an upstream that costs nothing to wait for, and a stream of 100 chunks 5 ms apart.
    _offer("sandbox-bench", "instant", ("0.10", "0.40"), (1, 100_000), tokens=16),
    _offer("sandbox-bench", "stream-100", ("0.10", "0.40"), (5, 200), tokens=100),
]

_FAULTS = {
    "fault-refuse": Fault("status", status=400),
    "fault-401": Fault("status", status=401),
    "fault-402": Fault("status", status=402),
    "fault-403": Fault("status", status=403),
    "fault-404": Fault("status", status=404),
    "fault-429": Fault("status", status=429),
    "fault-500": Fault("status", status=500),
    "fault-503": Fault("status", status=503),
    "fault-hang": Fault("hang"),
    "fault-hang-after-3": Fault("hang", after=3),
    "fault-reset": Fault("reset"),
    "fault-reset-after-3": Fault("reset", after=3),
    "fault-error-event": Fault("error-event", after=3),
    "fault-no-usage": Fault("no-usage"),
    "fault-empty": Fault("empty"),
    "fault-too-long": Fault("too-long"),
    "fault-malformed": Fault("malformed"),
    "fault-malformed-after-3": Fault("malformed", after=3),
    "fault-slow-headers": Fault("slow-headers", seconds=2),
    "fault-slow-first": Fault("slow-first", seconds=12),
    "fault-truncated": Fault("truncated", after=3),
    "fault-cut": Fault("cut", after=3),
    **{f"fault-usage-{form}": Fault("odd-usage", usage=form) for form in (*odd.WELL_STATED, *odd.UNTRUE)},
}
_OFFERS += [
    _offer("sandbox-faults", name, ("0.50", "1.50"), (20, 500), tokens=12, fault=fault)
    for name, fault in _FAULTS.items()
]

_OFFERS.append(
    _offer(
        "sandbox-faults",
        "fault-flood",
        ("0.50", "1.50"),
        (20, 100_000),
        tokens=200_000,
        fault=Fault("flood"),
    )
)

_FLAKY = {
    "flaky": Fault("status", status=500),
    "flaky-429": Fault("status", status=429),
    "flaky-401": Fault("status", status=401),
    "flaky-404": Fault("status", status=404),
    "flaky-reset": Fault("reset"),
}
# Cheaper and faster, so the first choice of each pair by any preference; it fails before its first byte.
for _name, _fault in _FLAKY.items():
    _OFFERS += [
        _offer("sandbox-faults", _name, ("0.20", "0.60"), (50, 400), fault=_fault),
        _offer("sandbox-steady", _name, ("0.40", "1.20"), (150, 200)),
    ]

# No catalog file lists these: a test does, with what it needs beside them.
_OFFERS.append(
    _offer(
        "sandbox-strange", "flapping", ("0.20", "0.60"), (20, 500), fault=Fault("flap", status=500), tokens=4
    )
)
_OFFERS += [
    _offer("sandbox-strange", name, ("0.20", "0.60"), (20, 500), fault=Fault("strange"), tokens=12)
    for name in broken.FORMS
]

OFFERS: dict[tuple[str, str], Offer] = {(offer.provider, offer.model): offer for offer in _OFFERS}
PROVIDERS = tuple(dict.fromkeys(offer.provider for offer in _OFFERS))
