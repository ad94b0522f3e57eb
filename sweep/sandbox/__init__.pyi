from .api_routes import sandbox_server, serve_sandbox
from .model_catalogue import catalogue
from .sandbox_options import FAMILY, FaultInjection, SandboxOptions

__all__ = [
    "FAMILY",
    "FaultInjection",
    "SandboxOptions",
    "catalogue",
    "sandbox_server",
    "serve_sandbox",
]
