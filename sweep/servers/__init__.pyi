from .base import (
    ItemEnded,
    ItemEvent,
    ItemStarted,
    MissingModelError,
    Rendered,
    Server,
    ServerImage,
    ServerInfo,
    Submission,
    Ticket,
)
from .discovery import ConnectOptions, FamilyServer, connect
from .invokeai.http import find_credentials
from .invokeai.responses import TIMED_OUT, NoAnswerError, timestamp

__all__ = [
    "TIMED_OUT",
    "ConnectOptions",
    "FamilyServer",
    "ItemEnded",
    "ItemEvent",
    "ItemStarted",
    "MissingModelError",
    "NoAnswerError",
    "Rendered",
    "Server",
    "ServerImage",
    "ServerInfo",
    "Submission",
    "Ticket",
    "connect",
    "find_credentials",
    "timestamp",
]
