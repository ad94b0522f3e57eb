"""Addresses as people type them, and names that servers make up."""

from __future__ import annotations

import pytest

from sweep.errors import UsageError, VariationError
from sweep.servers.credentials import ServerAddress
from sweep.servers.invokeai.gallery import quote_path_part


@pytest.mark.parametrize(
    ("typed", "url", "name"),
    [
        ("http://gpu1:9090", "http://gpu1:9090", "gpu1:9090"),
        ("http://gpu1:9090/", "http://gpu1:9090", "gpu1:9090"),
        ("gpu1:9090", "http://gpu1:9090", "gpu1:9090"),
        (" https://gpu1/invoke/ ", "https://gpu1/invoke", "gpu1/invoke"),
        ("http://[::1]:9090", "http://[::1]:9090", "[::1]:9090"),
        ("HTTP://GPU1:9090", "http://gpu1:9090", "gpu1:9090"),
    ],
)
def test_an_address_is_forgiving(typed: str, url: str, name: str) -> None:
    address = ServerAddress.parse(typed)

    assert (address.url, address.name) == (url, name)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "http://",
        "ftp://gpu1",
        "http://gpu1:port",
        "http://gpu 1",
        "http://gpu1:99999",
        "http://gpu1:0",
        "\udcff",
        f"{'a' * 70}:90",
        "http://gpu1\u200b:9090",
        "http://gpu1\\:9090",
    ],
)
def test_what_is_no_address_is_said(typed: str) -> None:
    with pytest.raises(UsageError):
        ServerAddress.parse(typed)


@pytest.mark.parametrize("typed", ["http://me:secret@gpu1:9090", "me:secret@gpu1"])
def test_credentials_in_an_address_are_refused_and_not_repeated(typed: str) -> None:
    with pytest.raises(UsageError) as caught:
        ServerAddress.parse(typed)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["", ".", "..", "a/b", "a\\b", "nul\0", "new\nline", "x" * 256, "\ud800", "\u202e.png"]
)
def test_a_name_that_could_be_a_path_is_refused(name: str) -> None:
    with pytest.raises(VariationError):
        quote_path_part(name)


def test_an_odd_name_is_quoted() -> None:
    assert quote_path_part("a b?c#d%2F.png") == "a%20b%3Fc%23d%252F.png"
