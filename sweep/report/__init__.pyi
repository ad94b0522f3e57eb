from .animation import write_animation, write_filmstrip
from .compare import compare_runs
from .contact_sheet import SheetRequest, write_sheet
from .data import AxisColumn, Material, payload
from .live import LiveView, serve_view, view_server
from .report import make_report
from .text import page_facts

__all__ = [
    "AxisColumn",
    "LiveView",
    "Material",
    "SheetRequest",
    "compare_runs",
    "make_report",
    "page_facts",
    "payload",
    "serve_view",
    "view_server",
    "write_animation",
    "write_filmstrip",
    "write_sheet",
]
