from .base import (
    Counts,
    Failure,
    Intent,
    Journal,
    JournalPoint,
    JournalState,
    KeyStatus,
    KnownKeys,
    Rendering,
    RunFacts,
    Times,
)
from .changes import delete_points, delete_run, matching_keys, rename_run, reopen_points
from .experiment_facts import MOST_LEFT_OUT, MOST_LEVELS, ExperimentAxis, ExperimentFacts
from .files import FULL_HINT, Checkpoint, free_bytes, no_checkpoint, replace_atomically
from .images import ImageStore, SavedImage
from .lock import LOCK, FolderLock, holder, in_use
from .merge import MergeConflict, MergeSummary, merge_results
from .metric_cache import MetricCache, MetricKey
from .results import CSV, RecordedResults, ResultsLike, write_tables
from .rows import Where
from .sqlite.journal import SqliteJournal
from .sqlite.reads import OpenPoint, RunRecord
from .sqlite.schema import JOURNAL_FILE, SEALED, seal, sealing
from .status import (
    FolderStatus,
    Marginal,
    Mean,
    Past,
    failures,
    folder_status,
    marginals,
    read_past,
    read_sizes,
    sum_up,
)
from .verify import REPAIRABLE, Finding, find_lost_images, reopen_damaged

__all__ = [
    "CSV",
    "FULL_HINT",
    "JOURNAL_FILE",
    "LOCK",
    "MOST_LEFT_OUT",
    "MOST_LEVELS",
    "REPAIRABLE",
    "SEALED",
    "Checkpoint",
    "Counts",
    "ExperimentAxis",
    "ExperimentFacts",
    "Failure",
    "Finding",
    "FolderLock",
    "FolderStatus",
    "ImageStore",
    "Intent",
    "Journal",
    "JournalPoint",
    "JournalState",
    "KeyStatus",
    "KnownKeys",
    "Marginal",
    "Mean",
    "MergeConflict",
    "MergeSummary",
    "MetricCache",
    "MetricKey",
    "OpenPoint",
    "Past",
    "RecordedResults",
    "Rendering",
    "ResultsLike",
    "RunFacts",
    "RunRecord",
    "SavedImage",
    "SqliteJournal",
    "Times",
    "Where",
    "delete_points",
    "delete_run",
    "failures",
    "find_lost_images",
    "folder_status",
    "free_bytes",
    "holder",
    "in_use",
    "marginals",
    "matching_keys",
    "merge_results",
    "no_checkpoint",
    "read_past",
    "read_sizes",
    "rename_run",
    "reopen_damaged",
    "reopen_points",
    "replace_atomically",
    "seal",
    "sealing",
    "sum_up",
    "write_tables",
]
