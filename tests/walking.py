"""A browser that asks one declared address after the other, as somebody, with ids of somebody else's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Protocol

from allauth.account.internal.flows.login import record_authentication
from django.conf import settings
from django.db import transaction
from django.http import HttpResponse
from django.test import Client

from accounts.core import roles
from accounts.models import Organization, User
from tests import declared
from tests.declared import Address

METHODS = ("get", "post", "put", "patch", "delete")
REFUSED = {403, 404, 405}
SIGN_IN = ("/accounts/login/", "/admin/login/")


class Whose(Protocol):
    """Whose things are asked for."""

    organization: Organization

    @property
    def ids(self) -> Mapping[str, str]: ...


class Walk:
    """A browser that asks one address after the other, and stays signed in though some of them sign out."""

    def __init__(self, client: Client, user: User | None, whose: Whose) -> None:
        self.client, self.user, self.whose = client, user, whose
        self.wrong: list[str] = []
        self._allowed: dict[Address, set[str]] = {}
        self._signed_in = ""
        self._body = {
            **whose.ids,
            "id": whose.ids["generation_id"],
            "organization": str(whose.organization.pk),
            "name": "taken",
            "role": roles.OWNER,
        }
        self._sign_in()

    def every(
        self, *, admin: tuple[str, ...] = ("get",), believing: bool = True
    ) -> Iterator[tuple[Address, str]]:
        """Each address that is declared, with each method; the admin asks first who it is, so with few.

        One that was refused by a 405 is believed what others it does not allow, or else asked all the same.
        """
        for address in declared.addresses():
            declared.require_known(address, self.whose.ids)
            for method in admin if address.access == declared.OPERATORS else METHODS:
                if not believing or self.may_take(address, method):
                    yield address, method

    def may_take(self, address: Address, method: str) -> bool:
        """By what its last 405 said, if any did."""
        return method.upper() in self._allowed.get(address, {method.upper()})

    def ask(self, address: Address, method: str, *, undone: bool = False) -> HttpResponse:
        """With ids of theirs in the path, and all of them in the query or the body too."""
        before = transaction.savepoint() if undone else None
        answer = getattr(self.client, method)(address.path(self.whose.ids), self._body)
        if before is not None:
            transaction.savepoint_rollback(before)
        if answer.status_code == 405 and "Allow" in answer.headers:
            self._allowed[address] = set(answer.headers["Allow"].replace(" ", "").split(","))
        if self._session() != self._signed_in:
            self._sign_in()
        return answer

    def require(self, holds: bool, address: Address, method: str, answer: HttpResponse) -> None:
        """Note what is wrong: the whole list tells more than its first line."""
        if not holds or answer.status_code >= 500:
            who = self.user.email if self.user else "a stranger"
            said = f"{answer.status_code} {answer.headers.get('Location', '')}".strip()
            path, access = address.path(self.whose.ids), address.access.to(method)
            self.wrong.append(f"{method} {path}, which is for {access}: {who} got {said}")

    def _sign_in(self) -> None:
        if self.user is None:
            return
        self.client.force_login(self.user)
        session = self.client.session
        asked = SimpleNamespace(session=session)  # some pages want the password typed just now
        record_authentication(asked, self.user, "password", reauthenticated=True)
        session.save()
        self._signed_in = self._session()

    def _session(self) -> str:
        cookie = self.client.cookies.get(settings.SESSION_COOKIE_NAME)
        return cookie.value if cookie else ""


def asks_to_sign_in(answer: HttpResponse) -> bool:
    return answer.status_code == 302 and answer.headers["Location"].startswith(SIGN_IN)


def is_refused(access: str, answer: HttpResponse) -> bool:
    """To somebody who is signed in."""
    if access == declared.OPERATOR:
        return asks_to_sign_in(answer) or answer.status_code in REFUSED
    return answer.status_code in (REFUSED | {400} if access == declared.SECRET else REFUSED)
