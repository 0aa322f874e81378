"""What is asked of every page in a browser: no errors, no scrolling sideways, and axe in both themes.

Most of what it costs is axe's and the browser's own work, so nothing is examined twice: axe's rules but
contrast know no theme, and a frame that was examined is taken out of the pages that have the same.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import BrowserContext, Page

from tests.product import PROJECT

DESK, TELEPHONE = 1280, 390
"""Pixels across."""

_SECRET = re.compile(r'name="csrfmiddlewaretoken" value="\w+"')
_AXE = """async ([only, landmarks]) => {
  const options = { resultTypes: ["violations"], preload: false, runOnly: only.length
    ? { type: "rule", values: only }
    : { type: "tag", values: ["wcag2a", "wcag2aa", "wcag21aa"] } };
  if (!only.length) options.rules = Object.fromEntries(landmarks.map((each) => [each, { enabled: true }]));
  const found = await axe.run(document, options);
  const told = (node) => node.target.join(" ") + " " + (node.any[0]?.message ?? "");
  return found.violations.map((each) => each.id + ": " + each.nodes.slice(0, 3).map(told).join(" | "));
}"""
_LANDMARKS = (
    *("region", "page-has-heading-one", "landmark-one-main", "landmark-unique"),
    *("landmark-no-duplicate-main", "landmark-main-is-top-level", "landmark-banner-is-top-level"),
)
"""Beside what WCAG asks: all of a page lies in its parts, its heading in the main one."""
_BARE = """(known) => {
  const still = new CSSStyleSheet();
  still.replaceSync("*, ::before, ::after { transition: none !important; animation: none !important }");
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, still];
  document.querySelectorAll(".card-status-top").forEach((each) => each.remove());
  const frame = [...document.querySelectorAll(".page > header, footer.footer")];
  frame.forEach((each, at) => known[at] && each.remove());
}"""
"""Colours are at once what they will be. And a stripe that is made by masking an area goes: axe takes the
whole area for the background of the text. So do a header and a footer that are known."""
_FEWER = """async (theme) => {
  const told = new Set(["id", "href", "for", "name", "value", "title", "aria-label", "aria-labelledby",
    "aria-describedby", "aria-controls", "src", "action", "datetime", "data-bs-target"]);
  const looks = (each) => [...each.attributes].map((it) => told.has(it.name) ? it.name : it.name + it.value);
  const shapes = new Map(), numbers = new Map();
  const shape = (each) => {
    if (!shapes.has(each)) {
      const parts = [...new Set([...each.children].map(shape))].sort();
      const its = [each.tagName, ...looks(each), ...parts, "/"].join(" ");
      if (!numbers.has(its)) numbers.set(its, numbers.size);
      shapes.set(each, numbers.get(its));
    }
    return shapes.get(each);
  };
  for (const parent of document.querySelectorAll("main, main *:not(svg, svg *)")) {
    const met = new Map();
    for (const each of parent.children.length > 3 ? [...parent.children] : []) {
      const its = shape(each), times = (met.get(its) ?? 0) + 1;
      met.set(its, times);
      if (times > 3) each.remove();
    }
  }
  while (document.documentElement.dataset.bsTheme !== theme) await new Promise(requestAnimationFrame);
}"""
"""A second theme colours alike what is built alike, of however many parts: of such siblings three stay. Then
wait for it."""
_READ = """() => ({
  links: [...document.querySelectorAll("a[href]")].map((each) => each.href),
  ids: [...document.querySelectorAll("[id]")].map((each) => each.id),
  frame: [...document.querySelectorAll(".page > header, footer.footer")].map((each) => each.outerHTML),
})"""
_TOO_WIDE = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@dataclass
class Walk:
    """One role's browser, and what it has met."""

    role: str
    base_url: str
    context: BrowserContext
    page: Page = field(init=False)
    troubles: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    """Where to → on which page it stands."""
    ids: dict[str, set[str]] = field(default_factory=dict)
    """The anchors of each page that was seen."""
    frames: set[str] = field(default_factory=set)
    """Headers and footers that were examined, letter for letter."""
    theme: str = "light"
    examines: bool = True
    """With axe, which is loaded for this."""

    def __post_init__(self) -> None:
        if self.examines:
            self.context.add_init_script(axe())
        self.page = self.context.new_page()
        self._listen()

    def ids_of_paths(self) -> set[str]:
        """The paths that were seen."""
        return {url.removeprefix(self.base_url) for url in self.ids}

    def trouble(self, what: str) -> None:
        self.troubles.append(f"{self.role} at {self.page.url.removeprefix(self.base_url)}: {what}")

    def open(self, path: str) -> list[str]:
        """Read what is there; its header and footer."""
        self.page.goto(self.base_url + path)
        seen = self.page.evaluate(_READ)
        self.ids[self.base_url + path] = set(seen["ids"])
        for link in seen["links"]:
            self.links.setdefault(link, path)
        return [_SECRET.sub("", each) for each in seen["frame"]]

    def examine(self, path: str, *, narrow: bool) -> None:
        """Its errors, its width on a telephone, and axe in one theme and the other; `narrow`: there as well,
        in the other.

        A header and a footer are examined once, in every theme and width, and then taken out of other pages.
        """
        self._resize(TELEPHONE)
        frame = self.open(path)
        self.page.evaluate(_BARE, [each in self.frames and not narrow for each in frame])
        wide = self.page.evaluate(_TOO_WIDE)
        if wide > 0:
            self.trouble(f"{wide} px wider than a screen of {TELEPHONE}")
        self._resize(DESK)
        self._ask_axe(f"{DESK} px")
        self._turn()
        self._ask_axe(f"{DESK} px", "color-contrast")
        if narrow:
            self._resize(TELEPHONE)
            self._ask_axe(f"{TELEPHONE} px")
        self.frames.update(frame)

    def _ask_axe(self, where: str, *only: str) -> None:
        for trouble in self.page.evaluate(_AXE, [only, _LANDMARKS]):
            self.trouble(f"axe, {where}, {self.theme}: {trouble}")

    def _turn(self) -> None:
        """To the other theme. The next page begins in it: to turn back costs as much."""
        self.theme = "dark" if self.theme == "light" else "light"
        self.page.emulate_media(color_scheme=self.theme)
        self.page.evaluate(_FEWER, self.theme)

    def _resize(self, width: int) -> None:
        self.page.set_viewport_size({"width": width, "height": 900})

    def _listen(self) -> None:
        def requested(request: Any) -> None:
            if not request.url.startswith((self.base_url, "data:", "blob:")):
                self.trouble(f"it asks {request.url}")

        self.page.on("request", requested)
        self.page.on("console", lambda said: said.type == "error" and self.trouble(f"console: {said.text}"))
        self.page.on("pageerror", lambda error: self.trouble(f"script: {error}"))
        self.page.on(
            "response", lambda said: said.status >= 400 and self.trouble(f"{said.status} {said.url}")
        )


@functools.cache
def axe() -> str:
    return (PROJECT / "node_modules" / "axe-core" / "axe.min.js").read_text()
