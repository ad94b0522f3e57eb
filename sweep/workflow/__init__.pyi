from .comfyui.comfyui_dialect import load_core_schemas, read_object_info
from .comfyui.comfyui_formats import fill_defaults, write_prompt
from .comfyui.object_info import list_model_files
from .dialect import IDENTITY, Dialect, Encoding, NodeSchemas, StageKind
from .digests import Digests, NodeChange, canonical, order_computation
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
    find_nodes_after,
    find_nodes_before,
    make_readable,
    map_refs,
    prune,
)
from .inspection import Description, InspectionRow, describe
from .invokeai.invokeai_dialect import DESCRIPTIVE_NODES, load_builtin_schemas, read_openapi
from .invokeai.invokeai_formats import write_graph
from .invokeai.openapi import write_openapi
from .node_schemas import FieldSchema, Model, NodeSchema
from .role_targets import STACKED, Roles, Target, find_field_target, find_roles
from .scaffold import PLACEHOLDER, ScaffoldContext, write_starter
from .validation import check_graph, check_value, describe_range, describe_unknown_type, drop_unknown_fields
from .workflow_file import load_packaged_schemas, load_workflow, workflow_from

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
    "canonical",
    "check_graph",
    "check_value",
    "describe",
    "describe_range",
    "describe_unknown_type",
    "drop_unknown_fields",
    "fill_defaults",
    "find_address",
    "find_field_target",
    "find_nodes_after",
    "find_nodes_before",
    "find_roles",
    "list_model_files",
    "load_builtin_schemas",
    "load_core_schemas",
    "load_packaged_schemas",
    "load_workflow",
    "make_readable",
    "map_refs",
    "order_computation",
    "prune",
    "read_object_info",
    "read_openapi",
    "workflow_from",
    "write_graph",
    "write_openapi",
    "write_prompt",
    "write_starter",
]
