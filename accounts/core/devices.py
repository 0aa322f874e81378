"""What a browser calls itself, in words that its owner knows it by. Pure; a guess, shown as one."""

from __future__ import annotations

from typing import Final

_BROWSERS: Final = (
    # The more particular first: most browsers also say that they are Chrome or Safari.
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
)
_SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS X", "Mac"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def name(user_agent: str) -> str:
    """`Firefox on Linux`; what is not known is left out."""
    browser = next((word for mark, word in _BROWSERS if mark in user_agent), "A browser")
    system = next((word for mark, word in _SYSTEMS if mark in user_agent), "")
    return f"{browser} on {system}" if system else browser


def is_mobile(user_agent: str) -> bool:
    return any(mark in user_agent for mark in ("iPhone", "iPad", "Android"))
