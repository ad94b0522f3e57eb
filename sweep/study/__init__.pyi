from .adaptive_search import (
    SearchDecision,
    SearchPoint,
    SearchTask,
    check_direction,
    choose_next_points,
    estimate_crossing,
)
from .advice import write_decision
from .findings import select_headline_metrics, select_headlines
from .measuring.measurements import MeasureProgress, measure_now
from .measuring.workers import Task, load_reference, measure_all, measure_task, start_follower
from .metrics.base import (
    DecodedImage,
    Formula,
    ImagePair,
    Metric,
    UnreadableImageError,
    compute_working_shape,
    decode,
    resize_image,
)
from .metrics.metric_lookup import describe_columns, estimate_seconds, list_standard, resolve_metrics
from .metrics.pixel_metrics import luma
from .ratings import add_ratings, merge_ratings, parse_ratings
from .stats.response_curves import compute_curve
from .stats.t_tests import compare_levels, correct_claims
from .stats.variance_shares import compute_effects
from .study import Study, make_study
from .study_design import read_design
from .study_json import Curve, DesignFacts, Difference, Effects, MetricFacts, Sentence, Share, StudyJson

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
    "SearchDecision",
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
    "compute_working_shape",
    "correct_claims",
    "decode",
    "describe_columns",
    "estimate_crossing",
    "estimate_seconds",
    "list_standard",
    "load_reference",
    "luma",
    "make_study",
    "measure_all",
    "measure_now",
    "measure_task",
    "merge_ratings",
    "parse_ratings",
    "read_design",
    "resize_image",
    "resolve_metrics",
    "select_headline_metrics",
    "select_headlines",
    "start_follower",
    "write_decision",
]
