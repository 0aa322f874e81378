"""What holds for every call of the simulated Stripe: keys, parameters, idempotency, lists, webhooks."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import stripe

from billing.sandbox.account import Account
from tests.billing import stripe_stand

STAND = stripe_stand.running()
V1 = STAND.client(max_network_retries=0).v1


@pytest.fixture(autouse=True)
def _anew() -> None:
    STAND.reset()


def intent(amount: int = 1000, key: str = "", method: str = "pm_card_visa") -> stripe.PaymentIntent:
    return V1.payment_intents.create(
        {"amount": amount, "currency": "usd", "payment_method": method, "confirm": True},
        {"idempotency_key": key} if key else {},
    )


# ── Keys and parameters ──────────────────────────────────────────────────────────────────────────


def test_a_wrong_key_is_refused():
    with closing(stripe.RequestsClient()) as http:
        other = stripe.StripeClient("sk_test_" + "other", base_addresses={"api": STAND.url}, http_client=http)
        with pytest.raises(stripe.AuthenticationError):
            other.v1.customers.list()


@pytest.mark.parametrize(
    ("params", "param", "code"),
    [
        ({"emial": "a@b.c"}, "emial", "parameter_unknown"),
        ({"invoice_settings": {"default": "x"}}, "invoice_settings[default]", "parameter_unknown"),
        ({"balance": "much"}, "balance", "parameter_invalid_integer"),
        ({"api_key": "x"}, "api_key", "parameter_unknown"),
        ({"email": ""}, "email", "parameter_invalid_empty"),
        ({"email": "nobody"}, "email", "email_invalid"),
        ({"metadata": {"x": "y" * 501}}, "metadata[x]", None),
        ({"metadata": {str(number): "" for number in range(51)}}, "metadata", None),
    ],
)
def test_unknown_names_and_wrong_types_are_refused_with_their_place(
    params: dict, param: str, code: str | None
):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        V1.customers.create(params)

    assert (refused.value.param, refused.value.code) == (param, code)


def test_a_required_parameter_is_missed():
    with pytest.raises(stripe.InvalidRequestError) as refused:
        V1.payment_intents.create({"amount": 500})  # type: ignore[typeddict-item]

    assert (refused.value.code, refused.value.param) == ("parameter_missing", "currency")


@pytest.mark.parametrize("path", ["/v1/refunds/re_nothing", "/v1/nowhere"])
def test_what_is_not_there_is_a_404(path: str):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        STAND.client().raw_request("get", path)

    assert refused.value.http_status == 404


def test_an_unknown_id_in_a_parameter_is_a_400():
    with pytest.raises(stripe.InvalidRequestError) as refused:
        V1.refunds.create({"charge": "ch_nothing"})

    assert (refused.value.http_status, refused.value.code) == (400, "resource_missing")


def test_what_cannot_be_expanded_is_refused():
    with pytest.raises(stripe.InvalidRequestError, match="cannot be expanded"):
        V1.payment_intents.create({"amount": 500, "currency": "usd", "expand": ["everything"]})


# ── Idempotency ──────────────────────────────────────────────────────────────────────────────────


def test_the_same_key_does_the_work_once_and_replays_the_answer():
    first, second = intent(key="a"), intent(key="a")

    assert first.id == second.id
    assert second.last_response.headers["idempotent-replayed"] == "true"
    assert len(V1.charges.list().data) == 1


def test_the_same_key_with_other_parameters_is_refused():
    intent(key="a")

    with pytest.raises(stripe.IdempotencyError):
        intent(1001, key="a")


def test_a_decline_is_replayed_too():
    for _ in range(2):
        with pytest.raises(stripe.CardError):
            intent(key="a", method="pm_card_chargeDeclined")

    assert len(V1.charges.list().data) == 1


def test_a_500_is_replayed_and_a_429_is_not():
    STAND.mishap("POST /v1/payment_intents", "error")
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            intent(key="a")
    STAND.mishap("POST /v1/payment_intents", "limit")
    with pytest.raises(stripe.RateLimitError):
        intent(key="b")

    assert intent(key="b").status == "succeeded"
    assert len(V1.charges.list().data) == 1


def test_an_answer_that_is_lost_is_found_again_by_its_key():
    STAND.mishap("POST /v1/payment_intents", "lose")
    with pytest.raises(stripe.APIConnectionError):
        intent(key="a")

    assert len(V1.charges.list().data) == 1
    assert intent(key="a").status == "succeeded"
    assert len(V1.charges.list().data) == 1


def test_an_answer_that_comes_too_late_is_found_again_by_its_key():
    STAND.mishap("POST /v1/customers", "hang", seconds=1.5)
    with closing(stripe.RequestsClient(timeout=0.7)) as http:
        hasty = STAND.client(max_network_retries=0, http_client=http)
        with pytest.raises(stripe.APIConnectionError):
            hasty.v1.customers.create({}, {"idempotency_key": "a"})

    (made,) = V1.customers.list().data
    assert V1.customers.create({}, {"idempotency_key": "a"}).id == made.id


def test_a_key_whose_call_still_runs_is_in_use():
    STAND.mishap("POST /v1/payment_intents", "slow", seconds=1)
    running = threading.Thread(target=intent, kwargs={"key": "a"})
    running.start()
    while STAND.look("mishaps")["waiting"]:
        time.sleep(0.01)
    try:
        with pytest.raises(stripe.StripeError) as refused:
            intent(key="a")
    finally:
        running.join()

    assert refused.value.http_status == 409


# ── Lists ────────────────────────────────────────────────────────────────────────────────────────


def test_a_list_comes_in_pages_newest_first():
    made = [V1.customers.create({"email": f"{number}@example.com"}).id for number in range(5)]

    first = V1.customers.list({"limit": 2})
    rest = list(V1.customers.list({"limit": 2, "starting_after": first.data[-1].id}).auto_paging_iter())

    assert first.has_more
    assert [each.id for each in [*first.data, *rest]] == made[::-1]


def test_events_are_listed_by_type_and_time():
    V1.customers.create({})
    intent()
    now = int(time.time())

    assert [each.type for each in V1.events.list({"types": ["charge.*"]}).data] == ["charge.succeeded"]
    assert len(V1.events.list({"created": {"gte": now - 60}}).data) == 4
    assert V1.events.list({"created": {"gt": now + 60}}).data == []


# ── Products and prices ──────────────────────────────────────────────────────────────────────────


def test_a_price_is_found_by_its_lookup_key_which_can_move_to_another():
    product = V1.products.create({"name": "Pro"})

    def price(cents: int, **more: object) -> stripe.Price:
        return V1.prices.create(
            {
                "product": product.id,
                "currency": "usd",
                "unit_amount": cents,
                "recurring": {"interval": "month"},
                "lookup_key": "pro",
                **more,
            }
        )

    first = price(2900)
    with pytest.raises(stripe.InvalidRequestError):
        price(3900)
    second = price(3900, transfer_lookup_key=True)

    assert [each.id for each in V1.prices.list({"lookup_keys": ["pro"]}).data] == [second.id]
    assert V1.prices.retrieve(first.id).lookup_key is None
    V1.prices.update(first.id, {"active": False})
    assert [each.id for each in V1.prices.list({"active": True}).data] == [second.id]


# ── Webhooks ─────────────────────────────────────────────────────────────────────────────────────


class Hook:
    """A shop's webhook: what arrived, in order."""

    def __init__(self) -> None:
        self.came: list[tuple[bytes, str]] = []
        self.answers: list[int] = []
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                hook.came.append((body, self.headers["stripe-signature"]))
                self.send_response(hook.answers.pop(0) if hook.answers else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def events(self, count: int) -> list[stripe.Event]:
        """The first `count` that arrive, their signatures checked by stripe-python."""
        until = time.monotonic() + 60
        while len(self.came) < count and time.monotonic() < until:
            time.sleep(0.01)
        assert len(self.came) >= count
        return [
            stripe.Webhook.construct_event(body, header, STAND.webhook_secret) for body, header in self.came
        ]


@pytest.fixture
def hook() -> Iterator[Hook]:
    found = Hook()
    yield found
    STAND.send_webhooks_to("")
    found.server.shutdown()
    found.server.server_close()


def test_events_are_signed_and_sent(hook: Hook):
    STAND.send_webhooks_to(hook.url)

    made = V1.customers.create({"email": "a@b.c"})

    (event,) = hook.events(1)
    assert (event.type, event.data.object.id) == ("customer.created", made.id)
    assert V1.events.retrieve(event.id).type == "customer.created"


def test_a_webhook_that_is_not_taken_is_sent_again(hook: Hook):
    hook.answers = [500, 302]
    STAND.send_webhooks_to(hook.url, retry_seconds=0.01)

    V1.customers.create({})

    assert len({event.id for event in hook.events(3)}) == 1


def test_webhooks_come_twice_late_and_in_another_order(hook: Hook):
    STAND.send_webhooks_to(hook.url, duplicates=1, delay_seconds=0.1, shuffle_seconds=0.1)

    intent()

    came = [event.type for event in hook.events(6)]
    assert sorted(came) == sorted(2 * [each["type"] for each in STAND.events()])


def test_webhooks_are_held_back_then_released_or_lost_for_good(hook: Hook):
    STAND.send_webhooks_to(hook.url, hold=True)
    intent()
    STAND.control("webhooks", hold=False, lose=True)
    V1.customers.create({})
    assert hook.came == []

    assert STAND.control("webhooks/release") == {"released": 3}
    assert len(hook.events(3)) == 3
    assert [each["status"] for each in STAND.deliveries()].count("lost") == 1


def test_an_endpoint_made_by_the_api_has_a_secret_and_types_of_its_own(hook: Hook):
    endpoint = V1.webhook_endpoints.create({"url": hook.url, "enabled_events": ["charge.succeeded"]})

    intent()

    while not hook.came:
        time.sleep(0.01)
    event = stripe.Webhook.construct_event(*hook.came[0], endpoint.secret)
    assert event.type == "charge.succeeded"
    assert V1.webhook_endpoints.retrieve(endpoint.id).to_dict().get("secret") is None


def test_an_event_is_delivered_once_more_on_demand(hook: Hook):
    STAND.send_webhooks_to(hook.url)
    V1.customers.create({})
    (event,) = hook.events(1)

    STAND.control("webhooks/send", event=event.id)

    assert {each.id for each in hook.events(2)} == {event.id}


# ── Control ──────────────────────────────────────────────────────────────────────────────────────


def test_everything_of_a_customer_is_told_and_of_no_other():
    mine, other = V1.customers.create({}), V1.customers.create({})
    for each in (mine, other):
        V1.payment_methods.attach("pm_card_visa", {"customer": each.id})

    found = STAND.look("objects", customer=mine.id)

    assert [each["id"] for each in found["customer"]] == [mine.id]
    assert [each["customer"] for each in found["payment_method"]] == [mine.id]
    assert len(STAND.look("objects")["customer"]) == 2
    assert "_number" not in found["payment_method"][0]


@pytest.mark.parametrize(
    ("what", "told", "status"),
    [
        ("nothing", {}, 404),
        ("disputes", {}, 400),
        ("disputes", {"charge": "ch_nothing"}, 400),
        ("webhooks", {"slowly": True}, 400),
        ("mishaps", {"kind": "flood"}, 400),
        ("clock/advance", {"seconds": -1}, 400),
    ],
)
def test_what_control_does_not_know_is_refused(what: str, told: dict, status: int):
    assert STAND.submit_json(f"/_sandbox/{what}", told).status_code == status


# ── What lasts ───────────────────────────────────────────────────────────────────────────────────


def test_objects_outlive_the_process(tmp_path: Path):
    async def both() -> None:
        first = Account(tmp_path / "stripe.sqlite3", key="k", url="http://x")
        made = first.add("customer", {"email": "a@b.c", "metadata": {}})
        first.close()
        second = Account(tmp_path / "stripe.sqlite3", key="k", url="http://x")
        assert second.get("customer", made["id"])["email"] == "a@b.c"
        assert second.add("customer", {})["_rank"] > made["_rank"]
        second.close()

    asyncio.run(both())
