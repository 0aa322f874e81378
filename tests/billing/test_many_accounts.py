"""Scripts that touch several accounts: all are checked before the first is written."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.lib import kv
from billing import gate_scripts

ADMIT = kv.Script(gate_scripts.ADMIT)
COVER = kv.Script(gate_scripts.COVER)
SETTLE = kv.Script(gate_scripts.SETTLE)
RELEASE = kv.Script(gate_scripts.RELEASE)
LEASE_MS = 60_000
CALL = st.sampled_from("abcd")
NAMES = ("wallet", "day", "total")
MANY = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True)
SHARED_STEP = st.one_of(
    st.tuples(st.sampled_from(("admit", "cover")), CALL, st.integers(0, 60), MANY),
    st.tuples(st.just("settle"), CALL, st.integers(0, 60), MANY),
    st.tuples(st.just("release"), CALL, st.just(0), MANY),
)
CREDITS = {"wallet": 100, "day": 70, "total": 130}


class Accounts:
    """Three accounts of unlike size under one epoch, and a few lines of Python that say what must be."""

    def __init__(self):
        kv.gate().flushall()
        self.keys = {name: f"{{0}}:w:{name}" for name in NAMES}
        for name, key in self.keys.items():
            kv.gate().hset(key, mapping={"c": CREDITS[name], "e": "now", "in": "now", "tv": 1})
        kv.gate().set("{0}:k:key", 1)
        self.holds = {name: {} for name in NAMES}
        self.totals = dict.fromkeys(NAMES, 0)

    def short(self, call, amount, names):
        """The place of the first account that does not cover it, and what that could hold for the call."""
        for place, name in enumerate(names, 1):
            have = self.holds[name].get(call, 0)
            left = CREDITS[name] - self.totals[name] - sum(self.holds[name].values())
            if amount > have and left < amount - have:
                return ["no", place, str(left + have)]
        return None

    def take(self, verb, call, amount, names):
        keys = [self.keys[name] for name in names]
        if verb == "admit":
            front = ["{0}:k:key", "{0}:g:key"]
            answer = ADMIT.run([*front, *keys], ["now", call, amount, LEASE_MS, 1, 1, 0, 0])
        elif verb == "cover":
            answer = COVER.run(keys, ["now", call, amount, LEASE_MS])
        elif verb == "settle":
            for name in names:
                self.totals[name] += min(amount, self.holds[name].pop(call, 0))
            SETTLE.run(["{0}:r", *keys], ["spool", call, "", 60, *(self.totals[name] for name in names)])
            return
        else:
            RELEASE.run(keys, [call])
            for name in names:
                self.holds[name].pop(call, None)
            return
        refused = self.short(call, amount, names)
        assert (answer == refused) if refused else (answer[0] == "ok"), (answer, refused)
        for name in names if not refused else ():
            self.holds[name][call] = max(amount, self.holds[name].get(call, 0))

    def compare(self):
        for name, key in self.keys.items():
            found = kv.gate().hgetall(key)
            assert int(found.get("spent", 0)) == self.totals[name]
            assert int(found.get("held", 0)) == sum(self.holds[name].values()) <= CREDITS[name]
            held = {field[2:]: int(value.split()[0]) for field, value in found.items() if field[:2] == "h:"}
            assert held == self.holds[name]


@settings(max_examples=80, deadline=None)
@given(st.lists(SHARED_STEP, max_size=25))
def test_all_accounts_of_a_call_hold_or_none_does(steps):
    accounts = Accounts()
    for step in steps:
        accounts.take(*step)
        accounts.compare()
