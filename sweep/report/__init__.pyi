from .compare import compare_runs
from .contact_sheet import write_animation, write_filmstrip, write_sheet
from .page_json import build_page_json
from .report_data import AxisColumn, ReportData
from .report_writer import describe_embedding, describe_page, make_report, write_bundle
from .thumbnails import make_notebook_html
from .view_server import LiveView, open_view, serve_view

__all__ = [
    "AxisColumn",
    "LiveView",
    "ReportData",
    "build_page_json",
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
