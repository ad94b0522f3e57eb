from .axes import (
    Assignments,
    Axis,
    AxisKind,
    CellSeeds,
    Dimension,
    LazySequence,
    Level,
    LinearLevels,
    ListLevels,
    MadeLevels,
    Replacement,
    ReplacingLevels,
    Setting,
    replace_words,
)
from .axis_builder import infer_kind
from .command_line import parse_axis, parse_input, write_experiment
from .conditions import Clause, ConditionError, NamedAxis, ValueKind, compile_clause
from .experiment import Experiment
from .file_schema import make_experiment_schema
from .grid import Grid, Space, Variation, put_cell_seeds
from .problems import ProblemCollector
from .value_files import FetchedFiles, is_reference, write_fetched
from .yaml_document import path_kind

__all__ = [
    "Assignments",
    "Axis",
    "AxisKind",
    "CellSeeds",
    "Clause",
    "ConditionError",
    "Dimension",
    "Experiment",
    "FetchedFiles",
    "Grid",
    "LazySequence",
    "Level",
    "LinearLevels",
    "ListLevels",
    "MadeLevels",
    "NamedAxis",
    "ProblemCollector",
    "Replacement",
    "ReplacingLevels",
    "Setting",
    "Space",
    "ValueKind",
    "Variation",
    "compile_clause",
    "infer_kind",
    "is_reference",
    "make_experiment_schema",
    "parse_axis",
    "parse_input",
    "path_kind",
    "put_cell_seeds",
    "replace_words",
    "write_experiment",
    "write_fetched",
]
