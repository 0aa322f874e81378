"""What is refused, with which status and type, and that it costs nothing."""

from __future__ import annotations

import json
import socket

import pytest

from accounts.core import tokens
from tests.routing.gateway.caller import HELLO, error_of

pytestmark = pytest.mark.xdist_group("gateway")

CHAT = {"model": "sandbox/instant", "messages": HELLO, "max_tokens": 4}


def test_a_missing_key(caller):
    answer = caller.http.post("/chat/completions", json=CHAT, headers={"Authorization": ""})

    assert error_of(answer) == (401, "missing_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_a_mistyped_key(caller):
    typo = caller.text[:-8] + ("A" if caller.text[-8] != "A" else "B") + caller.text[-7:]
    for text in (typo, caller.text[:-1], caller.text + "x", "sk-1234", "fl_live_"):
        answer = caller.http.post("/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {text}"})
        assert error_of(answer) == (401, "malformed_key")


def test_an_unknown_key(caller):
    text = tokens.make("inference", caller.organization.public_id)
    for _ in range(2):
        answer = caller.http.post("/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {text}"})
        assert error_of(answer) == (401, "unknown_key")


def test_a_management_key_calls_no_model(caller, desk):
    text, _ = desk.key(caller.organization, scope="management")

    answer = caller.http.post("/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {text}"})

    assert error_of(answer) == (403, "forbidden_scope")


def test_an_inference_key_manages_nothing(caller):
    assert caller.http.get("/keys").status_code == 403
    assert caller.http.post("/keys", json={"name": "stronger"}).status_code == 403


@pytest.mark.parametrize("path", ["/chat/completions", "/models", "/key", "/credits"])
def test_a_key_in_a_url_is_refused_and_flagged(caller, desk, path):
    text, public_id = desk.key(caller.organization)
    method = "POST" if path == "/chat/completions" else "GET"

    answer = caller.http.request(method, f"{path}?api_key={text}", json=CHAT)

    assert error_of(answer) == (400, "key_in_url")
    assert text not in answer.text
    assert desk.exposed(public_id)


def test_a_key_in_a_path_is_refused_and_flagged(caller, desk):
    text, public_id = desk.key(caller.organization)

    answer = caller.http.post(f"/chat/completions/{text}", json=CHAT)

    assert error_of(answer) == (400, "key_in_url")
    assert text not in answer.text
    assert desk.exposed(public_id)


def test_an_unknown_model_names_the_nearest(caller):
    answer = caller.chat("sandbox/swalow")

    assert error_of(answer) == (404, "model_not_found")
    assert answer.json()["error"]["metadata"]["nearest"] == "sandbox/swallow"
    assert "sandbox/swallow" in answer.json()["error"]["message"]


def test_a_model_that_the_key_may_not_use(caller, desk):
    text, _ = desk.key(caller.organization, allowed_models=["sandbox/pebble"])

    answer = caller.http.post("/chat/completions", json=CHAT, headers={"Authorization": f"Bearer {text}"})

    assert error_of(answer) == (403, "model_not_allowed")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b"3", b'"text"', b"{}x", b"\xff\xfe", b'{"model": NaN}', b"{'a': 1}"],
)
def test_what_is_not_a_json_object(caller, body):
    status, kind = error_of(caller.raw(body))

    assert status == 400 and kind in ("invalid_json", "invalid_request")


NUMBERS = [
    "NaN",
    "Infinity",
    "-Infinity",
    "1e400",
    "-1",
    "18446744073709551616",
    '"5"',
    "true",
    "[]",
    "{}",
    "1.5",
]


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens", "n"])
@pytest.mark.parametrize("value", [*NUMBERS, "0"])
def test_a_wrong_count_names_its_field(caller, field, value):
    body = json.dumps(CHAT | {"max_tokens": None})[:-1] + f', "{field}": {value}}}'
    answer = caller.raw(body.replace('"max_tokens": null, ', "").replace(', "max_tokens": null', ""))

    status, kind = error_of(answer)
    assert status == 400
    assert kind == "invalid_json" or answer.json()["error"]["param"] == field


@pytest.mark.parametrize("field", ["temperature", "top_p", "presence_penalty", "max_cost"])
@pytest.mark.parametrize(
    "value", ["NaN", "Infinity", "1e400", "-3", "18446744073709551616", "true", "[]", "{}"]
)
def test_a_wrong_number_names_its_field(caller, field, value):
    answer = caller.raw(json.dumps(CHAT)[:-1] + f', "{field}": {value}}}')

    status, kind = error_of(answer)
    assert status == 400, answer.text
    assert kind == "invalid_json" or answer.json()["error"]["param"] == field


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", None),
        ("model", 5),
        ("model", ""),
        ("model", "x" * 201),
        ("messages", None),
        ("messages", []),
        ("messages", "hello"),
        ("messages", [1]),
        ("stream", "true"),
        ("stream", 1),
        ("stream_options", []),
        ("stream_options", {"include_usage": "yes"}),
        ("models", "sandbox/pebble"),
        ("tools", "search"),
        ("route_preference", "cheapest"),
        ("route_preference", 1),
        ("min_class", "huge"),
        ("seed", "one"),
        ("stop", 3),
        ("response_format", "json"),
        ("max_cost", "a lot"),
        ("max_cost", "0"),
    ],
)
def test_a_wrong_type_names_its_field(caller, field, value):
    answer = caller.raw(json.dumps(CHAT | {field: value}))

    assert error_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"].startswith(field)


def test_a_missing_field_is_named(caller):
    answer = caller.raw(json.dumps({"model": "sandbox/instant"}))

    assert error_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == "messages"


def test_a_message_without_a_role_is_named(caller):
    answer = caller.raw(json.dumps(CHAT | {"messages": [*HELLO, {"content": "x"}]}))

    assert error_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == f"messages[{len(HELLO)}].role"
    assert answer.json()["error"]["message"] == f"`messages[{len(HELLO)}].role`: it is required"


@pytest.mark.parametrize("field", ["model", "max_tokens", "messages", "stream", "n"])
def test_a_field_that_stands_twice_is_refused(caller, field):
    first = {"n": "2", "stream": "true"}.get(field, json.dumps(CHAT.get(field)))
    answer = caller.raw("{" + f'"{field}": {first}, ' + json.dumps(CHAT | {"n": 1, "stream": False})[1:])

    assert error_of(answer) == (400, "invalid_request")
    assert answer.json()["error"]["param"] == field


def test_a_lone_surrogate_is_refused(caller):
    for body in (
        b'{"model": "\\ud800", "messages": [{"role": "user", "content": "x"}]}',
        b'{"model": "sandbox/instant", "messages": [{"role": "user", "content": "\\udfff"}]}',
        b'{"model": "sandbox/instant", "messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
    ):
        assert caller.raw(body).status_code == 400, body


def test_null_is_as_if_absent(caller):
    optional = ("max_tokens", "n", "temperature", "stream", "stop", "tools", "seed", "user", "max_cost")

    assert caller.chat(**dict.fromkeys(optional)).status_code == 200


def test_a_body_of_more_than_20_mb(caller):
    answer = caller.raw(b'{"model": "' + b"x" * (20 * 1024 * 1024) + b'"}')

    assert error_of(answer) == (413, "payload_too_large")


def test_a_chunked_body_of_more_than_20_mb(caller):
    head = (
        b"POST /api/v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n"
        b"Authorization: Bearer " + caller.text.encode() + b"\r\n\r\n"
    )
    megabyte = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    with connected(caller) as sent:
        sent.sendall(head + 20 * megabyte + b"1\r\nx\r\n")  # one byte too many, and no end
        sent.settimeout(10)

        assert sent.recv(4096).startswith(b"HTTP/1.1 413 ")


def test_depth_64_passes_and_65_does_not(caller):
    def nested(depth):
        return caller.raw(json.dumps(CHAT)[:-1] + f', "user": "u", "extra": {"[" * depth}{"]" * depth}}}')

    assert nested(63).status_code == 200
    assert error_of(nested(64)) == (400, "invalid_json")
    assert error_of(nested(100_000)) == (400, "invalid_json")


def test_brackets_inside_text_are_no_depth(caller):
    assert caller.chat(messages=[{"role": "user", "content": '[{"' * 500}]).status_code == 200


def test_paths_and_methods_that_are_not_there(caller):
    assert error_of(caller.http.get("/nothing")) == (404, "not_found")
    refused = caller.http.get("/chat/completions")
    assert (refused.status_code, refused.headers["allow"]) == (405, "POST")
    assert caller.http.get("/chat%2fcompletions").status_code in (404, 405)
    assert caller.http.post("//chat/completions", json=CHAT).status_code == 404


def test_no_answer_is_kept_or_taken_for_another_type(caller):
    answers = [
        caller.chat("sandbox/instant", max_tokens=4),
        caller.chat("sandbox/instant", max_tokens=4, stream=True),
        caller.chat("nothing/there"),
        *(caller.http.get(path) for path in ("/models", "/key", "/credits", "/keys", "/nothing")),
    ]

    for answer in answers:
        assert answer.headers["cache-control"] == "no-store", answer.url
        assert answer.headers["x-content-type-options"] == "nosniff", answer.url


def test_refusals_cost_nothing_and_leave_nothing(caller, desk):
    caller.chat(max_tokens=-1)
    caller.chat("nothing/there")
    caller.chat(service_tier="priority")

    assert desk.generations(caller.organization) == []
    wallet = desk.wallet(caller.organization)
    assert (wallet.funds, wallet.holds) == (10 * 10**9, 0)


def connected(caller):
    host, port = caller.api_base.removeprefix("http://").removesuffix("/api/v1").split(":")
    return socket.create_connection((host, int(port)))


def test_a_client_that_leaves_before_its_body_ends_is_forgotten(caller):
    with connected(caller) as cut:
        cut.sendall(
            b"POST /api/v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"
            b"Authorization: Bearer " + caller.text.encode() + b'\r\n\r\n{"model"'
        )

    assert caller.chat().status_code == 200
