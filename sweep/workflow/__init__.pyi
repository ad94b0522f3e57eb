from .comfyui.dialect import core_schemas, read_object_info
from .comfyui.formats import fill_defaults, write_prompt
from .comfyui.object_info import model_files
from .dialect import IDENTITY, TEMPLATES, Dialect, Encoding, NodeSchemas, StageKind, output_nodes
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
    readable,
)
from .identity import Digests, canonical, computation_order, node_digests
from .inspection import Description, InspectionRow, describe
from .invokeai.dialect import DESCRIPTIVE_NODES, builtin_schemas, node_schemas
from .invokeai.graph_format import write_graph
from .invokeai.templates import template
from .loader import load_workflow, packaged_schemas, workflow_from
from .roles import STACKED, Roles, Target, field_target, find_roles
from .scaffold import PLACEHOLDER, ScaffoldContext, starter
from .schemas import FieldSchema, Model, NodeSchema
from .traversal import pruned
from .validation import check_graph, check_value, drop_unknown_fields, range_of, unknown_type

__all__ = [
    "DESCRIPTIVE_NODES",
    "IDENTITY",
    "PLACEHOLDER",
    "STACKED",
    "TEMPLATES",
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
    "node_digests",
    "node_schemas",
    "output_nodes",
    "packaged_schemas",
    "pruned",
    "range_of",
    "read_object_info",
    "readable",
    "starter",
    "template",
    "unknown_type",
    "workflow_from",
    "write_graph",
    "write_prompt",
]
