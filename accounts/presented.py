"""How a key comes with a request, on both planes: in the `Authorization` header alone, never in a URL."""

from __future__ import annotations

from accounts import keys
from accounts.core import tokens
from aggregator.lib.errors import Refusal


def text_of(authorization: str) -> str:
    """The key's text from the value of the header. Raises Refusal 401 `missing_key`."""
    scheme, _, text = authorization.partition(" ")
    if scheme.lower() != "bearer" or not text.strip():
        raise Refusal(
            "missing_key", "Send your API key in the header `Authorization: Bearer fl_live_…`.", status=401
        )
    return text.strip()


def refuse_in_url(url: str) -> None:
    """URLs end up in logs: a key that stands in one is flagged. Raises Refusal 400 `key_in_url`."""
    found = tokens.PATTERN.search(url)
    if found is not None:
        keys.flag_exposed(found[0])
        raise Refusal(
            "key_in_url",
            "An API key stands in the URL, where logs keep it. Send it in the Authorization header, "
            "and rotate this key: it is flagged as exposed.",
        )
