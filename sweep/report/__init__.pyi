from .compare import compare_runs
from .contact_sheet import SheetRequest, write_animation, write_filmstrip, write_sheet
from .page import describe_embedding, describe_page, make_report, write_bundle
from .payload import build_payload
from .report_data import AxisColumn, ReportData
from .thumbnails import make_notebook_html
from .view_server import LiveView, open_view, serve_view

__all__ = [
    "AxisColumn",
    "LiveView",
    "ReportData",
    "SheetRequest",
    "build_payload",
    "compare_runs",
    "describe_embedding",
    "describe_page",
    "make_notebook_html",
    "make_report",
    "open_view",
    "serve_view",
    "write_animation",
    "write_bundle",
    "write_filmstrip",
    "write_sheet",
]
