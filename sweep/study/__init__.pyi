from .findings import headline_metrics, headline_sentences
from .measuring.measure import MeasureProgress, measure_now
from .measuring.pool import measure_all
from .measuring.task import Task, measure_task
from .metrics.base import Formula, Metric
from .metrics.planes import DecodedImage, ImagePair, UnreadableImageError, decode, luma, reduced, working_shape
from .metrics.registry import known_facts, optional, resolve, standard
from .schema import DesignFacts, Effects, MetricFacts, Sentence, Share, StudyJson
from .study import Study, make_study

__all__ = [
    "DecodedImage",
    "DesignFacts",
    "Effects",
    "Formula",
    "ImagePair",
    "MeasureProgress",
    "Metric",
    "MetricFacts",
    "Sentence",
    "Share",
    "Study",
    "StudyJson",
    "Task",
    "UnreadableImageError",
    "decode",
    "headline_metrics",
    "headline_sentences",
    "known_facts",
    "luma",
    "make_study",
    "measure_all",
    "measure_now",
    "measure_task",
    "optional",
    "reduced",
    "resolve",
    "standard",
    "working_shape",
]
