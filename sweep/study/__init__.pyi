from .adaptive import SearchPoint, SearchTask, check_direction, choose_next_points, decide_search, estimate_crossing
from .findings import select_headline_metrics, select_headlines, write_decision
from .measuring.measure import MeasureProgress, measure_now
from .measuring.pool import measure_all
from .measuring.task import Task, measure_task
from .measuring.worker import start_follower
from .metrics.base import Formula, Metric
from .metrics.planes import DecodedImage, ImagePair, UnreadableImageError, decode, luma, reduced, working_shape
from .metrics.registry import describe_columns, estimate_seconds, list_optional, list_standard, resolve_metrics
from .observations import read_design
from .ratings import add_ratings
from .schema import Curve, DesignFacts, Difference, Effects, MetricFacts, Sentence, Share, StudyJson
from .stats.curves import compute_curve
from .stats.effects import compare_levels, compute_effects, correct_claims
from .study import Study, make_study

__all__ = [
    "Curve",
    "DecodedImage",
    "DesignFacts",
    "Difference",
    "Effects",
    "Formula",
    "ImagePair",
    "MeasureProgress",
    "Metric",
    "MetricFacts",
    "SearchPoint",
    "SearchTask",
    "Sentence",
    "Share",
    "Study",
    "StudyJson",
    "Task",
    "UnreadableImageError",
    "add_ratings",
    "check_direction",
    "choose_next_points",
    "compare_levels",
    "compute_curve",
    "compute_effects",
    "correct_claims",
    "decide_search",
    "decode",
    "describe_columns",
    "estimate_crossing",
    "estimate_seconds",
    "list_optional",
    "list_standard",
    "luma",
    "make_study",
    "measure_all",
    "measure_now",
    "measure_task",
    "read_design",
    "reduced",
    "resolve_metrics",
    "select_headline_metrics",
    "select_headlines",
    "start_follower",
    "working_shape",
    "write_decision",
]
