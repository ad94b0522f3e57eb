from .base import (
    ItemEnded,
    ItemEvent,
    ItemHeld,
    ItemStarted,
    MissingModelError,
    Rendered,
    Server,
    ServerImage,
    ServerInfo,
    Submission,
    Ticket,
)
from .comfyui.client import ComfyUI
from .discovery import ConnectOptions, connect
from .http import find_credentials
from .invokeai.client import InvokeAI
from .responses import TIMED_OUT, NoAnswerError, timestamp

__all__ = [
    "TIMED_OUT",
    "ComfyUI",
    "ConnectOptions",
    "InvokeAI",
    "ItemEnded",
    "ItemEvent",
    "ItemHeld",
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
