from .model_catalogue import catalogue
from .options import FAMILY, FaultInjection, SandboxOptions
from .routes.app import sandbox_server, serve_sandbox

__all__ = [
    "FAMILY",
    "FaultInjection",
    "SandboxOptions",
    "catalogue",
    "sandbox_server",
    "serve_sandbox",
]
