"""Forms of HOW MUCH: they read the amounts that a person typed; the rules are in the verbs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django import forms

from accounts.models import User
from aggregator.lib.errors import Refusal
from billing.core.money import NANOS_PER_CENT, Nanos, nanos_of_cents, parse_usd, show_usd, usd
from billing.models.payments import LEAST_TOP_UP_CENTS, MOST_TOP_UP_CENTS

OTHER: Final = "other"
MOST_ADDRESS_LINES: Final = 6
_LONGEST: Final = 30
PRESETS: Final = ("10", "25", "50", "100", "500")
_BOUNDS: Final = f"from ${LEAST_TOP_UP_CENTS // 100:,} to ${MOST_TOP_UP_CENTS // 100:,}"


class Dollars(forms.Field):
    """An exact amount such as `25`, `$1,250.50`; cleaned to nano-dollars, None when left empty."""

    def __init__(self, **options: Any) -> None:
        widget = forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off", "maxlength": _LONGEST})
        super().__init__(widget=widget, **options)

    def to_python(self, value: Any) -> Any:
        text = str(value or "").strip().removeprefix("$").replace(",", "").strip()
        if not text:
            return None
        try:
            return parse_usd(text)
        except ValueError as error:
            raise forms.ValidationError("Write an amount in dollars, such as 25 or 12.50.") from error


class Cents(Dollars):
    """An amount that a card can be charged: whole cents, within the bounds of a top-up."""

    def clean(self, value: Any) -> Any:
        nanos = super().clean(value)
        if nanos is None:
            return None
        if nanos % NANOS_PER_CENT:
            raise forms.ValidationError("A card is charged in whole cents.")
        cents = nanos // NANOS_PER_CENT
        if not LEAST_TOP_UP_CENTS <= cents <= MOST_TOP_UP_CENTS:
            raise forms.ValidationError(f"Choose an amount {_BOUNDS}; {show_usd(nanos)} is not.")
        return cents


class _Refusable(forms.Form):
    """Several forms stand on one page, so each has names of its own for the ids of its fields."""

    ids = ""

    def __init__(self, data: Any = None, *, initial: dict[str, Any] | None = None) -> None:
        super().__init__(data, initial=initial, auto_id=f"{self.ids}_%s")

    def refuse(self, refusal: Refusal) -> None:
        """Show a refusal at the field that it names, or above the form."""
        self.add_error(refusal.param if refusal.param in self.fields else None, refusal.message)


class TopUpForm(_Refusable):
    """How much credit to buy: one of the usual amounts, or another."""

    ids = "buy"

    preset = forms.ChoiceField(
        label="Amount",
        choices=[*((amount, f"${amount}") for amount in PRESETS), (OTHER, "Other")],
        initial="25",
        widget=forms.RadioSelect,
    )
    cents = Cents(label="Other amount, USD", required=False, help_text=f"Any amount {_BOUNDS}.")
    save_card = forms.BooleanField(
        label="Keep the card for automatic top-ups",
        required=False,
        help_text="Stripe keeps it; it is charged only once you turn them on.",
    )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if cleaned.get("preset") in PRESETS:
            cleaned["cents"] = int(cleaned["preset"]) * 100
            self.errors.pop("cents", None)
        elif cleaned.get("preset") == OTHER and cleaned.get("cents") is None and "cents" not in self.errors:
            self.add_error("cents", f"Write an amount {_BOUNDS}.")
        return cleaned


class AutoTopUpForm(_Refusable):
    """When the saved card is charged by itself, how much at once, and at most in a month."""

    ids = "auto"

    enabled = forms.BooleanField(
        label="Top up by itself", required=False, help_text="Your saved card is charged when credit runs low."
    )
    threshold = Dollars(label="When below, USD")
    cents = Cents(label="Buy, USD", help_text=f"Each time, {_BOUNDS}.")
    monthly_cap = Dollars(
        label="At most a month, USD",
        help_text="By itself, in a calendar month (UTC); what you buy by hand is not counted.",
    )

    def clean_threshold(self) -> Nanos:
        nanos: Nanos = self.cleaned_data["threshold"]
        if nanos < 0:
            raise forms.ValidationError("The least is 0.")
        return nanos

    def clean_monthly_cap(self) -> int:
        """In cents."""
        nanos: Nanos = self.cleaned_data["monthly_cap"]
        if nanos < 0 or nanos % NANOS_PER_CENT:
            raise forms.ValidationError("Write whole cents, zero or more.")
        return nanos // NANOS_PER_CENT

    def values(self) -> dict[str, Any]:
        """As `auto_top_ups.set` takes them."""
        cleaned = self.cleaned_data
        return {
            "enabled": cleaned["enabled"],
            "threshold_nanos": cleaned["threshold"],
            "cents": cleaned["cents"],
            "monthly_cap_cents": cleaned["monthly_cap"],
        }


class Percents(forms.Field):
    """Thresholds such as `50, 80, 100`; cleaned to whole percents. Empty: none."""

    def __init__(self, **options: Any) -> None:
        widget = forms.TextInput(attrs={"autocomplete": "off", "maxlength": 60})
        super().__init__(widget=widget, required=False, **options)

    def to_python(self, value: Any) -> list[int]:
        parts = str(value or "").replace("%", " ").replace(",", " ").replace(";", " ").split()
        if not all(part.isascii() and part.isdigit() and len(part) <= 3 for part in parts):
            raise forms.ValidationError("Write whole percentages, such as 50, 80, 100.")
        return [int(part) for part in parts]


class BudgetChangeForm(_Refusable):
    """How high a budget is, and when people are told."""

    ids = "budget"

    limit = Dollars(
        label="Limit, USD",
        help_text="Calls that could go over it are refused before they start. 0 refuses all.",
    )
    thresholds = Percents(
        label="Tell at, % of the limit",
        help_text="By e-mail and webhook, once each in a window. Empty: never.",
    )

    def refuse(self, refusal: Refusal) -> None:
        """As a sentence, at the field that it names."""
        said = str(refusal.metadata.get("reason", refusal.message))
        name = refusal.param if refusal.param in self.fields else None
        self.add_error(name, said[:1].upper() + said[1:].rstrip(".") + ".")

    def values(self) -> dict[str, Any]:
        """As `limits.change` takes them."""
        return {"limit_nanos": self.cleaned_data["limit"], "thresholds": self.cleaned_data["thresholds"]}


class BudgetForm(BudgetChangeForm):
    """A new budget: whose, and in which window."""

    kind = forms.ChoiceField(
        label="For",
        choices=[
            ("organization", "The organization: all of its calls together"),
            ("member", "Members: the calls of the keys that each has made"),
            ("end_user", "End users: the calls that name them as “user”"),
        ],
        widget=forms.RadioSelect,
        initial="organization",
    )
    member = forms.ChoiceField(
        label="Which member",
        required=False,
        help_text="A budget of one member stands in place of the one that every member has.",
    )
    end_user = forms.CharField(
        label="Which end user",
        required=False,
        max_length=256,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="As your calls name them. Empty: every end user, and each has it.",
    )
    window = forms.ChoiceField(
        label="It counts",
        choices=[
            ("day", "Each day"),
            ("week", "Each week, from Monday"),
            ("month", "Each month"),
            ("total", "In total, for ever"),
        ],
        initial="month",
        help_text="In UTC, by when a call was admitted.",
    )

    field_order = ("kind", "member", "end_user", "limit", "window", "thresholds")

    def __init__(
        self,
        data: Any = None,
        *,
        members: Mapping[int, tuple[User, str]],
        initial: dict[str, Any] | None = None,
    ) -> None:
        """`members`: the id of a membership → whose it is, and their address."""
        super().__init__(data, initial={"thresholds": "50, 80, 100", **(initial or {})})
        self._members = members
        chosen = [(str(pk), email) for pk, (_, email) in members.items()]
        self.fields["member"].choices = [("", "Every member, and each has it"), *chosen]  # type: ignore[attr-defined]

    def values(self) -> dict[str, Any]:
        """As `limits.set_budget` takes them; what belongs to another kind is left out."""
        cleaned = self.cleaned_data
        kind, member = cleaned["kind"], cleaned["member"]
        return {
            **super().values(),
            "kind": kind,
            "window": cleaned["window"],
            "member": self._members[int(member)][0] if kind == "member" and member else None,
            "end_user": cleaned["end_user"] if kind == "end_user" else "",
        }


class LowCreditForm(_Refusable):
    """Whether people are told that credit runs low, and below what."""

    ids = "low"

    is_on = forms.BooleanField(label="Alert when credit runs low", required=False)
    threshold = Dollars(label="When below, USD", required=False)

    def clean_threshold(self) -> Nanos | None:
        nanos: Nanos | None = self.cleaned_data["threshold"]
        if nanos is not None and nanos <= 0:
            raise forms.ValidationError("Write an amount above zero, or leave it empty.")
        return nanos


class BillingProfileForm(_Refusable):
    """Who documents are for. Empty fields are left out of them."""

    ids = "profile"

    name = forms.CharField(
        label="Name",
        max_length=200,
        required=False,
        help_text="As it must stand there. Empty: the organization’s name.",
    )
    address = forms.CharField(
        label="Address",
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 4, "autocomplete": "street-address"}),
    )
    tax_id = forms.CharField(label="Tax ID", max_length=40, required=False, help_text="Such as a VAT number.")
    reference = forms.CharField(
        label="Your reference",
        max_length=60,
        required=False,
        help_text="Such as the number of a purchase order.",
    )
    email = forms.EmailField(
        label="E-mail for invoices",
        required=False,
        help_text="Every document is sent there as a PDF, once a link that we send there is followed."
        " Empty: to those who look after billing.",
    )

    def clean_address(self) -> str:
        lines = [line.strip() for line in self.cleaned_data["address"].splitlines()]
        found = "\n".join(line for line in lines if line)
        if found.count("\n") >= MOST_ADDRESS_LINES:
            raise forms.ValidationError(f"At most {MOST_ADDRESS_LINES} lines.")
        return found


def shown(*, enabled: bool, threshold_nanos: Nanos, cents: int, monthly_cap_cents: int) -> dict[str, Any]:
    """What the form of automatic top-ups holds before anybody types."""
    return {
        "enabled": enabled,
        "threshold": usd(threshold_nanos),
        "cents": usd(nanos_of_cents(cents)),
        "monthly_cap": usd(nanos_of_cents(monthly_cap_cents)),
    }
