"""Finds out by asking which client a server needs."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from pathlib import Path

from sweep.servers.base import Server
from sweep.servers.http import Credentials, Timings
from sweep.servers.invokeai.client import InvokeAI


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """How to speak to a server. All but `credentials` and `uploads` is commonly the same for every server of a run."""

    credentials: Credentials | None = None
    ca_file: Path | None = None
    queue_id: str = "default"
    timings: Timings = field(default_factory=Timings)
    uploads: MutableMapping[str, str] | None = None  # SHA-256 → name on this server, kept by the caller


def connect(url: str, options: ConnectOptions | None = None) -> Server:
    """Return a client for the server at `url`; nothing is sent before `open`.

    `open` raises ServerError where nobody answers there, we are refused, or it speaks neither the queue API (InvokeAI
    3.2 to 6) nor the sessions API (InvokeAI 3.0 and 3.1, and the portable document's servers).

    Raises UsageError for an address that is none.
    """
    given = options or ConnectOptions()
    return InvokeAI(
        url,
        credentials=given.credentials,
        ca_file=given.ca_file,
        queue_id=given.queue_id,
        timings=given.timings,
        uploads=given.uploads,
    )
