"""Secrets never reach a log, and what is left shows which secret it was."""

from __future__ import annotations

import json
import logging

import pytest
import structlog

from accounts.core import tokens
from aggregator.lib import log

HIDDEN = "Zz9Yy8Xx7Ww6Vv5Uu4"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Authorization: Bearer " + HIDDEN, "Authorization: Bearer ***"),
        ("key sk-" + HIDDEN + " refused", "key sk-*** refused"),
        ("sk_live_" + HIDDEN + " is wrong", "sk_live_*** is wrong"),
        ("rk_test_" + HIDDEN, "rk_test_***"),
        ("signed with whsec_" + HIDDEN, "signed with whsec_***"),
        ("postgres://user:" + HIDDEN + "@host/db", "postgres://user:***@host/db"),
        ("redis://:" + HIDDEN + "@host:6379/0", "redis://:***@host:6379/0"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_a_secret_is_struck_out(text: str, kept: str):
    assert log.redact(text) == kept


@pytest.mark.parametrize("scope", ["inference", "management"])
def test_our_own_keys_are_struck_out_wherever_they_stand(scope: str):
    key = tokens.make(scope, "0123456789ab")

    said = log.redact(f"GET /v1/models?key={key}&x=1 {key}")

    assert key[9:] not in said
    assert said.count(key[:12] + "***") == 2
    assert "&x=1" in said


def test_what_any_logger_writes_is_one_line_of_json_without_secrets(capsys: pytest.CaptureFixture[str]):
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        log.configure({"level": "INFO"})
        logging.getLogger("plain").warning("sent %s", "sk-" + HIDDEN)
        structlog.get_logger("structured").warning("asked", address="redis://:" + HIDDEN + "@host")
        try:
            raise ValueError("postgres://user:" + HIDDEN + "@host")
        except ValueError:
            logging.getLogger("broken").exception("failed")
    finally:
        root.handlers[:], root.level = before[0], before[1]

    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["sent sk-***", "asked", "failed"]
    assert HIDDEN not in "".join(lines)
