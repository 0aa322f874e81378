"""One call of the API: key, route, idempotency, parameters, work, answer."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from billing.sandbox import form, parameters, refusals, routes
from billing.sandbox.account import API_VERSION, DAY, Account, random_id
from billing.sandbox.lists import told
from billing.sandbox.mishaps import Mishap, Mishaps
from billing.sandbox.refusals import Invalid, Refused, Thing

_LONGEST_KEY = 255
_BROKEN: Thing = {"error": {"type": "api_error", "message": "An error occurred in the sandbox; see its log."}}


@dataclass(frozen=True, slots=True)
class Call:
    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """`lost`: it is never sent, the connection is cut."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    lost: bool = False


class Api:
    def __init__(self, account: Account, mishaps: Mishaps) -> None:
        self._account = account
        self._mishaps = mishaps
        self._in_flight: set[str] = set()

    async def serve(self, call: Call) -> Answer:
        request_id = random_id("req", 14)
        headers = {"request-id": request_id, "stripe-version": API_VERSION}
        key = call.headers.get("idempotency-key", "") if call.method == "POST" else ""
        if key:
            headers["idempotency-key"] = key
        try:
            status, body, replayed, mishap = await self._once(call, key, request_id)
        except Refused as refused:
            return Answer(refused.status, _json(refused.body), headers)
        finally:
            self._account.flush()
        if replayed:
            headers["idempotent-replayed"] = "true"
        lost = mishap is not None and mishap.kind in ("lose", "hang")
        if mishap is not None and mishap.kind == "hang":
            await asyncio.sleep(mishap.seconds)
        return Answer(status, body, headers, lost)

    async def _once(self, call: Call, key: str, request_id: str) -> tuple[int, bytes, bool, Mishap | None]:
        """Do the work, unless this idempotency key has done it. `Refused` here is kept under no key."""
        self._require_key(call.headers.get("authorization", ""))
        found = routes.find(call.method, call.path)
        if found is None:
            raise refusals.no_such_path(call.method, call.path)
        try:
            given = form.decode(call.body.decode() if call.method == "POST" else call.query)
        except ValueError:
            raise Invalid("The parameters are not a form of UTF-8 text.") from None
        digest = hashlib.sha256(_json([call.path, given])).hexdigest()
        if len(key) > _LONGEST_KEY:
            raise Invalid(f"Idempotency keys have up to {_LONGEST_KEY} characters.")
        if key:
            if key in self._in_flight:
                raise refusals.in_flight(key)
            kept = self._kept(key)
            if kept is not None:
                if kept["digest"] != digest:
                    raise refusals.other_parameters(key)
                return kept["status"], kept["body"].encode(), True, None
        params = parameters.checked(found[0].typed, given)
        mishap = self._mishaps.take(call.method, call.path)
        if mishap is not None and mishap.kind == "limit":
            raise Refused(429, "invalid_request_error", "Too many requests.", code="rate_limit")
        if mishap is not None and mishap.kind == "slow":
            self._in_flight.add(key)
            try:
                await asyncio.sleep(mishap.seconds)
            finally:
                self._in_flight.discard(key)
        if mishap is not None and mishap.kind == "error":
            status, body = 500, _json(_BROKEN)
        else:
            self._account.request = {"id": request_id, "idempotency_key": key or None}
            status, body = self._work(found, params)
        if key:
            self._keep(key, digest, status, body)
        return status, body, False, mishap

    def _work(self, found: tuple[routes.Route, tuple[str, ...]], params: Thing) -> tuple[int, bytes]:
        route, ids = found
        expand = params.pop("expand", [])
        try:
            made = route.handler(self._account, params, *ids)
            return 200, _json(told(self._account, made, expand))
        except Invalid:
            raise
        except Refused as refused:
            if refused.status == 404:
                raise
            return refused.status, _json(refused.body)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
            traceback.print_exc(file=sys.stderr)
            return 500, _json(_BROKEN)
        finally:
            self._account.request = None

    def _require_key(self, authorization: str) -> None:
        scheme, _, given = authorization.partition(" ")
        if scheme.lower() == "basic":
            try:
                given = base64.b64decode(given).decode().partition(":")[0]
            except ValueError:
                given = ""
        if given != self._account.key:
            raise refusals.wrong_key(given)

    def _kept(self, key: str) -> Thing | None:
        kept = self._account.lookup(f"_idempotency:{key}")
        if kept is None or kept["created"] + DAY <= self._account.now():
            return None
        return kept

    def _keep(self, key: str, digest: str, status: int, body: bytes) -> None:
        kept = {"digest": digest, "status": status, "body": body.decode()}
        self._account.add("_idempotency", kept, fixed_id=f"_idempotency:{key}")


def _json(value: object) -> bytes:
    return json.dumps(value, default=_plain, sort_keys=True).encode()


def _plain(value: object) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError(f"{type(value).__name__} is not JSON")
