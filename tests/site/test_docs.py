"""The documentation: every page is there, its links lead somewhere, and what it says to paste works."""

from __future__ import annotations

import html
import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urldefrag, urljoin

import httpx
import pytest

from aggregator.site import library
from aggregator.site.openapi import errors
from tests.product import PROJECT, Product

pytestmark = pytest.mark.xdist_group("product")

PAGES = [f"/docs/{doc.slug}".rstrip("/") for doc in library.DOCS]
SAMPLES = PROJECT / "templates" / "site" / "docs" / "samples"


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.levels: list[int] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = dict(attrs)
        self.ids += [said["id"]] if said.get("id") else []
        self.links += [said["href"]] if tag == "a" and said.get("href") else []
        self.levels += [int(tag[1])] if re.fullmatch("h[1-6]", tag) else []


@pytest.fixture(scope="module")
def visitor(product: Product) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=product.base_url, trust_env=False, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def texts(visitor: httpx.Client) -> dict[str, str]:
    answers = {path: visitor.get(path) for path in PAGES}
    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(PAGES, 200)
    return {path: answer.text for path, answer in answers.items()}


@pytest.fixture(scope="module")
def samples(texts) -> dict[str, str]:
    """`NAME.LANGUAGE` → the example as a page shows it."""
    found: dict[str, str] = {}
    for text in texts.values():
        for name, code in re.findall(r'<code id="code-([a-z]+-[a-z]+)">(.*?)</code>', text, re.DOTALL):
            found[name.replace("-", ".")] = html.unescape(code)
    return found


def test_every_page_has_one_head_and_its_headings_in_order(texts):
    for path, text in texts.items():
        page = Page(text)
        assert page.levels.count(1) == 1 and page.levels[0] == 1, path
        assert all(after - before <= 1 for before, after in itertools.pairwise(page.levels)), path
        assert len(page.ids) == len(set(page.ids)), path


def test_every_link_leads_somewhere_and_every_anchor_is_there(texts, visitor, product):
    pages = {path: Page(text) for path, text in texts.items()}
    answered: dict[str, int] = {}
    for path, page in pages.items():
        for link in page.links:
            target, anchor = urldefrag(urljoin(product.base_url + path, link))
            assert target.startswith(product.base_url), f"{path}: {link}"
            inside = target.removeprefix(product.base_url)
            if inside in pages:
                assert not anchor or anchor in pages[inside].ids, f"{path}: {link}"
            elif inside not in answered:
                answered[inside] = visitor.get(target, follow_redirects=True).status_code
                assert answered[inside] == 200, f"{path}: {link}"


def test_an_unknown_page_is_not_there(visitor):
    assert visitor.get("/docs/nothing").status_code == 404


def test_every_error_type_stands_on_the_page_of_errors(texts):
    ids = Page(texts["/docs/errors"]).ids

    assert set(errors.BY_TYPE) <= set(ids)


def test_every_example_file_is_shown_on_a_page(samples):
    files = {path.name for path in SAMPLES.iterdir()}
    listed = {f"{name}.{language}" for name, few in library.SAMPLES.items() for language in few}

    assert files == listed
    assert listed - samples.keys() == set()


def test_every_curl_example_runs(samples, product):
    environment = {
        "FAIRLEAD_API_KEY": product.api_key,
        "FAIRLEAD_MANAGEMENT_KEY": product.management_key,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
    }
    script = [code for name, code in sorted(samples.items()) if name.endswith(".curl")]
    fenced = "\necho\necho =====\n".join(
        code.replace("curl ", "curl -sS --fail-with-body ") for code in script
    )
    done = subprocess.run(
        ["bash", "-e", "-c", fenced],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout[-600:] + done.stderr
    answers = [part.strip() for part in done.stdout.split("=====")]
    assert len(answers) == len(script)
    for answer in answers:
        assert answer.startswith("data: ") or "error" not in json.loads(answer), answer


_EACH = """
import json, sys
for name, code in json.load(sys.stdin).items():
    print("=====", name)
    exec(compile(code, name, "exec"), {"__name__": name})
"""


def test_every_python_example_runs(samples, product):
    chosen = {name: code for name, code in sorted(samples.items()) if name.endswith(".python")}
    done = subprocess.run(
        [sys.executable, "-c", _EACH],
        input=json.dumps(chosen),
        env={"FAIRLEAD_API_KEY": product.api_key, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert done.returncode == 0, done.stdout[-600:] + done.stderr
    said = dict(re.findall(r"^===== (\S+)\n(.*?)(?=^=====|\Z)", done.stdout, re.DOTALL | re.MULTILINE))
    assert said.keys() == chosen.keys()
    assert all(text.strip() for text in said.values())
    assert said["errors.python"].startswith("404 model_not_found ")
    assert "cost: " in said["stream.python"]
    assert " because: cheapest of" in said["choose.python"]


def test_every_javascript_example_is_a_module_without_a_slip(samples, tmp_path: Path):
    node = shutil.which("node", path=str(Path(sys.executable).parent)) or shutil.which("node")
    assert node, "Node comes with the product"
    for name, code in samples.items():
        if name.endswith(".javascript"):
            path = tmp_path / f"{name}.mjs"
            path.write_text(code)
            done = subprocess.run([node, "--check", path], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
