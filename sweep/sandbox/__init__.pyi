from .app import sandbox_server, serve_sandbox
from .models import catalogue
from .options import FaultInjection, SandboxOptions

__all__ = [
    "FaultInjection",
    "SandboxOptions",
    "catalogue",
    "sandbox_server",
    "serve_sandbox",
]
