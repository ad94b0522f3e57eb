from .graph_binder import list_own_images
from .graph_fusion import FusedGraph, fuse
from .model_finder import index_models
from .plan import Instance, Plan
from .planner import make_plan, read_own_workflow
from .rendering_order import list_stages

__all__ = [
    "FusedGraph",
    "Instance",
    "Plan",
    "fuse",
    "index_models",
    "list_own_images",
    "list_stages",
    "make_plan",
    "read_own_workflow",
]
