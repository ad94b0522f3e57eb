from .model_catalogue import catalogue
from .sandbox_options import FAMILY, FaultInjection, SandboxOptions
from .web_application import sandbox_server, serve_sandbox

__all__ = [
    "FAMILY",
    "FaultInjection",
    "SandboxOptions",
    "catalogue",
    "sandbox_server",
    "serve_sandbox",
]
