"""Who we are to a server: a token, or e-mail and password; from the environment or a file nobody else can read."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.errors import UsageError

TOKEN, EMAIL, PASSWORD, FILE = "SWEEP_TOKEN", "SWEEP_EMAIL", "SWEEP_PASSWORD", "SWEEP_CREDENTIALS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A token goes before e-mail and password. None of them is in the repr."""

    token: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def can_log_in(self) -> bool:
        return bool(self.email and self.password)


def find_credentials(url: str, environ: Mapping[str, str], file: Path | None = None) -> Credentials | None:
    """What there is for the server at `url`: its own section of the file, else the environment, else the file's top.

    The file (`file`, else the one SWEEP_CREDENTIALS names) is TOML::

        token = "…"                          # for every server
        [servers."http://gpu1:9090"]
        email = "me@example.org"
        password = "…"

    Raises UsageError where the file is not there, is not TOML, or may be read by others (POSIX: mode 0600 or less).
    """
    path = file or (Path(environ[FILE]) if environ.get(FILE) else None)
    document = _read(path) if path else {}
    servers = document.get("servers")
    own = servers.get(url) or servers.get(url.rstrip("/")) if isinstance(servers, dict) else None
    return (
        _of(own if isinstance(own, dict) else {})
        or _of({"token": environ.get(TOKEN), "email": environ.get(EMAIL), "password": environ.get(PASSWORD)})
        or _of(document)
    )


def _of(table: Mapping[str, Any]) -> Credentials | None:
    values = {name: table.get(name) for name in ("token", "email", "password")}
    found = Credentials(**{name: value.strip() for name, value in values.items() if isinstance(value, str) and value})
    return found if found.token or found.can_log_in else None


def _read(path: Path) -> dict[str, Any]:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as fault:
        raise UsageError(f"{path}: the credentials file cannot be read ({fault.strerror}).") from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"{path}: others may read this credentials file.", hint=f"chmod 600 {path}")
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise UsageError(f"{path}: the credentials file is not TOML.") from None
