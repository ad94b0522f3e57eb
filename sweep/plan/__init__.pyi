from .graph_binder import list_own_images
from .graph_fusion import FusedGraph, find_affected_keys, fuse
from .plan import Instance, Plan
from .planner import make_plan
from .rendering_order import list_stages

__all__ = [
    "FusedGraph",
    "Instance",
    "Plan",
    "find_affected_keys",
    "fuse",
    "list_own_images",
    "list_stages",
    "make_plan",
]
