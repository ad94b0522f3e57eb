"""Where credentials come from, and that they are in no repr."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweep.errors import UsageError
from sweep.servers.credentials import Credentials, find_credentials

URL = "http://gpu1:9090"


def _file(folder: Path, text: str, mode: int = 0o600) -> Path:
    path = folder / "credentials.toml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_nothing_given_is_none(tmp_path: Path) -> None:
    assert find_credentials(URL, {}) is None
    assert find_credentials(URL, {"SWEEP_EMAIL": "me@example.org"}) is None
    assert find_credentials(URL, {}, _file(tmp_path, "")) is None


def test_the_environment_gives_token_or_login() -> None:
    token = find_credentials(URL, {"SWEEP_TOKEN": "t0ken"})
    login = find_credentials(URL, {"SWEEP_EMAIL": "me@example.org", "SWEEP_PASSWORD": "pass"})

    assert token is not None
    assert token.token == "t0ken"
    assert login is not None
    assert login.can_log_in


def test_a_servers_own_section_goes_before_the_environment(tmp_path: Path) -> None:
    path = _file(tmp_path, 'token = "all"\n[servers."http://gpu1:9090"]\ntoken = "own"\n')
    environ = {"SWEEP_TOKEN": "environment", "SWEEP_CREDENTIALS": str(path)}

    own = find_credentials(URL + "/", environ)
    other = find_credentials("http://gpu2:9090", environ)
    without = find_credentials("http://gpu2:9090", {}, path)

    assert [c.token for c in (own, other, without) if c] == ["own", "environment", "all"]


def test_a_servers_section_is_found_however_the_address_is_written(tmp_path: Path) -> None:
    path = _file(tmp_path, 'token = "all"\n[servers."http://gpu1:9090/"]\ntoken = "own"\n')
    for url in ("gpu1:9090", "HTTP://GPU1:9090", " http://gpu1:9090/ "):
        found = find_credentials(url, {}, path)
        assert found is not None
        assert found.token == "own", url
    path = _file(tmp_path, '[servers."https://büro.example/x"]\ntoken = "own"\n')
    for url in ("https://xn--bro-hoa.example/x/", "https://büro.example:443/x"):
        assert find_credentials(url, {}, path) == Credentials(token="own", email="", password=""), url


def test_headers_of_top_and_section_go_along_with_the_login_from_elsewhere(tmp_path: Path) -> None:
    top, section = (
        'headers = {X-All = "1", X-Key = "all"}\n',
        '[servers."http://gpu1:9090"]\nheaders = {x-key = "own"}\n',
    )
    for text, environ in ((f'token = "t0ken"\n{top}{section}', {}), (top + section, {"SWEEP_TOKEN": "t0ken"})):
        found = find_credentials(URL, environ, _file(tmp_path, text))
        assert found is not None
        assert (found.token, dict(found.headers)) == ("t0ken", {"X-All": "1", "x-key": "own"})
    alone = find_credentials(URL, {}, _file(tmp_path, section))
    assert alone is not None
    assert (alone.token, alone.can_log_in, dict(alone.headers)) == (None, False, {"x-key": "own"})


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_file_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = _file(tmp_path, 'token = "secret"', mode)

    with pytest.raises(UsageError, match="chmod 600") as caught:
        find_credentials(URL, {}, path)

    assert "secret" not in str(caught.value)


def test_a_file_that_is_missing_or_no_toml_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        find_credentials(URL, {}, tmp_path / "none.toml")
    with pytest.raises(UsageError, match=r"not TOML \(line 1\)\.") as caught:
        find_credentials(URL, {}, _file(tmp_path, "token: secret"))
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None
    form = 'Write token = "…", or email = "…" and password = "…".'
    assert form in str(caught.value)
    assert find_credentials(URL, {}, _file(tmp_path, '\ufefftoken = "saved by an editor of Windows"')) is not None


def test_what_a_credentials_file_does_not_take_is_told_and_no_value_of_it(tmp_path: Path) -> None:
    section = '[servers."http://me:s3cret@gpu1:9090"]\n'
    for text, problem in (
        ('tokn = "s3cret"', "tokn is no key of a credentials file. Did you mean token?"),
        (f'{section}pasword = "s3cret"', "pasword is no key of a credentials file. Did you mean password?"),
        ('token = "s3cret"\n[server."http://gpu1"]\ntoken = "s3cret"', "server is no key"),
        ("token = 5553", "token must be a text in quotes."),
        (f'{section}headers = "X-Key: s3cret"', "headers must be a table."),
        ('servers = "s3cret"', "servers must be a table."),
        ('[servers]\n"http://me:s3cret@gpu1:9090" = "s3cret"', "each server needs a section of its own."),
        ('[servers.http."//gpu1"]\ntoken = "s3cret"', "//gpu1 is no key"),
        (f'{section}email = "me"', "email and password belong together."),
        ('password = "s3cret"', "email and password belong together."),
    ):
        with pytest.raises(UsageError, match=re.escape(problem)) as caught:
            find_credentials(URL, {}, _file(tmp_path, text))
        assert "s3cret" not in str(caught.value)
        assert "5553" not in str(caught.value)


def test_no_repr_tells_them() -> None:
    assert "s3cret" not in repr(Credentials(token="s3cret", email="s3cret", password="s3cret"))


def test_what_no_header_can_carry_is_refused(tmp_path: Path) -> None:
    for token in ("a\nb", "a\x07b", "\x00"):
        with pytest.raises(UsageError, match="The token for a server holds a control character"):
            find_credentials(URL, {"SWEEP_TOKEN": f"x{token}x"})
    for name, value in (("X-Key", "a\r\nb"), ("X Key", "a"), ("X\n", "a"), ("", "a")):
        with pytest.raises(UsageError, match="header"):
            Credentials(headers=((name, value),))
    for token, email, password in (("s3cret\udcff", "", ""), ("", "\udcff", "s3cret"), ("", "me", "s3cret\udcff")):
        with pytest.raises(UsageError, match="is not UTF-8 text") as caught:
            Credentials(token=token, email=email, password=password)
        assert "s3cret" not in str(caught.value)
