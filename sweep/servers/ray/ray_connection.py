"""The connection of this process to a Ray cluster, made again where the cluster was started anew."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import socket
import sys
import threading
from typing import Any

from sweep.errors import ServerUnreachableError, SweepError, UsageError
from sweep.servers.untrusted_json import shorten

NAMESPACE = "sweep"
AGENTS: dict[str, Any] = {}
"""Handles of agents by name, as long as this process is in one cluster and they answer."""
_HEAD_SECONDS = 3600  # without its head Ray ends a process after a minute; a run's own patience ends before this
_LISTENER_SECONDS = 10.0
_INSTALL = "pip install 'sweep-engine[ray]' installs it."
_joining = threading.Lock()
_address = ""


def parse_cluster_address(on: str | None) -> str:
    """Return the ADDRESS of --on ray[:ADDRESS], empty for the cluster of this host. Raises UsageError."""
    kind, separator, address = ("ray" if on is None else on).partition(":")
    if kind != "ray":
        hint = "To render on a server by its address, use sweep run --server URL."
        raise UsageError(f"--on takes ray or ray:HOST:PORT, not {on or 'nothing'}.", hint=hint)
    host, _, port = address.rpartition(":")
    if separator and not (host and "/" not in host and port.isdecimal() and len(port) < 6 and int(port) < 65536):
        raise UsageError(f"--on {on} has no host and port.", hint="Write --on ray:HOST:PORT; Ray's port is 6379.")
    return address


def join_cluster(address: str = "") -> None:
    """Join the cluster at `address`, or the one of this host.

    Raises:
        UsageError: Ray is not installed, or is of another version than the cluster's.
        ServerUnreachableError: No cluster answers, or it refused our token.
    """
    if importlib.util.find_spec("ray") is None:
        raise UsageError("Ray is not installed.", hint=_INSTALL)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_gcs_rpc_server_reconnect_timeout_s", str(_HEAD_SECONDS))
    hook = sys.excepthook
    import ray

    sys.excepthook = hook  # Ray's own waits for the cluster, which may be gone, before it prints an error
    if ray.is_initialized():
        return
    global _address
    _address = address
    _require_listener(address or os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(
            address=address or "auto", namespace=NAMESPACE, log_to_driver=False, logging_level=logging.CRITICAL,
            configure_logging=True,
        )  # fmt: skip
    except (RuntimeError, ray.exceptions.RayError, OSError, ValueError) as error:
        raise explain_join_failure(address, error) from error
    with contextlib.suppress(ImportError):
        from ray._private import worker

        worker.print_to_stdstream = lambda *_, **__: None  # no setting keeps lost nodes off stdout, where answers go


def _require_listener(address: str) -> None:
    """Raise ServerUnreachableError where nobody listens at HOST:PORT: Ray itself would try for ten minutes."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or "//" in host:  # "auto", or another form that Ray reads
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _LISTENER_SECONDS).close()
    except OSError as error:
        raise explain_join_failure(address, error) from error


def find_agent(name: str) -> Any:
    """Return the handle of an agent.

    To Ray, a head that was started again is another cluster: this process leaves the old one and joins it.

    Raises ValueError where there is no agent of the name, SweepError where the cluster does not answer.
    """
    import ray

    with _joining:
        if ray.is_initialized():
            _require_listener(ray.get_runtime_context().gcs_address)
            try:
                ray.util.list_named_actors()
            except ray.exceptions.AuthenticationError:
                AGENTS.clear()
                ray.shutdown()
        join_cluster(_address)
        return AGENTS.setdefault(name, ray.get_actor(name, NAMESPACE))


_REFUSED = "Failed to connect to Ray cluster at"
_BOTH_SIDES = "Both sides need the same token (RAY_AUTH_TOKEN or ~/.ray/auth_token)."


def explain_join_failure(address: str, error: Exception) -> SweepError:
    """Explain why a cluster could not be joined: another version of Ray or Python, another token, or nobody answers."""
    text = ((error.strerror if isinstance(error, OSError) else None) or str(error)).strip()
    if "ersion mismatch" in text:
        versions = " ".join(text.split()).partition(": ")[2]
        return UsageError(
            f"This process and the cluster have different versions of Ray or Python: {versions}",
            hint="Install the same Ray and the same Python 3.x on all hosts; the image servers may have their own.",
        )
    if text.startswith(_REFUSED):  # somebody listens there
        return ServerUnreachableError(
            f"The Ray cluster at {text.removeprefix(_REFUSED).strip()} cannot be joined.",
            hint=f"{_BOTH_SIDES} ray status tells whether the cluster works.",
        )
    reason = shorten(text) or type(error).__name__
    where = f"at {address} ({reason})" if address else "on this host"
    return ServerUnreachableError(
        f"No Ray cluster answers {where}.",
        hint=f"Start one with ray start --head, or give its address: --on ray:HOST:PORT. {_BOTH_SIDES}",
    )
