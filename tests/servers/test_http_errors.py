"""Which error an answer is, and that no error repeats what was sent."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime
from typing import Any

import pytest

from sweep.errors import OverloadedError, ServerError, ServerRefusedError, SweepError, TransientError, VariationError
from sweep.servers import http as faults
from tests.servers.fake import payload

URL = "http://gpu1:9090"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, VariationError),
        (401, ServerRefusedError),
        (403, ServerRefusedError),
        (404, ServerError),
        (409, TransientError),
        (413, VariationError),
        (415, VariationError),
        (422, VariationError),
        (429, OverloadedError),
        (500, TransientError),
        (502, TransientError),
        (503, OverloadedError),
        (504, TransientError),
        (302, ServerError),
    ],
)
def test_each_status_is_one_kind_of_error(status: int, kind: type[SweepError]) -> None:
    fault = faults.make_status_error(URL, status, {}, {"detail": "because"}, "asking")

    assert type(fault) is kind


def test_a_refusal_names_node_and_field_and_nothing_of_what_was_sent() -> None:
    body = payload("refused_6_14")
    body["detail"][0]["input"] = {"prompt": "SECRET"}

    fault = faults.make_status_error(URL, 422, {}, body, "submitting an item")

    assert str(fault) == "d.denoising_start: Input should be less than or equal to 1"
    assert "SECRET" not in repr(fault)


def test_an_unknown_node_type_is_named_without_the_309_known_ones() -> None:
    body = payload("refused_type_6_14")
    fault = faults.make_status_error(URL, 422, {}, body, "submitting an item")
    body["detail"][0]["ctx"]["tag"] = "f\x1boo"
    escaped = faults.make_status_error(URL, 422, {}, body, "submitting an item")

    assert str(fault) == "d: this server has no node type 'foo'"
    assert str(escaped) == "d: this server has no node type 'f\\x1boo'", "escaped once"


def test_a_fault_of_the_whole_graph_has_its_sentence() -> None:
    detail = [{"type": "value_error", "loc": ["body", "batch", "graph"], "msg": "Value error, Edge source field foo"}]

    assert faults.read_detail({"detail": detail}) == "graph: Edge source field foo"


def test_long_and_many_faults_are_cut() -> None:
    detail = [{"loc": ["body", "batch", "graph", "nodes", f"n{n}", "x", "f"], "msg": "m" * 900} for n in range(9)]

    said = faults.read_detail({"detail": detail})

    assert len(said) < 300
    assert said.endswith("(and 6 more)")


@pytest.mark.parametrize(
    "body", [None, [], "text", {"detail": None}, {"detail": [1, None, {}]}, {"detail": [{"loc": 1}]}]
)
def test_odd_bodies_are_no_trouble(body: Any) -> None:
    assert isinstance(faults.read_detail(body), str)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("nan", None),
        ("inf", None),
        ("1e9", 3600.0),
        ("soon", None),
        ("Mon, 23 Nov 2026 12:00:30 GMT", 30.0),
        ("Mon, 23 Nov 2026 11:00:00 GMT", 0.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert faults.parse_retry_after(header, datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)) == seconds


def test_overload_carries_how_long_to_wait() -> None:
    fault = faults.make_status_error(URL, 503, {"Retry-After": "12"}, None, "submitting an item")

    assert isinstance(fault, OverloadedError)
    assert fault.retry_after == 12


def test_a_server_that_asks_for_a_name_and_a_password_is_told_with_what_can_answer_it() -> None:
    basic = faults.make_status_error(URL, 401, {"WWW-Authenticate": 'Basic realm="x"'}, None, "asking")
    other = faults.make_status_error(URL, 401, {}, None, "asking")

    assert "SWEEP_EMAIL (the name) and SWEEP_PASSWORD" in str(basic.hint)
    assert "SWEEP_TOKEN" not in str(basic.hint)
    assert "SWEEP_TOKEN" in str(other.hint)


def test_a_refused_login_is_told_apart_from_a_missing_one() -> None:
    missing = faults.make_status_error(URL, 401, {}, None, "asking")
    refused = faults.make_status_error(URL, 401, {}, {"detail": "Invalid or expired token"}, "asking", is_known=True)

    assert missing.message == f"{URL} wants a login (401 while asking)."
    assert refused.message == f"{URL} refuses the login it was given (401 while asking: Invalid or expired token)."
    assert "may have expired" in str(refused.hint)


def test_each_failure_of_tls_says_why_and_has_a_way_out() -> None:
    untrusted = ssl.SSLCertVerificationError()
    untrusted.verify_message = "Hostname mismatch, certificate is not valid for 'gpu1'."
    plain = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
    plain.reason = "WRONG_VERSION_NUMBER"

    reason, hint = faults.explain_failure(untrusted)
    assert reason == "its TLS certificate is not accepted: Hostname mismatch, certificate is not valid for 'gpu1'"
    assert "--ca-file" in str(hint)
    assert faults.explain_failure(plain) == ("TLS failed: wrong version number", faults.PLAIN_HINT)
