"""What operators do with a wallet: agree terms, grant credit, freeze and thaw; with a reason, audited."""

from __future__ import annotations

from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Any, ClassVar, cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from unfold.decorators import action
from unfold.widgets import (
    UnfoldAdminDateWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from aggregator.lib import ids
from billing import freezing, plans, wallets
from billing.core.money import Nanos, parse_usd, usd
from billing.models import AgreedTerms, Plan, Wallet


class PercentField(forms.DecimalField):
    """`2.5` on the page is the fraction 0.025."""

    widget = UnfoldAdminTextInputWidget

    def clean(self, value: Any) -> Decimal | None:
        percent = super().clean(value)
        return None if percent is None else Decimal(percent).scaleb(-2)


class UsdField(forms.CharField):
    """Exact dollars on the page, nanos behind it; an empty field is none."""

    widget = UnfoldAdminTextInputWidget

    def clean(self, value: Any) -> Nanos | None:
        text = super().clean(value)
        try:
            return parse_usd(text) if text else None
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error


class AgreeForm(forms.Form):
    """A plan, and for a custom one what was agreed. Empty fields are left out."""

    plan = forms.ChoiceField(widget=UnfoldAdminSelectWidget)
    markup = PercentField(required=False, label="Mark-up, %")
    monthly_nanos = UsdField(required=False, label="Monthly fee, $")
    volume_discount = PercentField(required=False, label="Volume discount, %")
    discount_threshold_nanos = UsdField(required=False, label="Of a month's usage above, $")
    discount_basis = forms.ChoiceField(
        required=False,
        label="Discount measured on",
        choices=[("", "—"), ("billed", "usage as billed"), ("base", "the providers' share of it")],
        widget=UnfoldAdminSelectWidget,
    )
    credit_limit_nanos = UsdField(required=False, label="Credit limit, $")
    postpaid = forms.BooleanField(
        required=False, label="Invoice the month after its end", widget=UnfoldBooleanWidget
    )
    days_until_due = forms.IntegerField(
        required=False, label="Days until an invoice is due", widget=UnfoldAdminIntegerFieldWidget
    )
    note = forms.CharField(label="Reason", max_length=1000, widget=UnfoldAdminTextInputWidget)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        slugs = Plan.objects.order_by("slug").values_list("slug", flat=True).distinct()
        self.fields["plan"].choices = [(slug, slug.title()) for slug in slugs]  # type: ignore[attr-defined]

    def agreement(self) -> plans.Agreement:
        said = {name: value for name, value in self.cleaned_data.items() if value not in (None, "", False)}
        del said["plan"]
        return cast(plans.Agreement, said)


class GrantForm(forms.Form):
    """`once` names this very form, so that it gives once however often it is sent."""

    nanos = UsdField(label="Credit, $")
    expires_at = forms.DateField(
        required=False,
        label="Until the end of this day, UTC; empty: for ever",
        widget=UnfoldAdminDateWidget,
    )
    note = forms.CharField(
        label="Reason: the customer reads it in their history",
        max_length=300,
        widget=UnfoldAdminTextInputWidget,
    )
    once = forms.UUIDField(widget=forms.HiddenInput)

    def clean_nanos(self) -> Nanos:
        nanos, most = self.cleaned_data["nanos"], parse_usd(f"{settings.GRANT_MOST_USD:f}")
        if not 0 < nanos <= most:
            raise forms.ValidationError(f"One grant is more than nothing and at most ${usd(most)}.")
        return cast(Nanos, nanos)

    def clean_expires_at(self) -> datetime | None:
        day = self.cleaned_data["expires_at"]
        return None if day is None else datetime.combine(day, time.max, tzinfo=UTC)


class FreezeForm(forms.Form):
    """One reason more, or one less."""

    change = forms.ChoiceField(label="What", widget=UnfoldAdminSelectWidget)
    note = forms.CharField(label="Reason", max_length=1000, widget=UnfoldAdminTextInputWidget)

    def __init__(self, wallet: Wallet, *args: Any) -> None:
        super().__init__(*args)
        held = wallet.frozen_because.split(",") if wallet.frozen_because else []
        thaw = [(f"thaw {reason}", f"Thaw: {reason}") for reason in held]
        freeze = [(f"freeze {reason}", f"Freeze: {reason}") for reason in plans.FROZEN if reason not in held]
        self.fields["change"].choices = thaw + freeze[::-1]  # type: ignore[attr-defined]


class TermsActions:
    """Pages on a wallet, for those who may change wallets."""

    actions_detail: ClassVar[tuple[str, ...]] = ("agree", "grant", "freeze")

    def has_terms_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm("billing.change_wallet")

    @action(description="Agree terms", url_path="agree", permissions=["terms"])
    def agree(self, request: HttpRequest, object_id: str) -> HttpResponse:
        wallet = _wallet(object_id)
        form = AgreeForm(request.POST or None, initial=_in_force(wallet))
        if form.is_valid():
            try:
                terms = plans.set_plan(
                    wallet.organization.slug, form.cleaned_data["plan"], by=_who(request), **form.agreement()
                )
            except ValueError as error:
                form.add_error(None, str(error))
            else:
                said = f"{terms.plan}, terms {terms.version}. {form.cleaned_data['note']}"
                return self._done(request, wallet, said)
        says = "Calls that begin from now on pay by it. Only a custom plan takes more than its name."
        return self._page(request, wallet, form, f"Agree terms with {wallet.organization}", says)

    @action(description="Grant credit", url_path="grant", permissions=["terms"])
    def grant(self, request: HttpRequest, object_id: str) -> HttpResponse:
        wallet = _wallet(object_id)
        form = GrantForm(request.POST or None, initial={"once": ids.uuid7()})
        if form.is_valid():
            said = form.cleaned_data
            try:
                wallets.grant(
                    wallet.organization.slug,
                    said["nanos"],
                    note=said["note"],
                    expires_at=said["expires_at"],
                    by=_who(request),
                    once=str(said["once"]),
                )
            except ValueError as error:
                form.add_error(None, str(error))
            else:
                return self._done(request, wallet, f"granted ${usd(said['nanos'])}. {said['note']}")
        says = "Promotional credit: it burns before what was paid, and is not paid back."
        return self._page(request, wallet, form, f"Grant credit to {wallet.organization}", says)

    @action(description="Freeze or thaw", url_path="freeze", permissions=["terms"])
    def freeze(self, request: HttpRequest, object_id: str) -> HttpResponse:
        wallet = _wallet(object_id)
        form = FreezeForm(wallet, request.POST or None)
        if form.is_valid():
            verb, _, because = form.cleaned_data["change"].partition(" ")
            do = freezing.freeze if verb == "freeze" else freezing.thaw
            do(wallet.organization_id, because, by=_who(request), note=form.cleaned_data["note"])
            return self._done(request, wallet, f"{verb}: {because}. {form.cleaned_data['note']}")
        says = "While there is any reason, every call is refused, free models too; the pages go on working."
        return self._page(request, wallet, form, f"Freeze or thaw {wallet.organization}", says)

    def _page(
        self, request: HttpRequest, wallet: Wallet, form: forms.Form, title: str, says: str
    ) -> HttpResponse:
        site: Any = self.admin_site  # type: ignore[attr-defined]
        context = {**site.each_context(request), "title": title, "says": says, "form": form}
        context |= {"opts": Wallet._meta, "wallet": wallet, "back": _page_of(wallet)}
        return TemplateResponse(request, "billing/change_wallet.html", context)

    def _done(self, request: HttpRequest, wallet: Wallet, said: str) -> HttpResponse:
        self.log_change(request, wallet, said[:2000])  # type: ignore[attr-defined]
        messages.success(request, f"{wallet.organization}: {said}")
        return redirect(_page_of(wallet))


def _wallet(object_id: str) -> Wallet:
    return get_object_or_404(Wallet.unscoped.select_related("organization"), pk=object_id)


def _page_of(wallet: Wallet) -> str:
    return reverse("admin:billing_wallet_change", args=[wallet.pk])


def _who(request: HttpRequest) -> Any:
    return request.user


def _in_force(wallet: Wallet) -> dict[str, Any]:
    """The fields as they are; of a published plan only its name, since the rest is not agreed."""
    row = AgreedTerms.objects.of(wallet.organization_id).order_by("-version").first()
    if row is None or plans.current(row.plan).markup is not None:
        return {"plan": wallet.plan}
    return {
        "plan": row.plan,
        "markup": f"{row.markup.scaleb(2).normalize():f}",
        "volume_discount": f"{row.volume_discount.scaleb(2).normalize():f}",
        "discount_basis": row.discount_basis,
        "postpaid": row.postpaid,
        "days_until_due": row.days_until_due,
        **{
            name: usd(getattr(row, name))
            for name in ("monthly_nanos", "discount_threshold_nanos", "credit_limit_nanos")
        },
    }
