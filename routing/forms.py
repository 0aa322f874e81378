"""Forms of WHERE: they read what a person ticked; the rules are in `accounts.privacy`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms

from accounts.principal import DataPolicy
from routing.reach import Host

_NEWCOMERS = (
    ("allowed", "May serve us, unless I take them out here"),
    ("refused", "May not, until I tick them here"),
)


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
