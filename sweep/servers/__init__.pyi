from .base import (
    Gallery,
    ItemEnded,
    ItemEvent,
    ItemHeld,
    ItemStarted,
    KeepsImages,
    MissingModelError,
    RefusedImageError,
    Rendered,
    SavesImages,
    Server,
    ServerImage,
    ServerInfo,
    StepDone,
    Submission,
    Ticket,
    keeps_images,
    saves_images,
)
from .comfyui.comfyui_client import ComfyUI
from .credentials import find_credentials
from .discovery import connect
from .http import TIMED_OUT, ConnectOptions, NoAnswerError
from .invokeai.invokeai_client import InvokeAI
from .ray.agent import Agent, AgentDescription, AgentSettings
from .ray.cluster import check_token, find_servers, list_agents, start_agent, start_servers, stop_agent
from .ray.ray_connection import join_cluster, parse_cluster_address
from .ray.ray_server import RayServer
from .untrusted_json import timestamp

__all__ = [
    "TIMED_OUT",
    "Agent",
    "AgentDescription",
    "AgentSettings",
    "ComfyUI",
    "ConnectOptions",
    "Gallery",
    "InvokeAI",
    "ItemEnded",
    "ItemEvent",
    "ItemHeld",
    "ItemStarted",
    "KeepsImages",
    "MissingModelError",
    "NoAnswerError",
    "RayServer",
    "RefusedImageError",
    "Rendered",
    "SavesImages",
    "Server",
    "ServerImage",
    "ServerInfo",
    "StepDone",
    "Submission",
    "Ticket",
    "check_token",
    "connect",
    "find_credentials",
    "find_servers",
    "join_cluster",
    "keeps_images",
    "list_agents",
    "parse_cluster_address",
    "saves_images",
    "start_agent",
    "start_servers",
    "stop_agent",
    "timestamp",
]
