"""The queue by itself: expansion, counts, order, room."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import UsageError
from sweep.sandbox.http_requests import RefusedError
from sweep.sandbox.item_queue import STATUSES, SandboxQueue
from sweep.sandbox.model_catalogue import records
from sweep.sandbox.posted_batches import Batch, NodeTypes, read_batch
from sweep.sandbox.routes.server_routes import write_openapi
from sweep.sandbox.sandbox_options import FaultInjection, SandboxOptions
from sweep.workflow import builtin_schemas, read_openapi
from tests.support.wire import datum, graph, node

TYPES = NodeTypes(builtin_schemas())
GRAPH = graph(node("a", "add", a=0, b=0), node("s", "string", value="x"))


def batch(data: Any = None, runs: int = 1, **more: Any) -> Batch:
    return read_batch({"batch": {"graph": GRAPH, "data": data, "runs": runs, **more}}, TYPES)


lists = st.lists(st.integers(-9, 9), max_size=4)


@given(lists, lists, st.integers(1, 3))
def test_batch_expands_to_the_product_of_its_groups_per_run(first: list[int], second: list[int], runs: int) -> None:
    made = batch(
        [[datum("a", "a", first)], [datum("a", "b", second), datum("s", "value", [str(value) for value in second])]],
        runs,
    )
    found = [tuple(entry["value"] for entry in values) for values, _ in made.expand()]
    assert found == [(a, b, str(b)) for _ in range(runs) for a, b in itertools.product(first, second)]
    assert made.count_items() == len(found)


@given(st.lists(st.sampled_from(["enqueue", "prepend", "start", "end", "cancel", "remove", "retry"]), max_size=40))
def test_queue_counts_equal_counting(steps: list[str]) -> None:
    queue = SandboxQueue(limit=12)
    for number, step in enumerate(steps):
        items = list(queue.items.values())
        if step in {"enqueue", "prepend"}:
            queue.enqueue("q", batch(runs=2, batch_id=f"b{number % 3}"), prepend=step == "prepend")
        elif step == "start" and (item := queue.take(None)):
            queue.move(item, "in_progress")
        elif step in {"end", "cancel"} and items:
            if items[-1].status in {"pending", "in_progress"}:
                queue.move(items[-1], "failed" if step == "end" else "canceled")
        elif step == "remove":
            queue.remove(items[:1])
        elif step == "retry":
            queue.retry(items[-2:])
    expected = Counter(item.status for item in queue.items.values())
    counted = queue.counts("queue", "q")
    assert {status: counted[status] for status in STATUSES} == {status: expected[status] for status in STATUSES}
    assert counted["total"] == len(queue.items)
    for name in ("b0", "b1", "b2"):
        assert queue.counts("batch", "q", name)["total"] == len(queue.of_batch("q", name))
    first = queue.take(None)
    pending = [item for item in queue.items.values() if item.status == "pending"]
    assert first is (min(pending, key=lambda item: (-item.priority, item.item_id)) if pending else None)


def test_queue_drops_items_beyond_its_size() -> None:
    queue = SandboxQueue(limit=3)
    made = queue.enqueue("q", batch([[datum("a", "a", range(5))]]), prepend=False)
    assert [item.field_values[0]["value"] for item in made] == [0, 1, 2]
    assert queue.enqueue("q", batch(), prepend=False) == []
    assert len(queue.enqueue("other", batch(), prepend=False)) == 1


def test_queue_prefers_loaded_models_but_passes_no_poisonous_item() -> None:
    queue = SandboxQueue(limit=99)
    first, second = queue.enqueue("q", batch(runs=2), prepend=False)
    assert queue.take(lambda item: item is second) is second
    assert queue.take(lambda _: False) is first
    blocked = SandboxQueue(limit=99)
    blocked.enqueue("q", batch([[datum("a", "a", [1.5])]]), prepend=False)
    blocked.enqueue("q", batch(), prepend=False)
    assert blocked.take(None) is None
    assert blocked.enqueue("q", batch(), prepend=True) == [blocked.take(None)]


def test_queue_never_reuses_ids() -> None:
    queue = SandboxQueue(limit=99)
    made = queue.enqueue("q", batch(runs=3), prepend=False)
    queue.remove(made)
    assert queue.enqueue("q", batch(), prepend=False)[0].item_id == 4


def test_openapi_document_gives_back_the_same_schemas() -> None:
    assert read_openapi(write_openapi(builtin_schemas())) == builtin_schemas()


@pytest.mark.slow
def test_batches_accept_every_node_type_of_the_schemas() -> None:
    for kind, schema in builtin_schemas().items():
        accepted = TYPES.accept({"id": "n", "type": kind, "no such field": 1})
        extra = {"no such field"} if kind == "core_metadata" else set()
        assert accepted["type"] == kind
        assert set(accepted) == {"id", "type", "is_intermediate", "use_cache", *schema.fields} | extra


@pytest.mark.parametrize("body", [None, [], {"batch": []}, {"batch": {}}, {"batch": {"graph": {"nodes": [1]}}}])
def test_batches_refuse_invalid_bodies_with_a_reason(body: Any) -> None:
    with pytest.raises(RefusedError) as refused:
        read_batch(body, TYPES)
    assert refused.value.status == 422
    assert all({"type", "loc", "msg", "input"} <= set(entry) for entry in refused.value.detail)


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
        list(read_batch(body, TYPES).expand())
        status = 201
    except RefusedError as error:
        status = error.status
    assert status in (201, 400, 422)


def test_options_reject_unknown_models_and_impossible_values() -> None:
    with pytest.raises(UsageError, match="Did you mean sdxl"):
        records(["sdlx"])
    with pytest.raises(UsageError, match="share"):
        FaultInjection(error_500=1.5)
    with pytest.raises(UsageError, match="negative"):
        SandboxOptions(latency=-1)
    with pytest.raises(UsageError, match="worker"):
        SandboxOptions(workers=0)


def test_options_default_to_one_model() -> None:
    (only,) = records(SandboxOptions().models).values()
    assert (only["base"], only["type"]) == ("sd-1", "main")
    assert "sandbox" in only["name"]
    assert len({record["type"] for record in records(["all"]).values()}) > 4
