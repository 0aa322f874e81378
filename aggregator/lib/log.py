"""Logs are JSON lines on standard error; secrets are struck out at this one choke point."""

from __future__ import annotations

import logging
import logging.config
import re
from collections.abc import MutableMapping
from typing import Any

import structlog

# Our own keys, bearer tokens, provider keys, Stripe's keys and signing secrets, passwords inside URLs.
_SECRET = re.compile(
    r"(fl_(?:live|mgmt)_[0-9A-Za-z]{4})[0-9A-Za-z_]*|(Bearer\s+)\S+|\b(sk-)[0-9A-Za-z_-]{8,}"
    r"|\b((?:[rs]k_(?:live|test)|whsec)_)[0-9A-Za-z_+/=]{8,}|(://[^:/@\s]*:)[^@\s]+(?=@)"
)


def redact(text: str) -> str:
    """Strike secrets out of a text, and keep what shows which secret it was."""
    return _SECRET.sub(lambda found: next(part for part in found.groups() if part) + "***", text)


def _redact_all(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = redact(value)
    return event


def configure(config: dict[str, Any]) -> None:
    """Called by Django with `settings.LOGGING`, which holds only the level."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        _redact_all,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    logging.config.dictConfig(
        {
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {
                "json": {
                    "()": structlog.stdlib.ProcessorFormatter,
                    "processor": structlog.processors.JSONRenderer(),
                    "foreign_pre_chain": [structlog.stdlib.ExtraAdder(), *shared],
                }
            },
            "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
            # Clients that would tell of every call that goes well.
            "loggers": {"httpx": {"level": "WARNING"}, "stripe": {"level": "WARNING"}},
            "root": {"handlers": ["stderr"], "level": config["level"]},
        }
    )
