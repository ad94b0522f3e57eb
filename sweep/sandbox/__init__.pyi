from .options import FAMILY, FaultInjection, SandboxOptions, catalogue
from .routes.app import sandbox_server, serve_sandbox

__all__ = [
    "FAMILY",
    "FaultInjection",
    "SandboxOptions",
    "catalogue",
    "sandbox_server",
    "serve_sandbox",
]
