"""Which tests xdist keeps in one worker: those of one file, and files that share one running product.

`--dist loadgroup` asks the same of marks, but xdist writes the group into an attribute that pytest no
longer reads, so the mark is read from the file here.
"""

from __future__ import annotations

import functools
import re

from xdist.scheduler import LoadScopeScheduling

from tests.product import PROJECT

_GROUP = re.compile(r"""xdist_group\(["'](\w+)["']\)""")


class ByFileAndGroup(LoadScopeScheduling):
    def _split_scope(self, nodeid: str) -> str:
        return _scope(nodeid.split("::", 1)[0])


@functools.cache
def _scope(file: str) -> str:
    found = _GROUP.search((PROJECT / file).read_text(encoding="utf-8"))
    return found.group(1) if found else file
