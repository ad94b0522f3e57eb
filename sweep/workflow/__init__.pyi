from .comfyui.comfyui_dialect import core_schemas, read_object_info
from .comfyui.comfyui_formats import fill_defaults, write_prompt
from .comfyui.object_info import model_files
from .dialect import IDENTITY, Dialect, Encoding, NodeSchemas, StageKind
from .digests import Digests, NodeChange, canonical, computation_order
from .graph import (
    Address,
    BatchAxis,
    BoardRef,
    Edge,
    Graph,
    ImageRef,
    Json,
    ModelRef,
    Names,
    Node,
    Ref,
    Value,
    Workflow,
    find_address,
    map_refs,
    nodes_after,
    nodes_before,
    pruned,
    readable,
)
from .inspection import Description, InspectionRow, describe
from .invokeai.invokeai_dialect import DESCRIPTIVE_NODES, builtin_schemas, read_openapi
from .invokeai.invokeai_formats import write_graph
from .invokeai.openapi import write_openapi
from .node_schemas import FieldSchema, Model, NodeSchema
from .role_targets import STACKED, Roles, Target, field_target, find_roles
from .scaffold import PLACEHOLDER, ScaffoldContext, starter
from .validation import check_graph, check_value, drop_unknown_fields, range_of, unknown_type
from .workflow_file import load_workflow, packaged_schemas, workflow_from

__all__ = [
    "DESCRIPTIVE_NODES",
    "IDENTITY",
    "PLACEHOLDER",
    "STACKED",
    "Address",
    "BatchAxis",
    "BoardRef",
    "Description",
    "Dialect",
    "Digests",
    "Edge",
    "Encoding",
    "FieldSchema",
    "Graph",
    "ImageRef",
    "InspectionRow",
    "Json",
    "Model",
    "ModelRef",
    "Names",
    "Node",
    "NodeChange",
    "NodeSchema",
    "NodeSchemas",
    "Ref",
    "Roles",
    "ScaffoldContext",
    "StageKind",
    "Target",
    "Value",
    "Workflow",
    "builtin_schemas",
    "canonical",
    "check_graph",
    "check_value",
    "computation_order",
    "core_schemas",
    "describe",
    "drop_unknown_fields",
    "field_target",
    "fill_defaults",
    "find_address",
    "find_roles",
    "load_workflow",
    "map_refs",
    "model_files",
    "nodes_after",
    "nodes_before",
    "packaged_schemas",
    "pruned",
    "range_of",
    "read_object_info",
    "read_openapi",
    "readable",
    "starter",
    "unknown_type",
    "workflow_from",
    "write_graph",
    "write_openapi",
    "write_prompt",
]
