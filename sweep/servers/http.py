"""HTTP to one server of any family: its address, our credentials, login, time and size limits."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import ssl
import stat
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
from yarl import URL

from sweep.errors import (
    AttemptError,
    OverloadedError,
    ServerRefusedError,
    ServerUnreachableError,
    ServerUnsupportedError,
    TransientError,
    UsageError,
    VariationError,
)
from sweep.image_conversion import read_input
from sweep.servers.responses import (
    BAD_REQUEST,
    TIMED_OUT,
    NoAnswerError,
    error_of_status,
    explain_failure,
    mapping,
    parse,
    text,
    unreachable_error,
)

_LONGEST_NAME: Final = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """`origin` is scheme, host and port; `prefix` a proxy's path, empty or `/like/this`."""

    origin: str
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> ServerAddress:
        """Read an address.

        Raises UsageError where it is no http address, or carries credentials (they would land in files).
        """
        whole = text.strip() if "://" in text else f"http://{text.strip()}"
        try:
            parts = urlsplit(whole)
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port, parts = None, None, urlsplit("http://")
        if parts.username is not None or parts.password is not None:
            raise UsageError(
                f"The address of {host} carries a name or password.",
                hint="Set SWEEP_TOKEN, or SWEEP_EMAIL and SWEEP_PASSWORD, instead.",
            )
        if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in whole):
            harmless = f"…{text[text.rindex('@') :]}" if "@" in text else text.partition("?")[0]  # without a password
            raise UsageError(f"{harmless!r} is not the address of a server.", hint="Write it like http://host:9090.")
        if parts.query or parts.fragment:  # it would land in the journal with the command
            raise UsageError(
                f"The address of {host} carries a query.", hint="Leave it out. Set SWEEP_TOKEN for a token."
            )
        shown = f"[{host}]" if ":" in host else host
        return cls(origin=f"{parts.scheme}://{shown}{f':{port}' if port else ''}", prefix=parts.path.rstrip("/"))

    @property
    def url(self) -> str:
        return self.origin + self.prefix

    @property
    def name(self) -> str:
        """Short, for rows and progress: `host:port`, with a proxy's prefix."""
        return self.url.partition("://")[2]


def path_part(name: str) -> str:
    """Quote a server's name for something for use in a URL. Raises VariationError where it cannot be a name."""
    is_plain = name.isprintable() and "/" not in name and "\\" not in name
    if name in ("", ".", "..") or len(name) > _LONGEST_NAME or not is_plain:
        raise VariationError("the server named an image in a way that cannot be a name", kind="BadName")
    return quote(name, safe="")


TOKEN, EMAIL, PASSWORD, FILE = "SWEEP_TOKEN", "SWEEP_EMAIL", "SWEEP_PASSWORD", "SWEEP_CREDENTIALS"


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """A token goes before e-mail and password. None of them is in the repr."""

    token: str | None = field(default=None, repr=False)
    email: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # that a proxy before the server wants

    def __post_init__(self) -> None:
        """Raise UsageError for what no HTTP header can carry."""
        for what, said in (("token", self.token or ""), *((f"header {name}", value) for name, value in self.headers)):
            if _CONTROL.search(said):
                raise UsageError(f"The {what} for a server holds a control character, such as a line break.")
        for name, _ in self.headers:
            if not _HEADER_NAME.fullmatch(name):
                raise UsageError(f"{name!r} cannot be the name of a header.")

    @property
    def can_log_in(self) -> bool:
        return bool(self.email and self.password)


def find_credentials(url: str, environ: Mapping[str, str], file: Path | None = None) -> Credentials | None:
    """Find the credentials for the server at `url`: its own section of the file, the environment, or the file's top.

    The file (`file`, else the one SWEEP_CREDENTIALS names) is TOML::

        token = "…"                          # for every server
        [servers."http://gpu1:9090"]
        email = "me@example.org"
        password = "…"
        headers = {X-Api-Key = "…"}       # sent with every request

    Raises UsageError where the file is not there, is not TOML, or may be read by others (POSIX: mode 0600 or less).
    """
    path = file or (Path(environ[FILE]) if environ.get(FILE) else None)
    document = _read(path) if path else {}
    servers = document.get("servers")
    own = servers.get(url) or servers.get(url.rstrip("/")) if isinstance(servers, dict) else None
    return (
        _of(own if isinstance(own, dict) else {})
        or _of({"token": environ.get(TOKEN), "email": environ.get(EMAIL), "password": environ.get(PASSWORD)})
        or _of(document)
    )


def _of(table: Mapping[str, Any]) -> Credentials | None:
    values = {name: table.get(name) for name in ("token", "email", "password")}
    token, email, password = (v.strip() if isinstance(v, str) and v else None for v in values.values())
    found = Credentials(token=token, email=email, password=password)
    headers = table.get("headers")
    pairs = headers.items() if isinstance(headers, dict) else ()
    found = replace(found, headers=tuple((str(name), str(value)) for name, value in pairs))
    return found if found.token or found.can_log_in or found.headers else None


_FORM: Final = (
    'Write token = "…", or email = "…" and password = "…". '
    'A line [servers."http://gpu1:9090"] before them keeps them for that server.'
)


def _read(path: Path) -> dict[str, Any]:
    try:
        mode = path.stat().st_mode
        content = path.read_bytes()
    except OSError as fault:
        raise UsageError(f"{path}: the credentials file cannot be read ({fault.strerror}).") from None
    if os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise UsageError(f"{path}: others may read this credentials file.", hint=f"chmod 600 {path}")
    try:
        document = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        raise UsageError(f"{path}: the credentials file is not TOML.", hint=_FORM) from None
    if document and not _of(document) and not isinstance(document.get("servers"), dict):
        raise UsageError(f"{path}: the credentials file names no credentials.", hint=_FORM)
    return document


LARGEST_ANSWER = 8 * 1024 * 1024  # bytes of JSON; whole items of 64 variations have about 1 MB
LARGEST_SCHEMA = 32 * 1024 * 1024  # of /openapi.json, which has about 4 MB, and of the list of all models
LARGEST_ERROR = 256 * 1024  # of an answer that is an error
SLOWEST = 32 * 1024  # bytes a second: a server that sends less for long does not answer
LARGE_ANSWER = 256 * 1024
MOST_REDIRECTS = 3
MOST_LOGINS = 3  # of one request
READ_AHEAD = 256 * 1024  # bytes of an answer held until they are read: one turn of the loop brings as many
CHECKS_AT_ONCE = 4  # graphs that a server is asked to validate at a time
FRESH_TOKEN_HEADER = "X-Refreshed-Token"  # noqa: S105  (the name of a header)
NETWORK_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)

_T = TypeVar("_T")
HttpMethod = Literal["GET", "HEAD", "POST", "PUT", "DELETE"]
Form: TypeAlias = Callable[[], aiohttp.FormData]


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How long to wait, in seconds. A worker collecting garbage keeps its whole server from answering, so `read` is
    long; a whole answer may take that long and as much longer as its bytes need at `SLOWEST`, so that one that trickles
    ends, too; `patience` is how long a server may be silent before those who wait for an item are told, `gone` how long
    it may refuse connections: then nothing listens there, and that is not for being busy.
    """

    connect: float = 10.0
    read: float = 30.0
    retry: float = 0.3  # before an idempotent call is sent a second time
    poll_listening: float = 10.0  # the safety net while events arrive
    poll_deaf: float = 1.5  # while they do not
    reconnect: float = 1.0  # the socket's first pause; it doubles up to `reconnect_most`
    reconnect_most: float = 15.0
    patience: float = 30.0
    gone: float = 4.0


@dataclass(frozen=True, slots=True)
class Response:
    """A whole answer of a status that was expected, its body parsed (None where there is none)."""

    status: int
    body: Any


class Http:
    """Requests to one server. Redirects to another origin are never followed: credentials would go with them."""

    def __init__(
        self,
        address: ServerAddress,
        *,
        credentials: Credentials | None,
        ca_file: Path | None,
        timings: Timings,
        has_login: bool = True,
    ) -> None:
        self.address = address
        self._base = URL(address.url)
        self._credentials = credentials or Credentials()
        self._token = self._credentials.token
        self._has_login = has_login  # else e-mail and password go to a proxy before the server, as basic auth
        self._ca_file = ca_file
        self.timings = timings
        self._session: aiohttp.ClientSession | None = None
        self._login = asyncio.Lock()

    @property
    def session(self) -> aiohttp.ClientSession:
        if self._session is None:
            raise RuntimeError("open() comes first")
        return self._session

    @property
    def token(self) -> str | None:
        """The bearer token of this moment; it changes while a run goes on."""
        return self._token

    def headers(self) -> dict[str, str]:
        """Return the headers that say who we are."""
        headers = dict(self._credentials.headers)
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        elif self._credentials.can_log_in and not self._has_login:
            pair = f"{self._credentials.email}:{self._credentials.password}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        return headers

    async def open(self) -> None:
        """Open the session. Raises UsageError where the CA file cannot be read."""
        tls: ssl.SSLContext | bool = True
        if self._ca_file is not None:
            try:
                tls = await asyncio.to_thread(ssl.create_default_context, cafile=str(self._ca_file))
            except OSError as fault:
                raise UsageError(f"{self._ca_file}: not a file of CA certificates ({fault.strerror}).") from None
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=tls, limit=32),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_AHEAD,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=None, sock_connect=self.timings.connect, sock_read=self.timings.read
            ),
        )

    async def introduce(self, introduce: Callable[[], Awaitable[_T]]) -> _T:
        """Open the session and ask the first questions; close it again where they fail.

        Raises ServerError for whatever goes wrong there (or a UsageError for our own files).
        """
        await self.open()
        try:
            return await introduce()
        except BaseException as fault:
            await self.aclose()
            if isinstance(fault, NoAnswerError):
                raise unreachable_error(self.address.url, fault.reason) from None
            if isinstance(fault, OverloadedError):
                raise ServerUnreachableError(fault.message, hint="Try again later.") from None
            if isinstance(fault, AttemptError):
                raise ServerUnsupportedError(fault.message) from None
            raise

    async def aclose(self) -> None:
        """Close the session; safe to call twice, or without `open`."""
        if self._session is not None:
            await self._session.close()

    async def call(
        self,
        method: HttpMethod,
        path: str,
        what: str,
        *,
        body: Any = None,
        params: Mapping[str, str] | None = None,
        also: Collection[int] = (),
        repeat: bool | None = None,
        limit: int = LARGEST_ANSWER,
    ) -> Response:
        """Send a request and parse the JSON that comes back. `what` says in errors what was being done; statuses in
        `also` are answers, not errors. A call that may be repeated (by default a GET) is sent a second time where
        the connection broke.
        """
        request = _Request(method, self._url(path, params), what, body=body, limit=limit)
        try:
            return await self._answer(request, also)
        except NoAnswerError as fault:
            if not (method == "GET" if repeat is None else repeat) or fault.reason == TIMED_OUT:
                raise
        await asyncio.sleep(self.timings.retry)
        return await self._answer(request, also)

    async def post_form(self, path: str, what: str, form: Form, params: Mapping[str, str], size: int = 0) -> Response:
        """POST a multipart form of about `size` bytes, which `form` makes anew for each time it is sent."""
        return await self._answer(_Request("POST", self._url(path, params), what, form=form, size=size), ())

    async def exists(self, path: str, what: str, params: Mapping[str, str]) -> bool:
        """Return whether there is a file with something in it."""
        request = _Request("HEAD", self._url(path, params), what)
        status, headers, _ = await self._send_as_us(request)
        if status not in (200, 400, 404):
            raise error_of_status(self.address.url, status, headers, None, what)
        return status == 200 and headers.get("Content-Length") != "0"

    async def download(self, path: str, what: str, limit: int, params: Mapping[str, str] | None = None) -> bytes | None:
        """Return a file's bytes; None where there is none (404). Raises VariationError beyond `limit` bytes."""
        request = _Request("GET", self._url(path, params), what, limit=limit, is_image=True)
        status, headers, data = await self._send_as_us(request)
        if status == 404:
            return None
        if status != 200:
            raise error_of_status(self.address.url, status, headers, _parsed_or_none(data), what)
        return data

    async def log_in(self) -> None:
        """Get a fresh token by e-mail and password. Raises ServerRefusedError where they are wrong or missing."""
        if not self._credentials.can_log_in:
            raise ServerRefusedError(
                f"{self.address.url} wants a login.",
                hint="Set SWEEP_TOKEN, or SWEEP_EMAIL and SWEEP_PASSWORD, or give a credentials file.",
            )
        body = {"email": self._credentials.email, "password": self._credentials.password, "remember_me": True}
        self._token = None
        request = _Request("POST", self._url("/api/v1/auth/login", None), "logging in", body=body)
        status, headers, data = await self._send(request)
        answer = mapping(_parsed_or_none(data))
        if status in BAD_REQUEST:  # 422 would echo what was sent
            raise ServerRefusedError(f"{self.address.url} does not take this e-mail and password ({status}).")
        if status != 200:
            raise error_of_status(self.address.url, status, headers, answer, "logging in")
        token = text(answer.get("token"))
        if token is None:
            raise ServerRefusedError(f"{self.address.url} took the e-mail and password but gave no token.")
        self._token = token

    def _url(self, path: str, params: Mapping[str, str] | None) -> URL:
        url = self._base.with_path(self.address.prefix + path, encoded=True)
        return url.with_query(params) if params else url

    async def _answer(self, request: _Request, also: Collection[int]) -> Response:
        status, headers, data = await self._send_as_us(request)
        if 200 <= status < 300:
            try:
                return Response(status, await _parsed(data))
            except ValueError:
                raise TransientError(
                    f"{self.address.url} answered with something that is not JSON while {request.what}.",
                    kind="BadAnswer",
                ) from None
        if status in also:
            return Response(status, _parsed_or_none(data))
        raise error_of_status(self.address.url, status, headers, _parsed_or_none(data), request.what)

    async def _send_as_us(self, request: _Request) -> tuple[int, Mapping[str, str], bytes]:
        """Log in again where the token has run out: a refused request was not carried out. More than once, as a late
        answer to another request may bring a token that has run out, too.
        """
        for _ in range(MOST_LOGINS):
            token = self._token
            answer = await self._send(request)
            if answer[0] != 401 or not (self._has_login and self._credentials.can_log_in):
                return answer
            async with self._login:
                if self._token == token:
                    await self.log_in()
        return await self._send(request)

    async def _send(self, request: _Request) -> tuple[int, Mapping[str, str], bytes]:
        url = request.url
        try:
            for _ in range(MOST_REDIRECTS + 1):
                async with (
                    asyncio.timeout(self.timings.read + request.size / SLOWEST) as deadline,
                    self.session.request(
                        request.method,
                        url,
                        json=request.body,
                        data=request.form() if request.form else None,
                        headers=self.headers(),
                        allow_redirects=False,
                    ) as response,
                ):
                    target = self._redirect(request.method, url, response)
                    if target is None:
                        data = await self._body(request, response, deadline)
                        self._token = response.headers.get(FRESH_TOKEN_HEADER) or self._token
                        return response.status, response.headers, data
                    url = target
        except NETWORK_ERRORS as error:
            raise NoAnswerError(self.address.url, explain_failure(error), request.what) from None
        raise TransientError(f"{self.address.url} redirects in circles while {request.what}.", kind="BadAnswer")

    def _redirect(self, method: HttpMethod, url: URL, response: aiohttp.ClientResponse) -> URL | None:
        location = response.headers.get("Location") if 300 <= response.status < 400 and method == "GET" else None
        try:
            target = url.join(URL(location)) if location else None
        except ValueError:
            return None
        return target if target is not None and target.origin() == url.origin() else None

    async def _body(self, request: _Request, response: aiohttp.ClientResponse, deadline: asyncio.Timeout) -> bytes:
        """Read an answer; the deadline moves on with the bytes that arrive, at the pace of the slowest server.

        One beyond its limit is an image's own fault, and else the server's.
        """
        limit = request.limit if response.ok else LARGEST_ERROR
        is_bare = "Content-Encoding" in response.headers or response.method == "HEAD"
        declared = None if is_bare else response.content_length
        ends = deadline.when() or asyncio.get_running_loop().time() + self.timings.read
        chunks: list[bytes] = []
        size = granted = 0
        while max(size, declared or 0) <= limit and (chunk := await response.content.readany()):
            chunks.append(chunk)
            size += len(chunk)
            if size - granted >= READ_AHEAD:
                granted = size
                deadline.reschedule(ends + granted / SLOWEST)
        if max(size, declared or 0) > limit and request.is_image:
            message = f"what {self.address.url} sent while {request.what} has more than {limit} bytes"
            raise VariationError(message, kind="TooLarge")
        if max(size, declared or 0) > limit:
            message = f"{self.address.url} sent more than {limit} bytes while {request.what}."
            raise TransientError(message, kind="TooLarge")
        if declared is not None and size != declared:
            raise TransientError(f"{self.address.url} sent {size} of {declared} bytes of an answer.", kind="Incomplete")
        return b"".join(chunks)


@dataclass(frozen=True, slots=True)
class _Request:
    method: HttpMethod
    url: URL
    what: str
    body: Any = None
    form: Form | None = None
    size: int = 0  # bytes of the form
    limit: int = LARGEST_ANSWER  # bytes of the answer
    is_image: bool = False  # what is asked for


async def _parsed(data: bytes) -> Any:
    """Parse an answer; a large one in a thread, as other items' events need the loop."""
    if len(data) > LARGE_ANSWER:
        return await asyncio.to_thread(parse, data)
    return parse(data) if data.strip() else None


def _parsed_or_none(data: bytes) -> Any:
    try:
        return parse(data)
    except ValueError:
        return None


RESTART = 0.5  # seconds before work that failed begins anew
GRACE = 1.5  # seconds to end by oneself, before being cancelled
GOODBYE: Final = 1.0  # seconds for closing a connection politely


async def _keep_alive(work: Callable[[], Coroutine[Any, Any, None]], report: Callable[[Exception], None]) -> None:
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001  reported, whatever an untrusted server brought about
            report(error)
            await asyncio.sleep(RESTART)
        else:
            return


class BackgroundTasks:
    """Tasks beside the calls of a client; at the end those that do not stop by themselves are cancelled."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, work: Callable[[], Coroutine[Any, Any, None]], report: Callable[[Exception], None]) -> None:
        """Start this work now, and again whenever it fails: each failure is reported, none ends it unseen."""
        self._tasks.append(asyncio.create_task(_keep_alive(work, report)))

    async def end(self) -> None:
        """Wait for all a little, then cancel what is left. Never raises what they raised; safe to call twice."""
        if not self._tasks:
            return
        try:
            _, late = await asyncio.wait(self._tasks, timeout=GRACE)
        finally:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        self._tasks.clear()


class EventConnection(ABC):
    """A connection on which a server tells events; it is opened anew, after growing pauses, whenever it ends."""

    def __init__(self, http: Http) -> None:
        self._http = http
        self._stopped = asyncio.Event()

    @abstractmethod
    async def connect_once(self) -> bool:
        """Hold one connection from handshake to its end; return whether there was one."""

    async def run(self) -> None:
        """Keep the connection up until `stop`; raises what an event that cannot be handled raised."""
        listening = asyncio.create_task(self._keep_up())
        stopping = asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait([listening, stopping], return_when=asyncio.FIRST_COMPLETED)
        finally:
            is_failed = listening.done()
            for task in (listening, stopping):
                task.cancel()
            await asyncio.wait([listening], timeout=GOODBYE)
        if is_failed:
            listening.result()

    def stop(self) -> None:
        self._stopped.set()

    async def _keep_up(self) -> None:
        timings = self._http.timings
        pause = timings.reconnect
        while True:
            if await self.connect_once():
                pause = timings.reconnect
            await asyncio.sleep(pause)
            pause = min(pause * 2, timings.reconnect_most)


async def read_input_image(sha256: str, path: Path | None) -> tuple[bytes, str]:
    """Read an input image as it is sent; return its content and ending.

    Raises VariationError where there is no file, or it was changed after the plan was made.
    """
    if path is None:
        raise VariationError(f"no file is known for the input image {sha256[:12]}", kind="MissingFile")
    try:
        return await asyncio.to_thread(read_input, path, sha256)
    except OSError as error:
        reason = error.strerror or error
        raise VariationError(f"{path.name}: the input image cannot be read ({reason})", kind="MissingFile") from None
    except ValueError as error:
        raise VariationError(f"{path.name}: the input image {error}", kind="ChangedFile") from None
