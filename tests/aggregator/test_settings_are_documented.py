"""deploy/env.example and what the code reads name the same settings."""

from __future__ import annotations

import re
import tomllib

from tests.product import PROJECT

_READS = re.compile(
    r"""(?:\benv\.\w+|\bports\.setting|\b_whole|environ\.get)\(\s*["']([A-Z][A-Z0-9_]+)["']""", re.MULTILINE
)
_WRITTEN = re.compile(r"^#?([A-Z][A-Z0-9_]+)=", re.MULTILINE)
_SYSTEM = {"PATH", "DJANGO_SETTINGS_MODULE"}
_READERS = ("aggregator/**/*.py", "accounts/**/*.py", "billing/**/*.py", "routing/**/*.py", "deploy/*.py")


def _read() -> set[str]:
    files = {path for pattern in _READERS for path in PROJECT.glob(pattern)}
    names = {name for path in files for name in _READS.findall(path.read_text())}
    return {name.removesuffix("_FILE") for name in names} - _SYSTEM


def _providers() -> set[str]:
    """The settings of each provider in the catalog that is none of the sandbox's."""
    found = set()
    for path in (PROJECT / "routing" / "catalog").glob("*.toml"):
        provider = tomllib.loads(path.read_text())
        if not provider.get("sandbox"):
            found |= {f"{provider['env_prefix']}_{end}" for end in ("API_KEY", "BASE_URL")}
    return found


def _documented() -> list[str]:
    return _WRITTEN.findall((PROJECT / "deploy" / "env.example").read_text())


def test_every_setting_that_is_read_is_documented_and_no_other() -> None:
    assert set(_documented()) == _read() | _providers()


def test_each_setting_is_documented_once() -> None:
    assert len(_documented()) == len(set(_documented()))


def test_a_setting_or_its_group_has_a_comment() -> None:
    text = (PROJECT / "deploy" / "env.example").read_text()

    for block in text.split("\n\n")[1:]:
        assert re.match(r"# ── .+ ─+\n# \S", block), block
