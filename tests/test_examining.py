"""What the walk of every page would find: faults that are sown into small pages of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Route

from tests.examining import Walk

pytestmark = pytest.mark.xdist_group("product")

HOST = "http://127.0.0.1:9"
PAGE = """<!doctype html><html lang="en" data-bs-theme="light"><head><title>Sown</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><script src="/theme.js"></script>
<link rel="stylesheet" href="/style.css"></head>
<body><div class="page">%s<main>%s</main></div></body></html>"""
HEADER = '<header><a href="/" aria-current="page">Home</a> <a href="/docs">Docs</a></header>'
STYLE = """
  html { background: #fff; color: #000 } html a { color: #00a }
  [data-bs-theme=dark] { background: #000; color: #fff } [data-bs-theme=dark] a { color: #ccf }
  .pale { color: #ddd } [data-bs-theme=dark] .pale { color: #fff } [data-bs-theme=dark] .dim { color: #222 }
  [data-bs-theme=dark] [aria-current=page].gone { color: #222 }
  ol li:nth-child(even) { background: #eee }
  @media (max-width: 500px) { .wide { width: 500px } }
"""
THEME = """const system = matchMedia("(prefers-color-scheme: dark)");
const apply = () => { document.documentElement.dataset.bsTheme = system.matches ? "dark" : "light" };
system.addEventListener("change", apply); apply();"""
FINE = "<h1>Fine</h1>"
FAULTS = {
    '<p class="pale">Pale</p>': "axe, 1280 px, light: color-contrast: .pale",
    '<p class="dim">Dim</p>': "axe, 1280 px, dark: color-contrast: .dim",
    "<form><input name=amount></form>": ": label: input",
    "<img src=/theme.js>": ": image-alt: img",
    "<div class=wide>Wide</div>": "px wider than a screen of 390",
    "<script>document.title = 'inline'</script>": "Executing inline script violates",
    "<p style='color: red'>Red</p>": "Applying inline style violates",
    "<script src='/not-there.js'></script>": f"404 {HOST}/not-there.js",
    "<img alt='' src='http://other.invalid/dot.png'>": "it asks http://other.invalid/dot.png",
}
"""What is sown → what is told of it."""


class Sown:
    """Addresses of a host that is not there → what is shown at them."""

    def __init__(self, walk: Walk) -> None:
        self.walk, self.pages = walk, {"/theme.js": THEME, "/style.css": STYLE}
        walk.context.route("**/*", self._answer)

    def _answer(self, route: Route) -> None:
        path = route.request.url.removeprefix(HOST)
        if path not in self.pages:
            route.fulfill(status=404) if path != "/favicon.ico" else route.fulfill(status=204)
            return
        kinds = {"s": "text/javascript", "css": "text/css"}
        kind = kinds.get(path.rpartition(".")[2].removeprefix("j"), "text/html")
        rules = {"Content-Security-Policy": "default-src 'self'"}
        route.fulfill(body=self.pages[path], content_type=kind, headers=rules)

    def found(self, main: str, header: str = HEADER, *, narrow: bool = False) -> list[str]:
        self.pages["/sown"] = PAGE % (header, main)
        self.walk.troubles.clear()
        self.walk.examine("/sown", narrow=narrow)
        return [each.partition(": ")[2] for each in self.walk.troubles]


@pytest.fixture(scope="module")
def sown(browser: Browser) -> Iterator[Sown]:
    context = browser.new_context(locale="en-US", reduced_motion="reduce")
    yield Sown(Walk("anybody", HOST, context))
    context.close()


def test_each_fault_is_found_in_whichever_theme_the_page_begins(sown):
    begun = set()
    for _ in range(2):
        begun.add(sown.walk.theme)
        told = sown.found(FINE + "".join(FAULTS))
        for fault, finding in FAULTS.items():
            assert any(finding in each for each in told), (fault, told)
    assert begun == {"light", "dark"}


def test_a_row_that_looks_otherwise_is_examined_in_both_themes_among_many_that_look_alike(sown):
    rows = "<li>One</li>" * 7
    for _ in range(2):
        (told,) = sown.found(f"{FINE}<ul>{rows}<li class=dim>Last</li></ul>")
        assert "dark: color-contrast: .dim" in told
    for _ in range(2):
        (told,) = sown.found(f"{FINE}<ol>{rows}</ol>")
        assert "dark: color-contrast: li:nth-child(2)" in told


def test_a_part_that_looks_otherwise_is_examined_in_both_themes_in_whichever_of_many_sections(sown):
    parts = "".join(f"<section>{'<p>One</p>' * count}</section>" for count in range(1, 7))
    for _ in range(2):
        (told,) = sown.found(f"{FINE}{parts}<section><p>One</p><p class=dim>Last</p></section>")
        assert "dark: color-contrast: .dim" in told


def test_a_header_that_differs_is_examined_though_others_are_known(sown):
    assert sown.found(FINE) == sown.found(FINE) == []
    unlike = HEADER.replace('"page"', '"page" class="gone"')

    told = sown.found(FINE, unlike)

    assert any("dark: color-contrast: .gone" in each for each in told), told


def test_what_is_pale_on_a_telephone_alone_is_found_there(sown):
    pale = "@media (max-width: 500px) { .small { color: #777; background: #888 } }"
    sown.pages["/style.css"] = STYLE + pale

    told = sown.found(f"{FINE}<p class=small>Small</p>", narrow=True)

    assert [each for each in told if "color-contrast" in each and "390 px" in each], told
