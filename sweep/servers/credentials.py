"""Addresses of servers, and the credentials for them: tokens, e-mail and password, headers of a proxy."""

from __future__ import annotations

import base64
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from yarl import URL

from sweep.errors import UsageError, did_you_mean
from sweep.servers.untrusted_json import mapping
from sweep.text import quote_argument


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """The address of a server: `origin` is scheme, host and port, `prefix` a proxy's path (empty or `/like/this`)."""

    origin: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> ServerAddress:
        """Read an address.

        Raises UsageError where it is no http address, or carries credentials (they would land in files).
        """
        whole = text.strip() if "://" in text else f"http://{text.strip()}"
        try:
            parts = urlsplit(whole)
            host, port = parts.hostname, parts.port
            (host or "").encode("idna")
            URL(whole)
        except ValueError:  # also of a name that no host can have, as where a copied one hides a space of no width
            host, port, parts = None, None, urlsplit("http://")
        if parts.username is not None or parts.password is not None:
            raise UsageError(
                f"The address of {host} carries a name or password.",
                hint="Set SWEEP_TOKEN, or SWEEP_EMAIL and SWEEP_PASSWORD, instead.",
            )
        if parts.scheme not in ("http", "https") or not host or port == 0 or any(c.isspace() for c in whole):
            harmless = f"…{text[text.rindex('@') :]}" if "@" in text else text.partition("?")[0]  # without a password
            hint = "Write it like http://host:9090 or http://[::1]:9090."
            raise UsageError(f"{harmless!r} is not the address of a server.", hint=hint)
        if parts.query or parts.fragment:  # it would land in the journal with the command
            raise UsageError(
                f"The address of {host} carries a query.", hint="Leave it out. Set SWEEP_TOKEN for a token."
            )
        shown = f"[{host}]" if ":" in host else host
        return cls(origin=f"{parts.scheme}://{shown}{f':{port}' if port else ''}", prefix=parts.path.rstrip("/"))

    @property
    def url(self) -> str:
        return self.origin + self.prefix

    @property
    def name(self) -> str:
        """Short, for rows and progress: `host:port`, with a proxy's prefix."""
        return self.url.partition("://")[2]


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")  # a byte of the environment that is not UTF-8
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A token, which goes before e-mail and password, and a proxy's headers. None of them is in the repr."""

    token: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # that a proxy before the server wants

    def __post_init__(self) -> None:
        """Raise UsageError for what no HTTP header can carry, without quoting it."""
        sent = {"token": self.token, **{f"header {name}": value for name, value in self.headers}}
        for what, value in {**sent, "e-mail": self.email, "password": self.password}.items():
            if what in sent and _CONTROL.search(value or ""):
                raise UsageError(f"The {what} for a server holds a control character, such as a line break.")
            if _SURROGATE.search(value or ""):
                raise UsageError(f"The {what} for a server is not UTF-8 text.")
        for name, _ in self.headers:
            if not _HEADER_NAME.fullmatch(name):
                raise UsageError(f"{name!r} cannot be the name of a header.")

    @property
    def can_log_in(self) -> bool:
        return bool(self.email and self.password)

    @property
    def basic(self) -> str:
        """Return e-mail and password as a proxy takes them; empty without both."""
        pair = base64.b64encode(f"{self.email}:{self.password}".encode()).decode()
        return f"Basic {pair}" if self.can_log_in else ""


def find_credentials(url: str, environ: Mapping[str, str], file: Path | None = None) -> Credentials | None:
    """Find the credentials for the server at `url`.

    The login is that of its own section of the file, else of the environment, else of the file's top. Headers are those
    of the top and of the section together. The file (`file`, else the one SWEEP_CREDENTIALS names) is TOML::

        token = "…"                          # for every server
        [servers."http://gpu1:9090"]
        email = "me@example.org"
        password = "…"
        headers = {X-Api-Key = "…"}       # sent with every request

    Raises UsageError where the file is not there, is not such a file, or may be read by others (POSIX: mode 0600).
    """
    path = file or environ.get("SWEEP_CREDENTIALS")
    document = _read(Path(path)) if path else {}
    sections = {_normalize(address): section for address, section in document.get("servers", {}).items()}
    own = sections.get(_normalize(url), {})
    sources = (own, {key: environ.get(name) for key, name in _LOGIN.items()}, document)
    logins = ({key: (source.get(key) or "").strip() for key in _LOGIN} for source in sources)
    given = (*document.get("headers", {}).items(), *own.get("headers", {}).items())
    headers = {name.lower(): (name, str(value)) for name, value in given}  # letters of both cases name one header
    for login in (*logins, {}):
        found = Credentials(**login, headers=tuple(headers.values()))
        if found.token or found.can_log_in:
            return found
    return found if headers else None


def _normalize(url: str) -> str:
    """Return an address in the form that all ways to write it share; that of another scheme as it is."""
    try:
        return str(URL(ServerAddress.parse(url).url))
    except UsageError:
        return url


_LOGIN: Final = {"token": "SWEEP_TOKEN", "email": "SWEEP_EMAIL", "password": "SWEEP_PASSWORD"}
_KEYS: Final[Mapping[str, type]] = {**dict.fromkeys(_LOGIN, str), "headers": dict}
_FORM: Final = (
    'Write token = "…", or email = "…" and password = "…". '
    'A line [servers."http://gpu1:9090"] before them keeps them for that server.'
)


def _read(path: Path) -> dict[str, Any]:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: the credentials file cannot be read ({error.strerror}).") from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"{path}: others may read this credentials file.", hint=f"chmod 600 {quote_argument(path)}")
    try:
        document = tomllib.loads(content.decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        line = re.search(r"\(at (line \d+)", str(error))  # the rest may quote a secret
        place = f" ({line[1]})" if line else ""
        raise UsageError(f"{path}: the credentials file is not TOML{place}.", hint=_FORM) from None
    sections = mapping(document.get("servers")).values()
    tables = ((document, {**_KEYS, "servers": dict}), *((section, _KEYS) for section in sections))
    if problem := next(filter(None, (_find_problem(*each) for each in tables)), ""):
        raise UsageError(f"{path}: {problem}", hint=_FORM)
    return document


def _find_problem(table: Any, keys: Mapping[str, type]) -> str:
    """Return what is wrong with the file's top or a section, without a value of it; empty where nothing is."""
    if not isinstance(table, dict):
        return "each server needs a section of its own."
    for key, value in table.items():
        if key not in keys:
            return f"{key} is no key of a credentials file.{did_you_mean(key, keys)}"
        if not isinstance(value, keys[key]):
            return f"{key} must be a {'text in quotes' if keys[key] is str else 'table'}."
    return "" if ("email" in table) == ("password" in table) else "email and password belong together."
