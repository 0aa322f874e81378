"""What changes in a program that calls somebody else today: one line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Change:
    """`lines` are (mark, text): what goes has `-`, what comes has `+`, what stays has a space."""

    slug: str
    of: str
    lines: tuple[tuple[str, str], ...]


_TODAY = (
    ("openai", "OpenAI", ""),
    ("openrouter", "OpenRouter", "https://openrouter.ai/api/v1"),
    ("litellm", "a LiteLLM proxy", "http://litellm:4000/v1"),
)


def changes(api_base: str) -> list[Change]:
    """The client of OpenAI's SDK, as it is for each and as it will be."""
    found = []
    for slug, of, base in _TODAY:
        before = (("-", f'    base_url="{base}",'),) if base else ()
        lines = (
            (" ", "client = OpenAI("),
            *before,
            ("+", f'    base_url="{api_base}",'),
            (" ", "    api_key=KEY,"),
            (" ", ")"),
        )
        found.append(Change(slug, of, lines))
    return found
