"""Answers of every release, read into the same values; nothing a server sends can break the reader."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweep.errors import ItemLostError, TransientError, VariationError
from sweep.servers import untrusted_json
from sweep.servers.invokeai import installed_models, queue_api
from tests.servers.fake import payload

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


def test_a_completed_item_gives_its_image_by_output_node() -> None:
    item = payload("item_completed_6_14")

    end = queue_api.read_end(item, ("l",), asked=False)

    assert end.status == "completed"
    assert end.error is None
    (image,) = end.images
    assert (image.node, image.iteration, image.width, image.height) == ("l", 0, 64, 64)


def test_iterations_are_ordered_by_path_and_collections_bring_nothing_twice() -> None:
    session = payload("item_iterated_6_14")["session"]

    images = queue_api.list_session_images(session, ("inv", "pass", "bl"))

    assert [(i.node, i.iteration, i.width) for i in images] == [
        ("inv", 0, 64),
        ("inv", 1, 128),
        ("inv", 2, 192),
        ("bl", 0, 64),
        ("bl", 1, 128),
        ("bl", 2, 192),
    ]


def test_a_collection_alone_brings_its_images_in_order() -> None:
    session = payload("item_iterated_6_14")["session"]

    passed = queue_api.list_session_images(session, ("pass",))

    own = queue_api.list_session_images(session, ("inv",))
    assert {image.name for image in passed} == {image.name for image in own}
    assert [image.iteration for image in passed] == [0, 1, 2]


def test_two_outputs_that_the_cache_gave_one_image_both_have_it() -> None:
    result = {"type": "image_output", "image": {"image_name": "one.png"}, "width": 1, "height": 1}
    session = {"results": {"p": result, "q": result}, "prepared_source_mapping": {"p": "a", "q": "b"}}

    assert [(i.node, i.name) for i in queue_api.list_session_images(session, ("a", "b"))] == [
        ("a", "one.png"),
        ("b", "one.png"),
    ]


def test_without_named_outputs_every_shown_node_counts() -> None:
    session = payload("item_iterated_6_14")["session"]
    session["graph"]["nodes"]["bl"]["is_intermediate"] = True
    session["graph"]["nodes"]["pass"]["is_intermediate"] = True

    assert {image.node for image in queue_api.list_session_images(session, ())} == {"inv"}


def test_a_failed_item_tells_class_sentence_and_node_and_keeps_finished_branches() -> None:
    end = queue_api.read_end(payload("item_failed_6_14"), ("b", "l"), asked=False)

    assert end.status == "failed"
    assert isinstance(end.error, VariationError)
    assert end.error.kind == "ValueError"
    assert end.error.message.startswith("Incompatible 'noise' and 'latents' shapes")
    assert end.failed_node == "d"
    assert [image.node for image in end.images] == ["b"]


def test_an_image_that_is_gone_from_the_server_may_be_there_next_time() -> None:
    end = queue_api.read_end(payload("item_failed_image_6_14"), ("l",), asked=False)

    assert isinstance(end.error, TransientError)
    assert (end.error.kind, end.failed_node) == ("ImageRecordNotFoundException", "i")


def test_out_of_memory_is_no_fault_of_the_variation() -> None:
    item = {**payload("item_failed_6_14"), "error_type": "OutOfMemoryError", "error_message": "CUDA out of memory"}

    assert isinstance(queue_api.read_end(item, ("l",), asked=False).error, TransientError)


@pytest.mark.parametrize(("asked", "lost"), [(True, False), (False, True)])
def test_a_cancelled_item_is_lost_unless_we_asked(asked: bool, lost: bool) -> None:
    end = queue_api.read_end(payload("item_canceled_6_14"), ("a",), asked=asked)

    assert end.status == "canceled"
    assert isinstance(end.error, ItemLostError) is lost
    assert end.error is not None


def test_times_are_utc_though_no_zone_is_written() -> None:
    end = queue_api.read_end(payload("item_completed_4_0"), ("l",), asked=False)

    assert end.queued_at == datetime(2024, 4, 2, 10, 0, 0, tzinfo=UTC)
    assert end.finished_at == datetime(2024, 4, 2, 10, 0, 9, tzinfo=UTC)
    assert untrusted_json.timestamp("2024-04-02T12:00:00+02:00") == datetime(2024, 4, 2, 10, 0, 0, tzinfo=UTC)
    assert untrusted_json.timestamp("yesterday") is None
    assert untrusted_json.timestamp(5) is None


def test_before_4_2_9_the_reason_is_the_last_line_of_a_traceback() -> None:
    end = queue_api.read_end(payload("item_failed_4_0"), ("l",), asked=False)

    assert end.error is not None
    assert (end.error.kind, end.error.message) == ("SizeError", "sizes differ: 8 and 16")
    assert end.failed_node == "l"


def test_an_error_without_any_reason_still_has_a_sentence() -> None:
    end = queue_api.read_end({"status": "failed", "session": {}}, (), asked=False)

    assert end.error is not None
    assert end.error.message


@pytest.mark.parametrize(
    "data", [b"[" * 100_000 + b"]" * 100_000, b"[" * 300 + b"]" * 300, b"{", b"\xff\xfe", b"1" * 5000]
)
def test_what_is_not_sane_json_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError):
        untrusted_json.parse(data)


def test_wide_json_is_fine() -> None:
    assert len(untrusted_json.parse(json.dumps([[1]] * 5000).encode())) == 5000


@given(ANYTHING, ANYTHING)
def test_nothing_a_server_says_breaks_the_reader(one: Any, other: Any) -> None:
    item = {"status": "failed", "session": one, "error_type": other, "created_at": other, "error": one}
    session = {"results": one, "prepared_source_mapping": other, "prepared_iteration_paths": one, "errors": other}

    assert queue_api.read_end(item, ("l",), asked=False).status == "failed"
    assert queue_api.read_end({"status": other, "session": session}, (), asked=True).status == "canceled"
    installed_models.read_models(one)
    queue_api.read_item_state(untrusted_json.mapping(one))


def test_models_whose_names_no_one_can_read_or_type_are_left_out() -> None:
    names = ("Ghibli ۀ \u200c", "a b.safetensors", "\x1b[2J", "\u202egpj", "two\nlines", "A" * 1_000_000)
    listed = {"models": [{"key": name, "name": name, "base": "sd-1", "type": "main"} for name in names]}

    assert [model.name for model in installed_models.read_models(listed)] == list(names[:2])


def test_a_kind_of_error_without_an_end_is_cut_off() -> None:
    """It stands in every row of the table."""
    item = {**payload("item_failed_6_14"), "error_type": "Error" * 1_000_000 + "\nmore", "error_message": "no"}
    error = queue_api.read_end(item, ("l",), asked=False).error
    assert error is not None
    assert len(error.kind) <= 240
