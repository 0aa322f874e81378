"""Which tests xdist keeps in one worker: those of one file, and files that share one running product.

`--dist loadgroup` asks the same of marks, but xdist writes the group into an attribute that pytest no
longer reads, so the mark is read from the file here.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.product import PROJECT

_GROUP = re.compile(r"""xdist_group\(["']([\w-]+)["']\)""")
_LONGEST = (
    "gateway",
    "faults",
    "product",
    "tests/billing/protocol/test_seeded_bugs.py",
    "processes",
    "outside",
    "tests/test_isolation.py",
    "tests/embedded/test_supervisor.py",
    "tests/billing/protocol/test_model.py",
    "memory",
    "aimock",
    "tests/accounts/test_who_sees_what.py",
    "tests/accounts/test_keys_api.py",
    "tests/billing/protocol/test_histories.py",
    "tests/billing/test_check_ledger.py",
    "tests/billing/test_claims.py",
    "tests/billing/protocol/test_conformance.py",
    "tests/routing/http1/test_exchanges.py",
    "tests/billing/test_abandoned_spools.py",
)
"""Begun first, the longest before the shorter, so that none of them is left at the end. But searches, which
only compute, come early among those with a product, which mostly wait: each takes what the others leave."""


class ByFileAndGroup(LoadScopeScheduling):
    """xdist's own order is by the number of tests, but some of ours last as long as fifty others."""

    def __init__(self, config: pytest.Config, log: Any = None) -> None:
        config.option.loadscopereorder = False
        super().__init__(config, log)

    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid.split("::", 1)[0])


def order(items: list[pytest.Item]) -> None:
    """As every worker must collect them."""
    ranks = {scope: rank for rank, scope in enumerate(_LONGEST)}

    def place(item: pytest.Item) -> tuple[int, bool]:
        rank = ranks.get(_scope(item.nodeid.split("::", 1)[0]), len(ranks))
        return rank, item.get_closest_marker("last") is not None

    items.sort(key=place)


def is_last(item: pytest.Item, after: pytest.Item | None) -> bool:
    """Whether a group ends with this test in this worker."""
    return after is None or _scope(item.nodeid.split("::", 1)[0]) != _scope(after.nodeid.split("::", 1)[0])


@functools.cache
def _scope(file: str) -> str:
    found = _GROUP.search((PROJECT / file).read_text(encoding="utf-8"))
    return found.group(1) if found else file
