"""Settings from the environment: read by type, and a bad one names itself."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from aggregator.lib import env


def test_what_must_be_set_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("THING", raising=False)

    with pytest.raises(ImproperlyConfigured, match="THING must be set"):
        env.text("THING")


def test_blank_is_not_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("THING", "  ")

    assert env.text("THING", "default") == "default"
    assert env.whole("THING", 7) == 7
    assert env.flag("THING", True) is True


@pytest.mark.parametrize(("raw", "is_on"), [("1", True), ("true", True), ("0", False), ("false", False)])
def test_a_flag_is_on_or_off(monkeypatch: pytest.MonkeyPatch, raw: str, is_on: bool):
    monkeypatch.setenv("THING", raw)

    assert env.flag("THING", not is_on) is is_on


@pytest.mark.parametrize("raw", ["1.5", "many", "-1", "0"])
def test_a_bad_whole_number_names_its_variable(monkeypatch: pytest.MonkeyPatch, raw: str):
    monkeypatch.setenv("THING", raw)

    with pytest.raises(ImproperlyConfigured, match="THING"):
        env.whole("THING", 5, least=1)


@pytest.mark.parametrize("raw", ["NaN", "Infinity", "-1", "a dollar"])
def test_a_bad_amount_names_its_variable(monkeypatch: pytest.MonkeyPatch, raw: str):
    monkeypatch.setenv("THING", raw)

    with pytest.raises(ImproperlyConfigured, match="THING"):
        env.decimal("THING", "0")


def test_an_amount_is_exact(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("THING", "0.10")

    assert env.decimal("THING", "0") == Decimal("0.10")


def test_a_choice_is_one_of_those_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("THING", "both")

    with pytest.raises(ImproperlyConfigured, match="THING must be one of all, web"):
        env.choice("THING", ("all", "web"), "all")


def test_names_are_split_at_commas(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("THING", "a.example, b.example ,")

    assert env.names("THING") == ["a.example", "b.example"]


def test_a_secret_may_come_from_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "secret").write_text("in the file\n")
    monkeypatch.setenv("THING", "in the environment")
    monkeypatch.setenv("THING_FILE", str(tmp_path / "secret"))

    assert env.secret("THING") == "in the file"


def test_a_secret_file_that_cannot_be_read_names_its_variable(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("THING_FILE", "/nowhere/secret")

    with pytest.raises(ImproperlyConfigured, match="THING_FILE cannot be read"):
        env.secret("THING", "default")
