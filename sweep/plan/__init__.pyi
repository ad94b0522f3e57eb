from .fusion import Fused, culprits, fuse
from .order import StageKind, stages_of
from .plan import Instance, Plan
from .planner import make_plan

__all__ = [
    "Fused",
    "Instance",
    "Plan",
    "StageKind",
    "culprits",
    "fuse",
    "make_plan",
    "stages_of",
]
