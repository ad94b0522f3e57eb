"""Ports to start servers on."""

from __future__ import annotations

import random
import socket
from contextlib import suppress

PORTS = range(20_000, 32_000)  # below those that systems give to the near end of a connection


def free_port() -> int:
    """Choose a port nobody listens on, and that the system gives to no connection while its server is down."""
    for port in random.SystemRandom().sample(PORTS, len(PORTS)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(f"No port from {PORTS.start} to {PORTS.stop} is free.")
