"""The address of a server: what a person may type, and the parts the client needs."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, urlsplit

from sweep.errors import UsageError, VariationError

LONGEST_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`origin` is scheme, host and port; `prefix` a proxy's path, empty or `/like/this`."""

    origin: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises UsageError where `text` is no http address, or carries credentials (they would land in files)."""
        whole = text.strip() if "://" in text else f"http://{text.strip()}"
        try:
            parts = urlsplit(whole)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("http://")
        if parts.username is not None or parts.password is not None:
            raise UsageError(
                f"The address of {host} carries a name or password.",
                hint="Set SWEEP_TOKEN, or SWEEP_EMAIL and SWEEP_PASSWORD, instead.",
            )
        if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in whole):
            raise UsageError(f"{text!r} is not the address of a server.", hint="It is written http://host:9090.")
        shown = f"[{host}]" if ":" in host else host
        return cls(origin=f"{parts.scheme}://{shown}{f':{port}' if port else ''}", prefix=parts.path.rstrip("/"))

    @property
    def url(self) -> str:
        return self.origin + self.prefix

    @property
    def name(self) -> str:
        """Short, for rows and progress: `host:port`, with a proxy's prefix."""
        return self.url.partition("://")[2]


def path_part(name: str) -> str:
    """A server's name for something, made safe to stand in a URL. Raises VariationError where it cannot be one."""
    unsafe = name in ("", ".", "..") or len(name) > LONGEST_NAME or any(c in "/\\" or not c.isprintable() for c in name)
    if unsafe:
        raise VariationError("the server named a picture in a way that cannot be a name", kind="BadName")
    return quote(name, safe="")
