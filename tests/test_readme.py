"""What the README tells people to paste works as it stands."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.product import PROJECT, Product

README = (PROJECT / "README.md").read_text()
ADDRESS = "http://127.0.0.1:8000"

pytestmark = pytest.mark.xdist_group("product")


def _snippet(language: str, mark: str) -> str:
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if mark in text]
    return found


def _run(product: Product, command: list[str], snippet: str) -> str:
    done = subprocess.run(
        [*command, snippet.replace(ADDRESS, product.base_url).replace("fl_live_…", product.api_key)],
        env={"FAIRLEAD_API_KEY": product.api_key, "PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_call_with_curl(product: Product):
    said = _run(product, ["sh", "-c"], _snippet("sh", "curl"))

    assert '"finish_reason":"stop"' in said
    assert '"cost_nanos":' in said


def test_the_first_call_with_the_openai_sdk(product: Product):
    said = _run(product, [sys.executable, "-c"], _snippet("python", "OpenAI"))

    assert re.search(r" 0\.\d+$|e-\d+$", said.strip())


def test_the_request_that_chooses_providers(product: Product):
    asked = json.loads(_snippet("json", '"provider"'))
    headers = {"Authorization": f"Bearer {product.api_key}"}

    answer = httpx.post(f"{product.api_base}/route", json=asked, headers=headers, trust_env=False)

    route = answer.json()["route"]
    assert answer.status_code == 200 and route["chosen"].startswith("sandbox-")
    assert any(left["reason"].startswith("provider.ignore") for left in route["excluded"])


def test_every_command_of_an_operator_runs(product: Product):
    lines = _snippet("sh", "manage.py grant").splitlines()
    commands = [line.partition("#")[0].split() for line in lines]

    assert len(commands) > 3
    assert all(command[:2] == [".venv/bin/python", "manage.py"] for command in commands)
    product.manage_each(*(command[2:] for command in commands))


def test_every_snippet_of_a_first_call_has_five_lines():
    for language, mark in (("sh", "curl"), ("python", "OpenAI"), ("js", "OpenAI")):
        assert len([line for line in _snippet(language, mark).splitlines() if line]) == 5


def test_every_file_that_a_document_links_to_exists():
    for document in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", Path(PROJECT / document).read_text()):
            assert link.startswith("https://") or (PROJECT / link).exists(), f"{document}: {link}"
