"""The typesetter, in a process of its own: a layout as JSON in, a PDF out. Imports nothing of ours.

It is bounded in memory and CPU, and reads no file beyond the template's folder and its fonts. The template
names no package, so there is nothing to fetch; what comes in is data, never markup.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import cast

import typst

TEMPLATE = Path(__file__).parent.joinpath("typst", "document.typ")
MOST_BYTES = 2 * 2**30
"""Of addresses, most of which the stacks of its threads only reserve."""
MOST_CPU_SECONDS = 60
_FONTS = ("cvttf_NotoSansCJK_Regular",)
"""Packages that are a folder of fonts, beside those that typst brings along."""


def main() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_SECONDS, MOST_CPU_SECONDS))
    asked = json.load(sys.stdin)
    sys.stdout.buffer.write(typeset(asked["layout"], issued_at=asked["issued_at"]))


def typeset(layout: object, *, issued_at: int) -> bytes:
    """The same layout and instant (UNIX seconds) give the same bytes."""
    with tempfile.TemporaryDirectory() as nothing:
        fonts = typst.Fonts(include_system_fonts=False, font_paths=_font_folders())
        compiler = typst.Compiler(
            str(TEMPLATE),
            root=str(TEMPLATE.parent),
            font_paths=fonts,
            ignore_system_fonts=True,
            sys_inputs={"layout": json.dumps(layout)},
            package_path=nothing,
            package_cache_path=nothing,
        )
        try:
            made = compiler.compile(format="pdf", pdf_standards=["ua-1"], timestamp=issued_at)
        except typst.TypstError as error:
            # PDF/UA refuses a sign that no font has. Then a box stands in its place.
            if "could not be displayed" not in str(error):
                raise
            made = compiler.compile(format="pdf", timestamp=issued_at)
        return cast(bytes, made)  # of other formats, a list of pages


def _font_folders() -> list[str]:
    found = (importlib.util.find_spec(name) for name in _FONTS)
    return [str(Path(spec.origin).parent) for spec in found if spec is not None and spec.origin]


if __name__ == "__main__":
    main()
