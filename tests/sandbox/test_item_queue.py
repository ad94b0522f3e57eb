"""The queue by itself: expansion, counts, order, room."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import UsageError
from sweep.sandbox.graph_checks import NodeTypes
from sweep.sandbox.http_requests import RefusedError
from sweep.sandbox.item_queue import STATUSES, Batch, SandboxQueue, read_batch
from sweep.sandbox.model_catalogue import catalogue
from sweep.sandbox.sandbox_options import FaultInjection, SandboxOptions
from sweep.workflow import load_builtin_schemas
from tests.support.wire import datum, graph, node

TYPES = NodeTypes(load_builtin_schemas())
GRAPH = graph(node("a", "add", a=0, b=0), node("s", "string", value="x"))


def batch(data: Any = None, runs: int = 1, **more: Any) -> Batch:
    return read_batch({"batch": {"graph": GRAPH, "data": data, "runs": runs, **more}}, TYPES)


def test_batches_make_an_item_a_run_and_none_with_an_empty_axis() -> None:
    assert batch(runs=3).count_items() == 3
    assert batch([[datum("a", "a", [])]]).count_items() == 0
    with pytest.raises(RefusedError) as refused:
        batch([[datum("a", "a", [1])]])
    assert refused.value.status == 422


@given(st.lists(st.sampled_from(["enqueue", "prepend", "start", "end", "cancel"]), max_size=40))
def test_queue_counts_equal_counting(steps: list[str]) -> None:
    queue = SandboxQueue(limit=12)
    for number, step in enumerate(steps):
        items = list(queue.items.values())
        if step in {"enqueue", "prepend"}:
            queue.enqueue("q", batch(runs=2, batch_id=f"b{number % 3}"), prepend=step == "prepend")
        elif step == "start" and (item := queue.take()):
            queue.move(item, "in_progress")
        elif step in {"end", "cancel"} and items and not items[-1].is_ended:
            queue.move(items[-1], "failed" if step == "end" else "canceled")
    expected = Counter(item.status for item in queue.items.values())
    counted = queue.counts("queue", "q")
    assert {status: counted[status] for status in STATUSES} == {status: expected[status] for status in STATUSES}
    assert counted["total"] == len(queue.items)
    for name in ("b0", "b1", "b2"):
        assert queue.counts("batch", "q", name)["total"] == len(queue.of_batch("q", name))
    first = queue.take()
    pending = [item for item in queue.items.values() if item.status == "pending"]
    assert first is (min(pending, key=lambda item: (-item.priority, item.item_id)) if pending else None)


def test_queue_drops_items_beyond_its_size() -> None:
    queue = SandboxQueue(limit=3)
    assert len(queue.enqueue("q", batch(runs=5), prepend=False)) == 3
    assert queue.enqueue("q", batch(), prepend=False) == []
    assert len(queue.enqueue("other", batch(), prepend=False)) == 1


@pytest.mark.slow
def test_batches_accept_every_node_type_of_the_schemas() -> None:
    for kind, schema in load_builtin_schemas().items():
        accepted = TYPES.accept({"id": "n", "type": kind, "no such field": 1})
        extra = {"no such field"} if kind == "core_metadata" else set()
        assert accepted["type"] == kind
        assert set(accepted) == {"id", "type", "is_intermediate", "use_cache", *schema.fields} | extra


@pytest.mark.parametrize("body", [None, [], {"batch": []}, {"batch": {}}, {"batch": {"graph": {"nodes": [1]}}}])
def test_batches_refuse_invalid_bodies_with_a_reason(body: Any) -> None:
    with pytest.raises(RefusedError) as refused:
        read_batch(body, TYPES)
    assert refused.value.status == 422
    assert all({"type", "loc", "msg"} <= set(entry) for entry in refused.value.detail)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(["batch", "graph", "nodes", "edges", "data", "runs", "id", "type", "a", "add"])
bodies = st.recursive(json_values, lambda inner: st.dictionaries(names, inner, max_size=5), max_leaves=12)


@given(st.fixed_dictionaries({"batch": st.fixed_dictionaries({"graph": bodies, "data": bodies, "runs": bodies})}))
def test_batches_refuse_nonsense_without_a_crash(body: Any) -> None:
    try:
        read_batch(body, TYPES)
        status = 201
    except RefusedError as error:
        status = error.status
    assert status in (201, 400, 422)


def test_options_reject_unknown_models_and_impossible_shares() -> None:
    with pytest.raises(UsageError, match="Did you mean sdxl"):
        catalogue(["sdlx"])
    with pytest.raises(UsageError, match="share"):
        FaultInjection(error_500=1.5)


def test_options_default_to_one_model() -> None:
    (only,) = catalogue(SandboxOptions().models)
    assert (only.base, only.type) == ("sd-1", "main")
    assert "sandbox" in only.name
    assert len({model.type for model in catalogue(["all"])}) > 4
