from .conditions import Condition, ConditionError, NamedAxis, ValueKind, compile_clause
from .document import did_you_mean_file
from .experiment import Experiment
from .grid import Grid
from .index_space import Full
from .inputs import ImageReader, InputImageError
from .levels import LazyLevels, LinearLevels, ListLevels, LogLevels, ReplacingLevels
from .model import Axis, AxisKind, Dimension, InputImage, Level, Replacement, Setting, Variation
from .roles import INPUT_NAMES, base_role, is_address, numbered
from .schema import experiment_schema

__all__ = [
    "INPUT_NAMES",
    "Axis",
    "AxisKind",
    "Condition",
    "ConditionError",
    "Dimension",
    "Experiment",
    "Full",
    "Grid",
    "ImageReader",
    "InputImage",
    "InputImageError",
    "LazyLevels",
    "Level",
    "LinearLevels",
    "ListLevels",
    "LogLevels",
    "NamedAxis",
    "Replacement",
    "ReplacingLevels",
    "Setting",
    "ValueKind",
    "Variation",
    "base_role",
    "compile_clause",
    "did_you_mean_file",
    "experiment_schema",
    "is_address",
    "numbered",
]
