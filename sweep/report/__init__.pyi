from .animation import write_animation, write_filmstrip
from .compare import compare_runs
from .contact_sheet import SheetRequest, write_sheet
from .data import AxisColumn, ReportData, build_payload
from .live import LiveView, open_view, serve_view
from .report import make_report
from .text import describe_page

__all__ = [
    "AxisColumn",
    "LiveView",
    "ReportData",
    "SheetRequest",
    "build_payload",
    "compare_runs",
    "describe_page",
    "make_report",
    "open_view",
    "serve_view",
    "write_animation",
    "write_filmstrip",
    "write_sheet",
]
