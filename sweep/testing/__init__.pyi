from .metrics import check_metric
from .servers import SERVER_CASES, Subject

__all__ = [
    "SERVER_CASES",
    "Subject",
    "check_metric",
]
