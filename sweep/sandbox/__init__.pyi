from .models import catalogue
from .options import FaultInjection, SandboxOptions
from .routes.app import sandbox_server, serve_sandbox

__all__ = [
    "FaultInjection",
    "SandboxOptions",
    "catalogue",
    "sandbox_server",
    "serve_sandbox",
]
