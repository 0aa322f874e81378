"""What people write to us."""

from __future__ import annotations

from django import forms

from billing.inquiries import SPENDS


class Contact(forms.Form):
    """`website` is never seen by a person: what fills it in is a program."""

    name = forms.CharField(
        max_length=100, label="Your name", widget=forms.TextInput(attrs={"autocomplete": "name"})
    )
    email = forms.EmailField(
        max_length=254, label="E-mail", widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )
    company = forms.CharField(
        max_length=100, required=False, widget=forms.TextInput(attrs={"autocomplete": "organization"})
    )
    spend = forms.ChoiceField(
        choices=[("", "I cannot say yet"), *((each, each) for each in SPENDS)],
        required=False,
        label="Expected spend a month",
    )
    text = forms.CharField(
        max_length=5000,
        label="What do you need?",
        help_text="Models, volume, data policy, invoicing: whatever decides it for you.",
        widget=forms.Textarea(attrs={"rows": 6}),
    )
    website = forms.CharField(required=False)
