from .axis_arguments import parse_axis, write_experiment
from .conditions import Clause, Condition, ConditionError, NamedAxis, ValueKind, compile_clause
from .document import ProblemCollector, did_you_mean_file, path_kind
from .experiment import Experiment
from .grid import Full, Grid
from .input_types import INPUT_NAMES, is_address, parse_numbered, strip_number
from .inputs import FetchedFiles, ImageReader, InputImageError, is_reference, write_fetched
from .model import (
    Axis,
    AxisKind,
    CellSeeds,
    Dimension,
    InputImage,
    LazyLevels,
    Level,
    LinearLevels,
    ListLevels,
    LogLevels,
    Replacement,
    ReplacingLevels,
    Setting,
    Variation,
    put_cell_seeds,
    replace_words,
)
from .schema import make_experiment_schema

__all__ = [
    "INPUT_NAMES",
    "Axis",
    "AxisKind",
    "CellSeeds",
    "Clause",
    "Condition",
    "ConditionError",
    "Dimension",
    "Experiment",
    "FetchedFiles",
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
    "ProblemCollector",
    "Replacement",
    "ReplacingLevels",
    "Setting",
    "ValueKind",
    "Variation",
    "compile_clause",
    "did_you_mean_file",
    "is_address",
    "is_reference",
    "make_experiment_schema",
    "parse_axis",
    "parse_numbered",
    "path_kind",
    "put_cell_seeds",
    "replace_words",
    "strip_number",
    "write_experiment",
    "write_fetched",
]
