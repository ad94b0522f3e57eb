from .fusion import FusedGraph, find_affected_keys, fuse
from .order import list_stages
from .plan import Instance, Plan
from .planner import make_plan

__all__ = [
    "FusedGraph",
    "Instance",
    "Plan",
    "find_affected_keys",
    "fuse",
    "list_stages",
    "make_plan",
]
