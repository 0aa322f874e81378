"""Scripts that touch several accounts: all are checked before the first is written."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.lib import kv
from billing.core import gate_scripts

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
            if name != "wallet":
                kv.gate().hset(key, "l", CREDITS[name])
        kv.gate().set("{0}:k:key", 1)
        self.holds = {name: {} for name in NAMES}
        self.totals = dict.fromkeys(NAMES, 0)

    def short(self, call, amount, names):
        """The place of the account that covers least of it, and what that could hold for the call."""
        found = []
        for place, name in enumerate(names, 1):
            have = self.holds[name].get(call, 0)
            left = CREDITS[name] - self.totals[name] - sum(self.holds[name].values())
            if amount > have and left < amount - have:
                found.append((left + have, place))
        return ["no", min(found)[1], str(min(found)[0]), *self.limit(min(found)[1], names)] if found else None

    @staticmethod
    def limit(place, names):
        """What is said of a budget, and not of a wallet."""
        name = names[place - 1]
        return [] if name == "wallet" else [str(CREDITS[name])]

    def take(self, verb, call, amount, names):
        keys = [self.keys[name] for name in names]
        if verb == "admit":
            front = ["{0}:k:key", "{0}:g:key"]
            versions = [1] * (len(names) - 1)
            answer = ADMIT.run([*front, *keys], ["now", call, amount, LEASE_MS, 1, 1, 0, 0, *versions])
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


def test_all_accounts_that_are_not_loaded_or_of_an_old_version_are_named_at_once():
    accounts = Accounts()
    keys = ["{0}:k:key", "{0}:g:key", *accounts.keys.values()]
    asked = ["now", "a", 1, LEASE_MS, 1, 1, 0, 0]

    kv.gate().delete(accounts.keys["wallet"], accounts.keys["total"])
    assert ADMIT.run(keys, [*asked, 1, 1]) == ["missing", 1, 3]
    assert COVER.run(keys[2:], asked[:4]) == ["missing", 1, 3]

    accounts = Accounts()
    assert ADMIT.run(keys, [*asked, 2, 2]) == ["missing", 2, 3]
    assert ADMIT.run(keys, [*asked, 1, 2]) == ["missing", 3]
    assert ADMIT.run(keys, [*asked, 1, 0]) == ["ok", -1]


def test_a_call_hears_of_the_account_that_has_least_left_and_of_its_limit():
    accounts = Accounts()
    keys = list(accounts.keys.values())
    kv.gate().hset(accounts.keys["total"], "c", 20)

    assert COVER.run(keys, ["now", "a", 101, LEASE_MS]) == ["no", 3, "20", "130"]
    assert COVER.run(keys[:2], ["now", "a", 101, LEASE_MS]) == ["no", 2, "70", "70"]
    assert COVER.run(keys[:1], ["now", "a", 101, LEASE_MS]) == ["no", 1, "100"]
