"""`{% load docs %}`: examples to copy, one file a language, and words set as code."""

from __future__ import annotations

import re
from typing import Any

from django import template
from django.template.loader import render_to_string
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

_CODE = re.compile(r"`([^`]+)`")
_NAMED = ("api_base", "first", "second", "third", "author")


@register.inclusion_tag("site/docs/_samples.html", takes_context=True)
def samples(context: dict[str, Any], name: str) -> dict[str, Any]:
    """The example `name` in each language that it is written in: `SAMPLES` and `LANGUAGES` say which."""
    said = {each: context[each] for each in _NAMED}
    found = [
        {
            "slug": f"{name}-{language}",
            "label": context["languages"][language],
            "code": render_to_string(f"site/docs/samples/{name}.{language}", said).strip(),
        }
        for language in context["samples_of"][name]
    ]
    return {"name": name, "samples": found}


@register.filter
def coded(text: str) -> SafeString:
    """Plain text in which what stands between back quotes is code."""
    return mark_safe(_CODE.sub(r"<code>\1</code>", escape(text)))  # noqa: S308 (escaped before)
