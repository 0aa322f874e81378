"""The pages of webhooks: a secret is shown once, what was sent can be read and sent again, by few."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from django.template.loader import render_to_string
from django.test import Client

from accounts.models import AuditEntry, Organization, User, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from accounts.webhooks import delivery, endpoints, signing
from tests.accounts.webhooks.receiving import Receiver, is_signed

pytestmark = pytest.mark.django_db
Browser = Callable[[User], Client]
LIST = "/settings/webhooks"


@pytest.fixture
def endpoint(home: Organization, alice: User, receiver: Receiver) -> WebhookEndpoint:
    return endpoints.add(home, name="finance", url=receiver.url, wanted=(), by=alice)[0]


def secret_in(page: str) -> str:
    [text] = set(re.findall(r"whsec_[A-Za-z0-9+/=]+", page))
    return text


def test_a_secret_is_shown_once_and_signs(alice: User, browser: Browser, receiver: Receiver):
    client = browser(alice)
    page = client.post(f"{LIST}/new", {"name": "books", "url": receiver.url, "events": ["invoice.issued"]})

    assert page.status_code == 200 and "no-store" in page["Cache-Control"]
    secret, row = secret_in(page.content.decode()), WebhookEndpoint.unscoped.get()
    assert row.events == ["invoice.issued"]
    for path in (LIST, f"{LIST}/{row.public_id}", f"{LIST}/{row.public_id}/edit"):
        shown = client.get(path).content.decode()
        assert "books" in shown and "whsec_" not in shown
    assert client.post(f"{LIST}/{row.public_id}/test").status_code == 302
    delivery.deliver_due()
    assert is_signed(secret, *receiver.got[0])


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("url", "http://example.com/", "https://"),
        ("url", "https://169.254.169.254/latest", "not a public one"),
        ("url", "https://user:word@example.com/", "no user name"),
        ("url", "https://metadata/", "local network"),
        ("url", "https://example.com:22/", "port 22"),
        ("url", "", "required"),
        ("name", "", "required"),
        ("events", "budget.unheard_of", "Select a valid choice"),
    ],
)
def test_what_is_typed_wrongly_is_said_and_kept(
    alice: User, browser: Browser, field: str, value: str, says: str
):
    typed = {"name": "books", "url": "https://example.com/hooks", field: value}

    page = browser(alice).post(f"{LIST}/new", typed)

    assert page.status_code == 422 and says in page.content.decode()
    assert not WebhookEndpoint.unscoped.exists()
    assert f'value="{typed["name"]}"' in page.content.decode() or not typed["name"]


def test_a_webhook_is_changed_rotated_switched_off_and_on_and_deleted(
    alice: User, browser: Browser, endpoint: WebhookEndpoint, receiver: Receiver
):
    client, page = browser(alice), f"{LIST}/{endpoint.public_id}"

    client.post(f"{page}/edit", {"name": "new name", "url": receiver.url, "events": ["credit.low"]})
    endpoint.refresh_from_db()
    assert (endpoint.name, endpoint.events) == ("new name", ["credit.low"])
    assert secret_in(client.post(f"{page}/rotate", {"overlap": "24"}).content.decode())
    assert len(signing.living(endpoint)) == 2
    assert "signs until" in client.get(page).content.decode()
    client.post(f"{page}/disable")
    assert "Enable" in client.get(page).content.decode()
    client.post(f"{page}/enable")
    assert "Send a test" in client.get(page).content.decode()
    assert client.get(f"{page}/delete").status_code == 200
    assert client.post(f"{page}/delete").status_code == 302
    assert client.get(page).status_code == 404


def test_what_was_sent_can_be_read_and_sent_again(
    alice: User, browser: Browser, endpoint: WebhookEndpoint, receiver: Receiver
):
    client, page = browser(alice), f"{LIST}/{endpoint.public_id}"
    receiver.status, receiver.body = 500, b"<script>out of order</script>"
    client.post(f"{page}/test")
    delivery.deliver_due()
    [there] = re.findall(r'href="(/settings/webhook-deliveries/[^"]+)"', client.get(page).content.decode())

    shown = client.get(there).content.decode()
    assert "&lt;script&gt;out of order" in shown and "<strong>500</strong>" in shown
    assert "webhook.test" in shown and "waits to be tried again" in shown
    receiver.status = 200
    assert client.post(f"{there}/again", follow=True).status_code == 200
    delivery.deliver_due()

    assert WebhookDelivery.unscoped.get().state == "delivered" and WebhookAttempt.objects.count() == 2
    assert "webhook.test" not in client.get(f"{page}?state=failed").content.decode()
    assert "webhook.test" in client.get(f"{page}?state=delivered").content.decode()
    assert AuditEntry.unscoped.filter(verb="webhook.sent_again").count() == 1


def test_the_log_is_read_page_by_page(alice: User, browser: Browser, endpoint: WebhookEndpoint):
    client, page = browser(alice), f"{LIST}/{endpoint.public_id}"
    for _ in range(27):
        endpoints.test(endpoint, by=alice)

    first = client.get(page).content.decode()
    more = re.search(r'href="(\?[^"]+)" rel="next"', first)[1].replace("&amp;", "&")
    found = [
        re.findall(r"webhook-deliveries/([0-9a-f-]+)", text)
        for text in (first, client.get(page + more).content.decode())
    ]

    assert [len(each) for each in found] == [25, 2] and not set(found[0]) & set(found[1])


def test_nobody_else_sees_or_moves_it(bob: User, mallory: User, browser: Browser, endpoint: WebhookEndpoint):
    sent = endpoints.test(endpoint, by=endpoint.created_by)
    entries = AuditEntry.unscoped.filter(organization=endpoint.organization).order_by("pk")
    before = list(entries.values())
    for person, status in ((mallory, 404), (bob, 403)):
        client = browser(person)
        page, log = f"{LIST}/{endpoint.public_id}", f"/settings/webhook-deliveries/{sent.pk}"
        acts = ("", "/edit", "/rotate", "/test", "/disable", "/enable", "/delete")
        for path in (*(page + act for act in acts), log, f"{log}/again"):
            typed = {"name": "mine", "url": "https://example.com/", "overlap": "0"}
            for answer in (client.get(path), client.post(path, typed)):
                assert answer.status_code in (status, 405), path
    assert client.get(LIST).status_code == 403
    assert list(entries.all().values()) == before


def test_the_example_of_the_documentation_verifies_what_is_sent(
    home: Organization, alice: User, receiver: Receiver, capsys: pytest.CaptureFixture[str]
):
    endpoint, secret = endpoints.add(home, name="finance", url=receiver.url, wanted=(), by=alice)
    endpoints.test(endpoint, by=alice)
    delivery.deliver_due()
    names: dict[str, Callable[..., dict[str, object]]] = {}
    exec(render_to_string("site/docs/samples/webhook.python"), names)
    assert capsys.readouterr().out == "webhook.test\n"

    [(headers, body)] = receiver.got
    assert names["verify"](secret, headers, body)["type"] == "webhook.test"
    for wrong in (
        (secret, headers, body.replace(b"works", b"fails")),
        (secret, {**headers, "webhook-id": "msg_2"}, body),
        (secret, {**headers, "webhook-timestamp": "1700000000"}, body),
        (secret, {**headers, "webhook-signature": "v1,"}, body),
        ("whsec_" + "A" * 43 + "=", headers, body),
    ):
        with pytest.raises(ValueError, match="this message"):
            names["verify"](*wrong)
