"""Users of a sandbox that wants a login: their passwords, and the tokens they were given."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any

SECONDS = 86_400.0  # a token lasts, as InvokeAI's do without remember_me


class Accounts:
    """Users by e-mail with their passwords; none at all is a server that wants no login."""

    def __init__(self, users: Mapping[str, str], clock: Callable[[], float] = time.monotonic) -> None:
        self.users = dict(users)
        self.logins = 0
        self._clock = clock
        self._tokens: dict[str, tuple[str, float]] = {}  # token → (e-mail, when it runs out)

    def log_in(self, email: object, password: object) -> str | None:
        """Issue a token; None where nobody has that e-mail and password."""
        if not isinstance(email, str) or not isinstance(password, str) or self.users.get(email) != password:
            return None
        self.logins += 1
        return self._issue(email)

    def _issue(self, email: str) -> str:
        token = secrets.token_urlsafe(32)
        self._tokens[token] = (email, self._clock() + SECONDS)
        return token

    def who(self, token: str) -> str | None:
        """Whose token that is; None where it is nobody's, or has run out."""
        email, until = self._tokens.get(token, ("", 0.0))
        return email if email and self._clock() < until else None

    def fresh(self, token: str) -> str | None:
        """Issue another token for the same user, the old one staying valid; None for an invalid token."""
        email = self.who(token)
        return self._issue(email) if email else None

    def expire(self) -> None:
        """Let every token run out now."""
        self._tokens.clear()

    def refusal(self, headers: Mapping[str, str], auth: Any = None) -> str | None:
        """Say why a request or a socket is turned away, in InvokeAI's words; None where it may come in."""
        if not self.users:
            return None
        token = bearer(headers) or (str(auth.get("token") or "") if isinstance(auth, Mapping) else "")
        if not token:
            return "Authentication required"
        return None if self.who(token) else "Invalid or expired token"


def bearer(headers: Mapping[str, str]) -> str:
    """Read the token of an Authorization header; empty where there is none."""
    kind, _, token = headers.get("Authorization", "").partition(" ")
    return token if kind == "Bearer" else ""
