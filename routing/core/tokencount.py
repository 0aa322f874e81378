"""A count of our own, for calls whose provider states none: exact for one vocabulary, close for the others.

Used for aborted calls and providers that report no usage; what rests on it is marked `estimated`.
"""

from __future__ import annotations

import functools
from importlib import util
from importlib.machinery import PathFinder
from typing import Any

_ENCODING = "o200k_base"
_MOST_COUNTED = 400_000
_BYTES_PER_TOKEN = 4


@functools.cache
def _tokenizer() -> Any:
    """The compiled core of bpe-openai alone.

    The package around it reads every vocabulary into dictionaries when it is imported: most of a second of
    CPU and eighty megabytes for each worker.
    """
    package = util.find_spec("bpe_openai")
    where = package.submodule_search_locations if package else None
    core = PathFinder.find_spec("bpe_openai._bindings", where)
    if core is None or core.loader is None:
        raise ImportError("bpe-openai is not installed")
    module = util.module_from_spec(core)
    core.loader.exec_module(module)
    return module.tokenizer_for_encoding(_ENCODING)


def warm() -> None:
    """Load the vocabulary before there is traffic."""
    _tokenizer()


def count(text: str) -> int:
    """Tokens of a text. Past 400,000 characters the rest is taken at four bytes a token: time is bounded."""
    head, rest = text[:_MOST_COUNTED], text[_MOST_COUNTED:]
    whole = head.encode(errors="replace").decode()  # half a surrogate pair counts as one odd character
    return int(_tokenizer().count(whole)) + len(rest.encode(errors="replace")) // _BYTES_PER_TOKEN
