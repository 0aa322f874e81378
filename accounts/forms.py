"""Forms of WHO: they read what a person typed; the rules are in `accounts.keys`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from django import forms

from accounts import keys
from accounts.core import limits, roles
from accounts.models import Key, Membership, WebhookEndpoint
from accounts.webhooks import endpoints, events
from aggregator.lib import egress
from aggregator.lib.errors import Refusal

_WINDOW_WORDS: Final = (
    ("total", "In total, for ever"),
    ("day", "Each day"),
    ("week", "Each week, from Monday"),
    ("month", "Each month"),
)
_SCOPE_WORDS: Final = (
    (roles.INFERENCE, "Inference: calls models"),
    (roles.MANAGEMENT, "Management: creates and changes inference keys by API, calls no model"),
)
_MINUTE: Final = "%Y-%m-%dT%H:%M"


class KeyForm(forms.Form):
    """Create or change a key."""

    name = forms.CharField(
        max_length=limits.MOST_NAME, help_text="What it is for, such as “production web” or “Ada's laptop”."
    )
    scope = forms.ChoiceField(choices=_SCOPE_WORDS, widget=forms.RadioSelect, initial=roles.INFERENCE)
    expires_at = forms.DateTimeField(
        label="Expires at (UTC)",
        required=False,
        input_formats=[_MINUTE, "%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M:%S"],
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format=_MINUTE),
        help_text="Empty: never.",
    )
    limit = forms.CharField(
        label="Spend limit, USD",
        required=False,
        max_length=30,
        widget=forms.TextInput(attrs={"inputmode": "decimal"}),
        help_text="Calls that could go over it are refused before they start. Empty: no limit of its own.",
    )
    limit_window = forms.ChoiceField(label="The limit counts", choices=_WINDOW_WORDS, initial="total")
    requests_per_minute = forms.IntegerField(
        label="Requests per minute",
        required=False,
        min_value=1,
        max_value=limits.MOST_REQUESTS_PER_MINUTE,
        help_text="Empty: no rate limit of its own.",
    )
    allowed_models = forms.CharField(
        label="Allowed models",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        help_text="One id a line, such as openai/gpt-5-mini. Empty: all. “auto” then chooses among them.",
    )

    def __init__(self, data: Any = None, *, membership: Membership, key: Key | None = None) -> None:
        super().__init__(data, initial=_shown(key) if key else None)
        if key is not None or not membership.may(roles.KEYS_MANAGEMENT):
            del self.fields["scope"]

    def clean_limit(self) -> int | None:
        text = self.cleaned_data["limit"].strip().removeprefix("$").replace(",", "")
        if not text:
            return None
        try:
            return limits.nanos(text)
        except ValueError as error:
            raise forms.ValidationError(str(error).capitalize() + ".") from error

    def clean_allowed_models(self) -> list[str]:
        text: str = self.cleaned_data["allowed_models"]
        return text.replace(",", " ").split()

    def values(self, *, only_changed: bool = False) -> dict[str, Any]:
        """The fields as `accounts.keys` takes them."""
        names = self.changed_data if only_changed else list(self.fields)
        return {
            {"limit": "limit_nanos"}.get(name, name): self.cleaned_data[name]
            for name in names
            if name in self.cleaned_data
        }

    def refuse(self, refusal: Refusal) -> None:
        """Show a refusal at the field that it names."""
        field = refusal.param if refusal.param in self.fields else None
        reason = str(refusal.metadata.get("reason", refusal.message))
        self.add_error(field, reason[:1].upper() + reason[1:].rstrip(".") + ".")


class RotateForm(forms.Form):
    """How long the older key goes on working."""

    overlap = forms.TypedChoiceField(
        label="The older key stops",
        choices=list(keys.OVERLAPS.items()),
        coerce=lambda hours: timedelta(hours=int(hours)),
        initial=24,
        widget=forms.RadioSelect,
    )


class OrganizationForm(forms.Form):
    """Name an organization."""

    name = forms.CharField(label="Name", max_length=limits.MOST_NAME)

    def refuse(self, refusal: Refusal) -> None:
        self.add_error(None, refusal.message)


class ProfileForm(forms.Form):
    """How one wants to be called."""

    name = forms.CharField(
        label="Name",
        max_length=limits.MOST_NAME,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
        help_text="Other members of your organizations see it. Empty: they see your e-mail.",
    )


class InvitationForm(forms.Form):
    """Whom to invite, as what."""

    email = forms.EmailField(label="E-mail", max_length=254)

    def __init__(self, data: Any = None, *, membership: Membership) -> None:
        super().__init__(data, initial={"role": roles.MEMBER})
        self.fields["role"] = forms.ChoiceField(label="Role", choices=_role_choices(membership))

    def refuse(self, refusal: Refusal) -> None:
        self.add_error(refusal.param if refusal.param in self.fields else None, refusal.message)


class RoleForm(forms.Form):
    """Another role for a member."""

    def __init__(self, data: Any = None, *, membership: Membership, of: Membership) -> None:
        super().__init__(data, initial={"role": of.role})
        choices = _role_choices(membership)
        self.fields["role"] = forms.ChoiceField(label="Role", choices=choices, widget=forms.RadioSelect)


class RemovalForm(forms.Form):
    """What becomes of the keys of who is removed: a choice that nobody makes by leaving it as it is."""

    keys = forms.ChoiceField(
        label="The keys that they made",
        choices=[
            ("disable", "Disable them: calls with them are refused at once. Any can be enabled again."),
            ("keep", "Let them work: programs that use them go on, and your organization pays for it."),
        ],
        widget=forms.RadioSelect,
        error_messages={"required": "Say what is to become of their keys."},
    )


class WebhookForm(forms.Form):
    """Add or change a webhook."""

    name = forms.CharField(
        max_length=limits.MOST_NAME, help_text="What listens there, such as “finance alerts”."
    )
    url = forms.CharField(
        label="URL",
        max_length=egress.MOST_URL,
        widget=forms.TextInput(attrs={"inputmode": "url", "spellcheck": "false", "autocomplete": "off"}),
        help_text="Events are sent here by POST. It begins with https:// and lies in the public internet.",
    )
    events = forms.MultipleChoiceField(
        choices=[(name, each.says) for name, each in events.TYPES.items() if name != events.TEST],
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )

    def __init__(self, data: Any = None, *, endpoint: WebhookEndpoint | None = None) -> None:
        shown = {"name": endpoint.name, "url": endpoint.url, "events": endpoint.events} if endpoint else None
        super().__init__(data, initial=shown)

    def values(self) -> dict[str, Any]:
        """The fields as `accounts.webhooks.endpoints` takes them."""
        said = self.cleaned_data
        return {"name": said["name"], "url": said["url"], "wanted": said["events"]}

    def refuse(self, refusal: Refusal) -> None:
        self.add_error(refusal.param if refusal.param in self.fields else None, refusal.message)


class WebhookRotateForm(forms.Form):
    """How long the older secret goes on signing."""

    overlap = forms.TypedChoiceField(
        label="The older secret stops signing",
        choices=list(endpoints.OVERLAPS.items()),
        coerce=lambda hours: timedelta(hours=int(hours)),
        initial=24,
        widget=forms.RadioSelect,
    )

    def refuse(self, refusal: Refusal) -> None:
        self.add_error(None, refusal.message)


def _role_choices(by: Membership) -> list[tuple[str, str]]:
    return [(role, role.capitalize()) for role in roles.gives(by.role)]


def _shown(key: Key) -> dict[str, Any]:
    return {
        "name": key.name,
        "expires_at": key.expires_at,
        "limit": "" if key.limit_nanos is None else limits.usd(key.limit_nanos),
        "limit_window": key.limit_window,
        "requests_per_minute": key.requests_per_minute,
        "allowed_models": "\n".join(key.allowed_models),
    }
