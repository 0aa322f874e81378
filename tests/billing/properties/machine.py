"""Whatever may happen to wallets, in any order: on the model, and (`mirror.py`) beside it on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tests.billing.properties.model import OURS, AlreadyReversed, Books, Call, OtherContent, Posting

OWNERS = 2

owners = st.sampled_from((0, 0, 0, 1))
amounts = st.integers(1, 40)
picks = st.integers(0, 10**6)
OTHER_SIDE = {
    "grant": "promotion",
    "rebate": "discount",
    "top_up": "stripe_cash",
    "write_off": "loss",
    "monthly_fee": "subscription_revenue",
}
UNDONE_BY = {"refund": "refund_failed", "dispute": "dispute_won"}


class Ledger(RuleBasedStateMachine):
    """On the model alone. A subclass does the same to something else, and compares."""

    def __init__(self) -> None:
        super().__init__()
        self.books = Books(OWNERS)
        self.made = 0

    # What a subclass does beside the model: each may raise as the model does.

    def really(self, _postings: list[Posting]) -> None: ...

    def really_reverse(self, _kind: str, _source_id: str, _name: tuple[str, str]) -> None: ...

    def really_deliver(self, call: Call) -> None:
        call.name = self.fresh("call")

    def really_post_calls(self) -> None: ...

    def really_expire(self) -> None: ...

    def fresh(self, prefix: str) -> str:
        self.made += 1
        return f"{prefix}_{self.made}"

    def both(self, on_the_model: Callable[[], object], really: Callable[[], object]) -> None:
        """The two answer alike: with the same refusal, or with none."""
        said = []
        for side in (on_the_model, really):
            try:
                side()
                said.append("done")
            except (OtherContent, AlreadyReversed) as refusal:
                said.append(type(refusal).__name__)
        if self.__class__ is not Ledger:
            assert said[0] == said[1], f"the model says {said[0]}, the ledger {said[1]}"

    def post(self, *postings: Posting) -> None:
        self.both(
            lambda: [self.books.post(posting) for posting in postings], lambda: self.really(list(postings))
        )

    def moving(self, owner: int, kind: str, nanos: int, tax: int = 0, ends: int | None = None) -> Posting:
        entries = {("wallet", owner): nanos, (OTHER_SIDE[kind], OURS): -nanos - tax}
        if tax:
            entries["tax", OURS] = tax
        return Posting(kind, self.fresh(kind), owner, entries, ends=ends)

    @rule(owner=owners, nanos=amounts, lasts=st.sampled_from((None, 1, 3)))
    def grant(self, owner, nanos, lasts):
        ends = None if lasts is None else self.books.day + lasts
        self.post(self.moving(owner, "grant", nanos, ends=ends))

    @rule(owner=owners, nanos=amounts, tax=st.integers(0, 3))
    def top_up(self, owner, nanos, tax):
        self.post(self.moving(owner, "top_up", nanos, tax))

    @rule(owner=owners, kind=st.sampled_from(("rebate", "write_off", "monthly_fee")), nanos=amounts)
    def month_ends(self, owner, kind, nanos):
        self.post(self.moving(owner, kind, -nanos if kind == "monthly_fee" else nanos))

    @rule(
        moves=st.lists(
            st.tuples(owners, st.sampled_from(("grant", "top_up", "monthly_fee")), amounts),
            min_size=2,
            max_size=4,
        )
    )
    def batch(self, moves):
        self.post(*(self.moving(o, kind, -n if kind == "monthly_fee" else n) for o, kind, n in moves))

    @precondition(lambda self: self.names("top_up"))
    @rule(pick=picks, kind=st.sampled_from(("refund", "dispute")), nanos=amounts, lost=st.integers(0, 5))
    def take_back(self, pick, kind, nanos, lost):
        names = self.names("top_up")
        name = names[pick % len(names)]
        owner = self.books.postings[name].owner
        entries = {("wallet", owner): -nanos, ("stripe_cash", OURS): nanos + lost}
        if lost:
            entries["loss", OURS] = -lost
        self.post(Posting(kind, self.fresh(kind), owner, entries, about=name))

    @precondition(lambda self: self.names("refund", "dispute"))
    @rule(pick=picks, again=st.booleans())
    def give_back(self, pick, again):
        names = self.names("refund", "dispute")
        undone = {self.books.postings[name].about for name in self.names(*UNDONE_BY.values())}
        if again:
            names = [name for name in names if name in undone] or names
        kind, source_id = name = names[pick % len(names)]
        undo = (UNDONE_BY[kind], source_id + (" again" if again else ""), name)
        self.both(lambda: self.books.reverse(*undo), lambda: self.really_reverse(*undo))

    @precondition(lambda self: self.repeatable())
    @rule(pick=picks, more=st.sampled_from((0, 0, 1)))
    def repeat(self, pick, more):
        """The same once more, or the same with another amount."""
        names = self.repeatable()
        posting = self.books.postings[names[pick % len(names)]]
        entries = {
            account: nanos + more * (1 if nanos > 0 else -1) for account, nanos in posting.entries.items()
        }
        if len(entries) == 2:
            again = Posting(*posting.name, posting.owner, entries, posting.ends, posting.about)
            self.post(again)

    @rule(owner=owners, base=st.integers(0, 20), markup=st.integers(0, 3), loss=st.integers(0, 2))
    def deliver(self, owner, base, markup, loss):
        call = Call(owner, base + markup, base, loss)
        self.books.calls.append(call)
        self.really_deliver(call)

    @precondition(lambda self: any(not call.posted for call in self.books.calls))
    @rule()
    def post_calls(self):
        self.books.post_calls()
        self.really_post_calls()

    @rule(days=st.integers(1, 3))
    def days_pass(self, days):
        self.books.day += days
        self.books.expire()
        self.really_expire()
        for owner in range(OWNERS):
            for lot in self.books.lots_of(owner):
                over = lot.posting.ends is not None and lot.posting.ends <= self.books.day
                assert not over or lot.left <= self.books.waiting(owner)

    def repeatable(self) -> list[tuple[str, str]]:
        """All but expiries, which the product names by itself."""
        return [name for name in self.books.postings if name[0] != "expiry"]

    def names(self, *kinds: str) -> list[tuple[str, str]]:
        return [name for name in self.books.postings if name[0] in kinds]

    @invariant()
    def the_model_keeps_its_word(self):
        books = self.books
        assert sum(books.sums.values()) == 0
        for owner in range(OWNERS):
            lots = books.lots_of(owner)
            balance = books.balance(owner)
            assert balance == sum(books.postings[name].nanos for name in books.chains[owner])
            assert sum(lot.left for lot in lots) == max(balance, 0)
            assert all(0 <= lot.left <= lot.nanos for lot in lots)
        undone = [posting.about for posting in books.postings.values() if posting.kind in UNDONE_BY.values()]
        assert len(undone) == len(set(undone))
