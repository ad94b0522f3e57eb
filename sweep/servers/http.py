"""HTTP to one server of any family: requests as us, within limits of time and size; failures become errors of ours."""

from __future__ import annotations

import asyncio
import json
import math
import ssl
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

import aiohttp
from yarl import URL

from sweep.errors import (
    AttemptError,
    OverloadedError,
    ServerError,
    ServerRefusedError,
    ServerUnreachableError,
    ServerUnsupportedError,
    SweepError,
    TransientError,
    UsageError,
    VariationError,
    did_you_mean,
)
from sweep.input_images import read_input
from sweep.servers.credentials import Credentials, ServerAddress
from sweep.servers.untrusted_json import mapping, parse, sendable, sequence, shorten

LARGEST_ANSWER = 8 * 1024 * 1024  # bytes of JSON; whole items of 64 variations have about 1 MB
LARGEST_SCHEMA = 32 * 1024 * 1024  # of /openapi.json, which has about 4 MB, and of the list of all models
LARGEST_ERROR = 256 * 1024  # of an answer that is an error
SLOWEST = 32 * 1024  # bytes a second: a server that sends less for long does not answer
MOST_REDIRECTS = 3
MOST_LOGINS = 3  # of one request
SHORTEST_SECRET = 4  # characters; a header's "1" or "yes" is none
READ_AHEAD = 256 * 1024  # bytes of an answer held until they are read: one turn of the loop brings as many
FRESH_TOKEN_HEADER = "X-Refreshed-Token"  # noqa: S105  (the name of a header)
NETWORK_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Time limits and pauses in seconds.

    A worker collecting garbage keeps its whole server from answering, so `read` is long; a whole answer may take that
    long and as much longer as its bytes need at `SLOWEST`, so that one that trickles ends, too. A server may be silent
    for `patience` before those who wait for an item are told, and refuse connections for `gone`: a busy one does not.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectOptions:
    """Options of a connection. All but `credentials` is commonly the same for every server of a run."""

    credentials: Credentials | None = None
    ca_file: Path | None = None
    queue_id: str = "default"
    timings: Timings = field(default_factory=Timings)
    name: str = ""  # what it is called instead of its address


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a path below the server's address; `what` says in errors what was being done."""

    method: Literal["GET", "HEAD", "POST", "PUT", "DELETE"]
    path: str
    what: str
    params: Mapping[str, str] | None = None
    body: Any = None  # sent as JSON
    form: Callable[[], aiohttp.FormData] | None = None  # makes the parts, anew for each time they are sent
    size: int = 0  # bytes of the form, about
    also: Collection[int] = ()  # statuses that are answers, not errors
    can_repeat: bool = False  # the server may get it twice: it is sent again where the connection broke
    limit: int = LARGEST_ANSWER  # bytes of the answer
    is_image: bool = False  # what is asked for
    parse: Callable[[bytes], Any] = parse  # makes the body of the response


class Response(NamedTuple):
    """A whole answer; its body is parsed where the status was expected (None where there is none)."""

    status: int
    headers: Mapping[str, str]
    data: bytes
    body: Any = None


class _ElsewhereError(aiohttp.ClientConnectionError):
    """A redirect leads to another origin, which is the argument."""


class _OneOriginConnector(aiohttp.TCPConnector):
    """Connects to one origin only: aiohttp follows redirects of a GET and of a websocket, credentials and all."""

    def __init__(self, origin: URL, **options: Any) -> None:
        super().__init__(**options)
        self._origin = origin

    async def connect(self, req: aiohttp.ClientRequest, *others: Any, **named: Any) -> Any:
        if req.url.origin() != self._origin:
            raise _ElsewhereError(req.url.origin())
        return await super().connect(req, *others, **named)


class Http:
    """Requests to one server. Redirects to another origin are never followed: credentials would go with them."""

    def __init__(self, address: ServerAddress, options: ConnectOptions, *, has_login: bool = True) -> None:
        self.address = address
        self.timings = options.timings
        self._base = URL(address.url)
        self._credentials = options.credentials or Credentials()
        self.token = self._credentials.token  # of this moment: it changes while a run goes on
        self._basic = "" if has_login else self._credentials.basic  # for a proxy; also once one asked for it
        self._ca_file = options.ca_file
        self.session: aiohttp.ClientSession  # made by `open`
        self._login = asyncio.Lock()
        self._known_path = ""  # that the server answered

    def headers(self) -> dict[str, str]:
        """Return the headers with our credentials."""
        headers = dict(self._credentials.headers)
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        elif self._basic:
            headers["Authorization"] = self._basic
        return headers

    async def open(self) -> None:
        """Open the session. Raises UsageError where the CA file cannot be read."""
        tls: ssl.SSLContext | bool = True
        if self._ca_file is not None:
            try:
                tls = await asyncio.to_thread(ssl.create_default_context)  # other servers may have public ones
                tls.load_verify_locations(self._ca_file)
            except OSError as error:
                reason = "it holds no readable PEM certificate" if isinstance(error, ssl.SSLError) else error.strerror
                raise UsageError(f"{self._ca_file}: not a file of CA certificates ({reason}).") from None
        self.session = aiohttp.ClientSession(
            connector=_OneOriginConnector(self._base.origin(), ssl=tls, limit=32),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=READ_AHEAD,
            timeout=aiohttp.ClientTimeout(
                total=None, connect=None, sock_connect=self.timings.connect, sock_read=self.timings.read
            ),
        )

    async def introduce(self, introduce: Callable[[], Awaitable[_T]]) -> _T:
        """Open the session and ask the first questions, again where the server is overloaded; close it where they fail.

        Raises ServerError for whatever goes wrong there (or a UsageError for our own files).
        """
        await self.open()
        try:
            return await self._ask_while_overloaded(introduce)
        except BaseException as error:
            await self.aclose()
            if isinstance(error, NoAnswerError):
                message = f"{self.address.url} does not answer ({error.reason})."
                hint = error.hint or START_HINT
                if (host := self.address.name.partition(":")[0]) != "localhost":
                    hint = did_you_mean(host, ["localhost"]).strip() or hint
                raise ServerUnreachableError(message, hint=hint) from None
            if isinstance(error, OverloadedError):
                raise ServerUnreachableError(error.message, hint="Try again later.") from None
            if isinstance(error, AttemptError):
                raise ServerUnsupportedError(error.message) from None
            raise

    async def _ask_while_overloaded(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask, and twice again, after longer pauses, where the server answers that it is overloaded."""
        for pause in (self.timings.retry, 4 * self.timings.retry):
            try:
                return await ask()
            except OverloadedError as error:
                if (error.retry_after or 0.0) > LONGEST_WELCOME:
                    raise
                await asyncio.sleep(max(pause, error.retry_after or 0.0))
        return await ask()

    async def aclose(self) -> None:
        """Close the session; safe to call twice, or without `open`."""
        if hasattr(self, "session"):
            await self.session.close()

    async def get(
        self,
        path: str,
        what: str,
        *,
        params: Mapping[str, str] | None = None,
        also: Collection[int] = (),
        limit: int = LARGEST_ANSWER,
        parse: Callable[[bytes], Any] = parse,
    ) -> Response:
        """GET the JSON at a path, a second time where the connection broke; see `Request`."""
        return await self.send(Request("GET", path, what, params, also=also, can_repeat=True, limit=limit, parse=parse))

    async def send(self, request: Request) -> Response:
        """Send a request and parse the JSON that comes back."""
        try:
            answer = await self._send_as_us(request)
        except NoAnswerError as error:
            if not request.can_repeat or error.reason == TIMED_OUT:
                raise
            await asyncio.sleep(self.timings.retry)
            answer = await self._send_as_us(request)
        data = answer.data if answer.data.strip() else b"null"
        if answer.status in request.also:
            return answer._replace(body=_parse_or_none(data))
        if not 200 <= answer.status < 300:
            raise self._make_error(answer, request.what)
        try:
            if len(data) > READ_AHEAD:  # in a thread, as other items' events need the loop
                return answer._replace(body=await asyncio.to_thread(request.parse, data))
            return answer._replace(body=request.parse(data))
        except ValueError:
            message = f"{self.address.url} answered with something that is not JSON while {request.what}."
            raise TransientError(message, kind="BadAnswer") from None

    async def exists(self, path: str, what: str, params: Mapping[str, str]) -> bool:
        """Return whether there is a file with something in it."""
        answer = await self.send(Request("HEAD", path, what, params, also=(400, 404)))
        return answer.status == 200 and answer.headers.get("Content-Length") != "0"

    async def download(self, path: str, what: str, limit: int, params: Mapping[str, str] | None = None) -> bytes | None:
        """Return a file's bytes; None where there is none (404). Raises VariationError beyond `limit` bytes."""
        request = Request("GET", path, what, params, also=(404,), limit=limit, is_image=True, parse=bytes)
        answer = await self.send(request)
        return answer.data if answer.status == 200 else None

    async def log_in(self) -> None:
        """Get a fresh token by e-mail and password. Raises ServerRefusedError where they are wrong or missing."""
        if not self._credentials.can_log_in:
            raise ServerRefusedError(f"{self.address.url} wants a login.", hint=LOGIN_HINT)
        body = {"email": self._credentials.email, "password": self._credentials.password, "remember_me": True}
        self.token = None
        answer = await self._send(Request("POST", "/api/v1/auth/login", "logging in", body=body))
        if answer.status in {401, *BAD_REQUEST}:  # 422 would echo what was sent
            message = f"{self.address.url} does not take this e-mail and password ({answer.status})."
            raise ServerRefusedError(message, hint=REFUSED_HINT)
        if answer.status != 200:
            raise self._make_error(answer, "logging in")
        token = sendable(mapping(_parse_or_none(answer.data)).get("token"))
        if token is None:
            raise ServerRefusedError(f"{self.address.url} took the e-mail and password but gave no token.")
        self.token = token

    def _make_error(self, answer: Response, what: str) -> SweepError:
        body = _parse_or_none(answer.data)
        sent = self._basic or (None if asks_for_basic(answer.headers) else self.token)
        return make_status_error(self.address.url, answer.status, answer.headers, body, what, is_known=bool(sent))

    async def _send_as_us(self, request: Request) -> Response:
        """Send a request with our token, and log in anew where that has expired: a refused request was not carried out.

        More than once, as a late answer to another request may bring an expired token.
        """
        for _ in range(MOST_LOGINS):
            token, basic = self.token, self._basic
            answer = await self._send(request)
            wants_basic = asks_for_basic(answer.headers)  # then a token that was sent stood in place of the name
            if answer.status != 401 or (basic and not (token and wants_basic)) or not self._credentials.can_log_in:
                return answer
            async with self._login:
                if wants_basic:
                    self._basic, self.token = self._credentials.basic, None
                elif self.token == token:
                    await self.log_in()
        return await self._send(request)

    async def _send(self, request: Request) -> Response:
        """Send a request. A 404 that is a page counts where another path is there; else it is of a proxy."""
        answer = await self._exchange(request)
        if answer.status == 404 and self._known_path and answer.data.strip() and _parse_or_none(answer.data) is None:
            known = await self._exchange(Request("GET", self._known_path, request.what))
            if known.status == 404 or known.status >= 500:
                raise NoAnswerError(self.address.url, "404 of a proxy", request.what)
            return await self._exchange(request)  # as the server may have been away until then
        if answer.status == 200 and request.method == "GET":
            self._known_path = self._known_path or request.path
        return answer

    async def _exchange(self, request: Request) -> Response:
        target = self._base.with_path(self.address.prefix + request.path, encoded=True)
        try:
            async with (
                asyncio.timeout(self.timings.read + request.size / SLOWEST) as deadline,
                self.session.request(
                    request.method,
                    target.with_query(request.params) if request.params else target,
                    json=request.body,
                    data=request.form() if request.form else None,
                    headers=self.headers(),
                    allow_redirects=request.method == "GET",
                    max_redirects=MOST_REDIRECTS + 1,  # the number that is too many
                ) as response,
            ):
                data = await self._read_body(request, response, deadline)
                data = data if response.ok else self._hide_secrets(data)
                self.token = sendable(response.headers.get(FRESH_TOKEN_HEADER)) or self.token
                if response.status in BAD_GATEWAY:
                    raise NoAnswerError(self.address.url, f"{response.status} of a proxy", request.what)
                return Response(response.status, response.headers, data)
        except (_ElsewhereError, aiohttp.RedirectClientError) as error:
            to = f"to {error}" if isinstance(error, _ElsewhereError) else "elsewhere"
            raise make_redirect_error(self.address.url, to) from None
        except aiohttp.TooManyRedirects:
            message = f"{self.address.url} redirects in circles while {request.what}."
            raise TransientError(message, kind="BadAnswer") from None
        except NETWORK_ERRORS as error:
            reason, hint = explain_failure(error)
            raise NoAnswerError(self.address.url, reason, request.what, hint) from None
        except ValueError:  # of aiohttp, for a redirect to an address with a password
            raise make_redirect_error(self.address.url) from None

    def _hide_secrets(self, data: bytes) -> bytes:
        """Take our credentials out of the texts of an error: some proxies quote them, and errors go to files.

        The rest stays as it is: the value of a header may be a word of JSON, such as true.
        """
        own = self._credentials
        sent = (self.token, own.token, own.password, self._basic.removeprefix("Basic "), *dict(own.headers).values())
        secrets = [secret for secret in sent if secret and len(secret) >= SHORTEST_SECRET]
        return json.dumps(_hide(_parse_or_none(data), secrets)).encode() if secrets and data.strip() else data

    async def _read_body(self, request: Request, response: aiohttp.ClientResponse, deadline: asyncio.Timeout) -> bytes:
        """Read an answer; the deadline moves on with the bytes that arrive, at the pace of the slowest server.

        One beyond its limit is an error of the image, and else of the server.
        """
        limit = request.limit if response.ok else LARGEST_ERROR
        declared = 0 if request.method == "HEAD" else response.content_length or 0
        ends = deadline.when() or asyncio.get_running_loop().time() + self.timings.read
        chunks: list[bytes] = []
        size = granted = 0
        while max(size, declared) <= limit and (chunk := await response.content.readany()):
            chunks.append(chunk)
            size += len(chunk)
            if size - granted >= READ_AHEAD:
                granted = size
                deadline.reschedule(ends + granted / SLOWEST)
        if max(size, declared) <= limit:
            return b"".join(chunks)
        if request.is_image and response.ok:
            message = f"what {self.address.url} sent while {request.what} has more than {limit} bytes"
            raise VariationError(message, kind="TooLarge")
        raise TransientError(f"{self.address.url} sent more than {limit} bytes while {request.what}.", kind="TooLarge")


def _parse_or_none(data: bytes) -> Any:
    try:
        return parse(data)
    except ValueError:
        return None


def _hide(value: Any, secrets: Collection[str]) -> Any:
    """Replace the secrets in the texts of a JSON value."""
    if isinstance(value, dict):
        return {name: _hide(inner, secrets) for name, inner in value.items()}
    if isinstance(value, list):
        return [_hide(inner, secrets) for inner in value]
    for secret in secrets if isinstance(value, str) else ():
        value = value.replace(secret, "***")
    return value


LONGEST_WELCOME = 30.0  # seconds; a server that asks for a longer pause at its first question is not waited for
LONGEST_RETRY_AFTER = 3600.0  # seconds; a server that asks for more is asked again after this
REFUSED_CONNECTION = "connection refused"  # nothing listens there
TIMED_OUT = "no answer in time"
BAD_REQUEST = frozenset({400, 413, 415, 422})
BAD_GATEWAY = frozenset({502, 504})
START_HINT = "Start the server, or correct the address. sweep run without --server uses the sandbox."
CERTIFICATE_HINT = "If it is self-signed or of a private CA, give the file: --ca-file. Otherwise correct the address."
PLAIN_HINT = "If the server does not use TLS, write http:// instead of https://."
LOGIN_HINT = "Set SWEEP_TOKEN, or SWEEP_EMAIL and SWEEP_PASSWORD, or give a credentials file with this address."
REFUSED_HINT = "Check SWEEP_TOKEN, SWEEP_EMAIL, SWEEP_PASSWORD and the credentials file. A token may have expired."
BASIC_HINT = "It wants a user name: set SWEEP_EMAIL (the name) and SWEEP_PASSWORD, or give a credentials file."


def make_status_error(
    url: str, status: int, headers: Mapping[str, str], body: Any, what: str, *, is_known: bool = False
) -> SweepError:
    """Return the error for an answer with this status, to a request that bore our login where `is_known`."""
    said = read_detail(body)
    tail = f": {said}" if said else ""
    if status in (401, 403):
        reason = "refuses the login it was given" if is_known else "wants a login"
        reason = reason if status == 401 else "does not allow this account to do that"
        hint = REFUSED_HINT if is_known else BASIC_HINT if asks_for_basic(headers) else LOGIN_HINT
        return ServerRefusedError(f"{url} {reason} ({status} while {what}{tail}).", hint=hint)
    if status in (429, 503):
        asked = parse_retry_after(headers.get("Retry-After"))
        message = f"{url} is overloaded ({status} while {what})."
        return OverloadedError(message, retry_after=asked, is_certain=status == 429)
    if status == 413:
        said = f"{url} takes no request of this size (413 while {what}); raise its limit (nginx: client_max_body_size)"
    if status in BAD_REQUEST:
        return VariationError(said or f"{url} refused the request ({status} while {what}).", kind="Refused")
    if status >= 500 or status == 409:
        return TransientError(f"{url} failed ({status} while {what}{tail}).", kind=f"HTTP {status}")
    if 300 <= status < 400:
        return make_redirect_error(url)
    return ServerError(f"{url} answered {status} while {what}{tail}.")


def asks_for_basic(headers: Mapping[str, str]) -> bool:
    """Return whether a refusal asks for a user name and a password, as proxies do."""
    return headers.get("WWW-Authenticate", "").lower().startswith("basic")


def make_redirect_error(url: str, target: str = "elsewhere") -> ServerError:
    """Return the error for a redirect to another server."""
    hint = "Use the address that it redirects to; sweep does not follow it."
    return ServerError(f"{url} redirects {target}.", hint=hint)


def read_detail(body: Any) -> str:
    """Return the text of an error's body in one line: its `detail`, or place and message of each problem."""
    found = mapping(body).get("detail")
    if isinstance(found, str):
        return shorten(found)
    return list_problems(_describe_problem(entry) for entry in sequence(found) if isinstance(entry, dict))


def list_problems(sentences: Iterable[str]) -> str:
    """Return the first three problems in one line, and how many more there are."""
    found = list(sentences)
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return shorten("; ".join(found[:3])) + more


def _describe_problem(entry: Mapping[str, Any]) -> str:
    place = [str(part) for part in sequence(entry.get("loc"))]
    if "nodes" in place:
        inside = place[place.index("nodes") + 1 :]
        where = ".".join([inside[0], *inside[2:]]) if inside else "graph"
    else:
        where = ".".join(part for part in place if part not in ("body", "batch"))
    context = entry.get("ctx")
    if entry.get("type") == "union_tag_invalid" and isinstance(context, dict):
        return f"{where}: this server has no node type {str(context.get('tag'))!r}"
    message = str(entry.get("msg", "")).removeprefix("Value error, ")
    return f"{where}: {shorten(message)}" if where else shorten(message)


def parse_retry_after(header: str | None, now: datetime | None = None) -> float | None:
    """Return the seconds to wait by a Retry-After header (a number or an HTTP date); None without a readable one."""
    try:
        seconds = float(header or "")
    except ValueError:
        try:
            moment = parsedate_to_datetime(header or "")
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
            seconds = (moment - (now or datetime.now(UTC))).total_seconds()
        except (ValueError, TypeError, OverflowError):  # also of an offset that leads out of the calendar
            return None
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER) if math.isfinite(seconds) else None


def make_bad_answer(url: str, what: str) -> TransientError:
    """Return the error for an answer that says nothing: nobody may conclude from it that something is not there."""
    return TransientError(f"{url} gave an answer that cannot be read while {what}.", kind="BadAnswer")


class NoAnswerError(TransientError):
    """A call got no whole answer: nobody knows whether the server carried it out."""

    def __init__(self, url: str, reason: str, what: str, hint: str | None = None) -> None:
        super().__init__(f"{url} did not answer while {what} ({reason}).", kind="NoAnswer", hint=hint)
        self.reason = reason


def is_refusal(error: BaseException) -> bool:
    """Return whether nothing listens there at all: the server is gone, not busy."""
    return isinstance(error, NoAnswerError) and error.reason == REFUSED_CONNECTION


_REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (TimeoutError, TIMED_OUT),
    (aiohttp.ClientConnectorDNSError, "no such host"),
    (aiohttp.ServerDisconnectedError, "it closed the connection"),
    (ConnectionRefusedError, REFUSED_CONNECTION),
    (ConnectionResetError, "connection reset"),
)


def explain_failure(error: BaseException) -> tuple[str, str | None]:
    """Return a failed connection's reason in a few words, without addresses of sockets or memory, and a hint."""
    cause = getattr(error, "os_error", None) or getattr(error, "certificate_error", None) or error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its TLS certificate is not accepted: {cause.verify_message.rstrip('.')}", CERTIFICATE_HINT
    if isinstance(cause, ssl.SSLError):
        return f"TLS failed: {(cause.reason or 'no reason given').lower().replace('_', ' ')}", PLAIN_HINT
    for kind, reason in _REASONS:
        if isinstance(error, kind) or isinstance(cause, kind):
            return reason, None
    return (cause.strerror.lower() if isinstance(cause, OSError) and cause.strerror else "connection broken"), None


async def read_input_image(sha256: str, path: Path | None, *, is_raw: bool = False) -> tuple[bytes, str]:
    """Read an input image as it is sent, or as it lies there; return its content and ending.

    Raises VariationError where there is no file, or it was changed after the plan was made.
    """
    if path is None:
        raise VariationError(f"no file is known for the input image {sha256[:12]}", kind="MissingFile")
    try:
        return await asyncio.to_thread(read_input, path, sha256, is_raw=is_raw)
    except OSError as error:
        reason = error.strerror or error
        raise VariationError(f"{path.name}: the input image cannot be read ({reason})", kind="MissingFile") from None
    except ValueError as error:
        raise VariationError(f"{path.name}: the input image {error}", kind="ChangedFile") from None
