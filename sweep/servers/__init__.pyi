from .base import (
    DeletesImages,
    ItemEnded,
    ItemEvent,
    ItemHeld,
    ItemStarted,
    MissingModelError,
    RemembersUploads,
    Rendered,
    SavesImages,
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
from .ray.agent import AgentDescription, AgentSettings
from .ray.cluster import (
    RayServer,
    check_token,
    find_servers,
    join_cluster,
    list_agents,
    require_token,
    start_agent,
    start_servers,
    stop_agent,
)
from .responses import TIMED_OUT, NoAnswerError, timestamp

__all__ = [
    "TIMED_OUT",
    "AgentDescription",
    "AgentSettings",
    "ComfyUI",
    "ConnectOptions",
    "DeletesImages",
    "InvokeAI",
    "ItemEnded",
    "ItemEvent",
    "ItemHeld",
    "ItemStarted",
    "MissingModelError",
    "NoAnswerError",
    "RayServer",
    "RemembersUploads",
    "Rendered",
    "SavesImages",
    "Server",
    "ServerImage",
    "ServerInfo",
    "Submission",
    "Ticket",
    "check_token",
    "connect",
    "find_credentials",
    "find_servers",
    "join_cluster",
    "list_agents",
    "require_token",
    "start_agent",
    "start_servers",
    "stop_agent",
    "timestamp",
]
