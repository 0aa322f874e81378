"""Forms of WHERE: they read what a person ticked; the rules are in `accounts.privacy`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta
from typing import Any

from django import forms

from accounts.access import SeenKey
from accounts.core import limits
from accounts.core.principal import DataPolicy
from accounts.privacy import LogRules
from routing.core.reach import Host

_NEWCOMERS = (
    ("allowed", "May serve us, unless I take them out here"),
    ("refused", "May not, until I tick them here"),
)

_KEPT = (
    ("both", "Requests and replies"),
    ("request", "Requests alone"),
    ("reply", "Replies alone"),
)
_SCOPES = (("every", "Every key, those made later too"), ("some", "These keys alone"))


class DataPolicyForm(forms.Form):
    """Which providers may serve an organization."""

    no_training = forms.BooleanField(
        label="No training on what we send",
        required=False,
        help_text="Only providers that are known not to train on prompts and answers. "
        "The same as data_collection: deny in every request.",
    )
    zero_retention = forms.BooleanField(
        label="Zero data retention",
        required=False,
        help_text="Only providers that are known to keep nothing at all. Stricter than the one above; "
        "the same as zdr: true in every request.",
    )
    newcomers = forms.ChoiceField(
        label="Providers that join the catalog later",
        choices=_NEWCOMERS,
        widget=forms.RadioSelect,
        initial="allowed",
    )
    providers = forms.MultipleChoiceField(
        label="Providers that may serve us", required=False, widget=forms.CheckboxSelectMultiple
    )

    def __init__(self, data: Any = None, *, policy: DataPolicy, hosts: Sequence[Host]) -> None:
        self._known = frozenset(host.slug for host in hosts)
        self._before = policy
        allowed = self._known - policy.ignore
        if policy.only is not None:
            allowed &= policy.only
        super().__init__(
            data,
            initial={
                "no_training": policy.no_training,
                "zero_retention": policy.zero_retention,
                "newcomers": "allowed" if policy.only is None else "refused",
                "providers": sorted(allowed),
            },
        )
        field: Any = self.fields["providers"]
        field.choices = [(host.slug, host.name) for host in hosts]

    def policy(self) -> DataPolicy:
        """What was ticked. Providers that are not in the catalog now stay as they were named."""
        said, ticked = self.cleaned_data, frozenset(self.cleaned_data["providers"])
        only, ignore = None, frozenset(self._before.ignore - self._known)
        if said["newcomers"] == "refused":
            only = ticked | ((self._before.only or frozenset()) - self._known)
            ignore = frozenset()
        else:
            ignore |= self._known - ticked
        return DataPolicy(said["no_training"], said["zero_retention"], only, ignore)


class LogRulesForm(forms.Form):
    """What is logged, of which keys, and for how long."""

    kept = forms.ChoiceField(label="What is kept", choices=_KEPT, widget=forms.RadioSelect, initial="both")
    scope = forms.ChoiceField(
        label="Of which keys", choices=_SCOPES, widget=forms.RadioSelect, initial="every"
    )
    keys = forms.TypedMultipleChoiceField(
        label="These keys", coerce=int, required=False, widget=forms.CheckboxSelectMultiple
    )
    days = forms.IntegerField(
        label="Days until it is deleted",
        min_value=limits.LOG_DAYS[0],
        max_value=limits.LOG_DAYS[1],
        help_text="1 to 90. Fewer days than before delete what is older within the hour.",
    )

    def __init__(self, data: Any = None, *, rules: LogRules, keys: Sequence[SeenKey]) -> None:
        kept = "both" if rules.request and rules.reply else "request" if rules.request else "reply"
        super().__init__(
            data,
            initial={
                "kept": kept,
                "scope": "every" if rules.keys is None else "some",
                "keys": sorted(rules.keys or ()),
                "days": rules.days,
            },
        )
        field: Any = self.fields["keys"]
        field.choices = [(key.id, key.name) for key in keys if not key.deleted]

    def clean(self) -> dict[str, Any]:
        said = super().clean() or self.cleaned_data
        if said.get("scope") == "some" and not said.get("keys"):
            self.add_error("keys", "Tick at least one key, or log every key.")
        return said

    def rules(self) -> LogRules:
        """What was said, switched on."""
        said = self.cleaned_data
        return LogRules(
            on=True,
            request=said["kept"] in ("both", "request"),
            reply=said["kept"] in ("both", "reply"),
            days=said["days"],
            keys=frozenset(said["keys"]) if said["scope"] == "some" else None,
        )


class PeriodForm(forms.Form):
    """Days, UTC, whose logs are deleted; both are among them."""

    since = forms.DateField(label="From", widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(label="To and including", widget=forms.DateInput(attrs={"type": "date"}))

    def clean(self) -> dict[str, Any]:
        said = super().clean() or self.cleaned_data
        if "since" in said and "until" in said and said["until"] < said["since"]:
            self.add_error("until", "This day is before the first.")
        return said

    def bounds(self) -> tuple[datetime, datetime]:
        first, last = self.cleaned_data["since"], self.cleaned_data["until"]
        return (
            datetime.combine(first, time.min, tzinfo=UTC),
            datetime.combine(last, time.min, tzinfo=UTC) + timedelta(days=1),
        )


class DestroyForm(forms.Form):
    """Typed, not clicked: what it does cannot be undone."""

    name = forms.CharField(label="Type the organization's name to confirm", max_length=limits.MOST_NAME)

    def __init__(self, data: Any = None, *, expected: str) -> None:
        super().__init__(data)
        self._expected = expected

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if name.strip() != self._expected:
            raise forms.ValidationError(f"This is not “{self._expected}”.")
        return name
