"""Bugs sown into the real sources: into the text of a script, of a statement, of a function."""

from __future__ import annotations

import inspect
import textwrap
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from aggregator.lib import kv
from billing import flush, gate, posting, snapshots
from billing.core import gate_scripts
from billing.spool import Spool


@dataclass(frozen=True, slots=True)
class Bug:
    """`old` becomes `new` in each of the named constants (or functions) of `place`."""

    place: Any
    names: tuple[str, ...]
    changes: tuple[tuple[str, str], ...]

    def sow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in self.names:
            source = getattr(self.place, name)
            if callable(source):
                monkeypatch.setattr(self.place, name, self._compiled(source))
                continue
            monkeypatch.setattr(self.place, name, self._changed(source))
            if self.place is gate_scripts and hasattr(gate, f"_{name}"):
                monkeypatch.setattr(gate, f"_{name}", kv.Script(self._changed(source)))

    def _changed(self, source: str) -> str:
        for old, new in self.changes:
            assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in the source"
            source = source.replace(old, new)
        return source

    def _compiled(self, function: Any) -> Any:
        source = self._changed(textwrap.dedent(inspect.getsource(function)))
        module = inspect.getmodule(function)
        assert isinstance(module, ModuleType)
        names: dict[str, Any] = {}
        exec(compile("from __future__ import annotations\n" + source, "<a bug>", "exec"), vars(module), names)  # noqa: S102
        return names[function.__name__]


def script(names: str, *changes: tuple[str, str]) -> Bug:
    return Bug(gate_scripts, tuple(names.split()), changes)


def statement(place: Any, name: str, *changes: tuple[str, str]) -> Bug:
    return Bug(place, (name,), changes)


_RAISE = "raise(KEYS[i], ARGV[1], n(ARGV[i + 3]))"


def _of_wallet(change: tuple[str, str]) -> Bug:
    return statement(snapshots, "_WALLET_SNAPSHOT", change)


_SET = "redis.call('HSET', W, 'c', ARGV[3], 'e', ARGV[2], 'in', ARGV[2])"
_DROP_UNKNOWN = """
for _, f in ipairs(redis.call('HKEYS', W)) do
  local spool = f:match('^s:(.*)$')
  if spool and not tally[spool] then
    redis.call('HINCRBY', W, 'spent', s(0 - n(redis.call('HGET', W, f))))
    redis.call('HDEL', W, f)
  end
end
"""
_UNPOSTED = "AND posting_id IS NULL"
_NO_SPAN = ("start >=", "start > %(until)s AND start >=")
_TALLIES = "+ coalesce((SELECT sum(nanos) FROM tallies WHERE account = %(account)s), 0)"

AT_THE_GATE = {
    "ticket": script("LOAD", ("if redis.call('HGET', W, 't') ~= ARGV[1] then return {'late'} end", "")),
    "ticket_open": script("TICKET", (" or redis.call('HEXISTS', P, 'open') == 0", "")),
    "load_drops": script("LOAD", ("for i = 8, k - 1 do", "for i = 8, 7 do")),
    "drop_listed": script("LOAD", (_SET, _DROP_UNKNOWN + _SET)),
    "load_whole": script("LOAD", (_SET, f"if ARGV[4] ~= '1' then {_SET} end")),
    "raise_max": script(
        "SETTLE LOAD JOIN",
        ("if not stored or total > have then", "if not stored or total ~= have then"),
        ("local top = math.max(have, total)", "local top = total"),
    ),
    "total": script(
        "SETTLE",
        (_RAISE, _RAISE.replace("n(ARGV", "n(redis.call('HGET', KEYS[i], 's:' .. ARGV[1])) + n(ARGV")),
    ),
    "charge_voided": script("SETTLE", (_RAISE, f"if held(KEYS[i], ARGV[2]) > 0 then {_RAISE} end")),
    "cover_max": script(
        "ADMIT COVER JOIN",
        ("local top = math.max(amount, have)", "local top = amount"),
        ("if top > have then", "if top ~= have then"),
    ),
    "wallet_epoch": script("ADMIT COVER", ("if w[1] ~= E or not w[2] then", "if not w[2] then")),
    "wait_join": script("OPEN", ("if #wait == 0 or ARGV[2] == '1' then", "if true then")),
    "join_holds": script("JOIN", ("if fits then hold(", "if false then hold(")),
    "join_competes": script("JOIN", ("  if open then ", "  if false then ")),
    "join_totals": script("JOIN", ("for i = 4, k - 1, 2 do raise(", "for i = 4, 3, 2 do raise(")),
    "join_marks": script("JOIN", ("redis.call('HSET', P, W, 1)", "")),
    "loaded_mark": script("TICKET JOIN", ("redis.call('HEXISTS', P, W) == 1 and", "false and")),
    "load_marks": script("LOAD", ("redis.call('HSET', P, W, 1)", "")),
    "forget_flushed": script(
        "LOAD", ("spool and n(redis.call('HGET', W, f)) ~= (tally[spool] or -1)", "false")
    ),
    "forget_idle": script("LOAD", ("f:match('^h:') or spool", "spool")),
    "forget_the_mark": script("LOAD", ("redis.call('HDEL', P, W)", "")),
    "handshake": script("BEGIN", ("if id and id:sub(1, #run) == run then", "if id then")),
    "reserve_beside_holds": script("RESERVE", (" - n(w[3]) - n(w[4]) + (held", " - n(w[3]) + (held")),
    "sums_of_holds": script("SETTLE", ("redis.call('HINCRBY', W, 'held', s(0 - have))", "return")),
}
"""Those that walks of the gate alone must find."""

IN_THE_STACK = {
    "unposted": _of_wallet((_UNPOSTED, "AND false")),
    "tally_in_c": _of_wallet((_TALLIES, "")),
    "credit_limit": _of_wallet((" + w.credit_limit_nanos", "")),
    **{
        f"{rule} of {whose}": statement(snapshots, f"_{whose}_SNAPSHOT", change)
        for whose in ("KEY", "ORGANIZATION", "MEMBER", "END_USER")
        for rule, change in (
            ("unposted", (_UNPOSTED, "AND false")),
            ("tally_in_c", (_TALLIES, "")),
            ("rolled up", ("month >=", "month > %(last)s AND month >=") if whose == "END_USER" else _NO_SPAN),
        )
    },
    "drop_listed": _of_wallet(("WHERE NOT EXISTS", "WHERE true OR NOT EXISTS")),
    "load_drops": statement(
        snapshots, "_WALLET_SNAPSHOT", ("WHERE NOT EXISTS", "WHERE false AND NOT EXISTS")
    ),
    "list_orphans": statement(gate, "registered", ("FROM spools", "FROM spools ORDER BY id DESC LIMIT 1")),
    "close_takes_tallies": statement(
        flush, "close", ("DELETE FROM spools WHERE id", "DELETE FROM tallies WHERE spool")
    ),
    "register_first": statement(flush, "register", ("[spool_id,", "[spool_id[:-4] + '0000',")),
    "unique_gen": statement(flush, "_MERGE", (" ON CONFLICT DO NOTHING", "")),
    "tally_max": statement(
        flush, "_TALLY", ("greatest(tallies.nanos, excluded.nanos)", "tallies.nanos + excluded.nanos")
    ),
    "tally_grows": statement(flush, "_TALLY", ("greatest(tallies.nanos, excluded.nanos)", "tallies.nanos")),
    "post_once": statement(posting, "_CLAIM", ("posting_id IS NULL", "true")),
    "cut_after_pg": Bug(
        Spool, ("cut",), (("if pending.flushed and pending.acknowledged:", "if pending.acknowledged:"),)
    ),
    "cut_after_redis": Bug(
        Spool, ("cut",), (("if pending.flushed and pending.acknowledged:", "if pending.flushed:"),)
    ),
    "total": Bug(Spool, ("settle",), (("self.totals.get(account, 0) + record", "record"),)),
}
"""Those that need PostgreSQL or a spool to be found."""
