"""Who may speak to a sandbox with users: logins, tokens that run out, and fresh ones, as InvokeAI has them."""

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

    @property
    def wanted(self) -> bool:
        """Whether anybody has to log in."""
        return bool(self.users)

    def log_in(self, email: object, password: object) -> str | None:
        """A token; None where nobody has that e-mail and password."""
        if not isinstance(email, str) or not isinstance(password, str) or self.users.get(email) != password:
            return None
        self.logins += 1
        return self._issued(email)

    def who(self, token: str) -> str | None:
        """Whose token that is; None where it is nobody's, or has run out."""
        email, until = self._tokens.get(token, ("", 0.0))
        return email if email and self._clock() < until else None

    def fresh(self, token: str) -> str | None:
        """Another token for the same user, the old one lasting on; None for a token that is no good."""
        email = self.who(token)
        return self._issued(email) if email else None

    def expire(self) -> None:
        """Every token runs out now."""
        self._tokens.clear()

    def refusal(self, headers: Mapping[str, str], auth: Any = None) -> str | None:
        """Why a request or a socket is turned away, in InvokeAI's words; None where it may come in."""
        if not self.wanted:
            return None
        token = bearer(headers) or (str(auth.get("token") or "") if isinstance(auth, Mapping) else "")
        if not token:
            return "Authentication required"
        return None if self.who(token) else "Invalid or expired token"

    def _issued(self, email: str) -> str:
        token = secrets.token_urlsafe(32)
        self._tokens[token] = (email, self._clock() + SECONDS)
        return token


def bearer(headers: Mapping[str, str]) -> str:
    """The token of an Authorization header; empty where there is none."""
    kind, _, token = headers.get("Authorization", "").partition(" ")
    return token if kind == "Bearer" else ""
