from .fusion import Fused, culprits, fuse
from .order import stages_of
from .plan import Instance, Plan
from .planner import make_plan

__all__ = [
    "Fused",
    "Instance",
    "Plan",
    "culprits",
    "fuse",
    "make_plan",
    "stages_of",
]
