"""Records that PostgreSQL refuses for what they say: put aside whole, so that nothing waits behind them.

One file beside the spools, a line a record: its id, why, what became of its money, and the record itself. It
stays until an operator has looked at it and moved it away; `check_ledger` finds it broken until then.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from billing.core.generation import Generation

log = logging.getLogger(__name__)

FILE = "quarantine.jsonl"
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def put(folder: Path, record: Generation, *, why: str, charged: bool) -> None:
    """Append the record. `charged`: its row is in PostgreSQL, without its texts. Raises OSError."""
    entry = {
        "id": str(record.id),
        "at": int(time.time()),
        "why": why,
        "charged": charged,
        "record": record,
    }
    file = os.open(folder / FILE, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(file, _encode(entry) + b"\n")
    finally:
        os.close(file)
    log.critical(
        "a record was refused and put aside",
        extra={"generation": record.public_id, "why": why, "charged": charged},
    )


def waiting(folder: Path) -> dict[str, bool]:
    """What lies there by generation id, and whether it is charged all the same."""
    try:
        lines = (folder / FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return {}
    found: dict[str, bool] = {}
    for line in lines:
        try:
            entry = _decode(line)
            found[str(entry["id"])] = bool(entry["charged"])
        except (msgspec.MsgspecError, KeyError):
            found[f"a line that cannot be read: {line[:60]!r}"] = False
    return found
