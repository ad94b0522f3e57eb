"""`Server`, the protocol between the engine and a rendering server: its docstrings are the contract.

Implementations raise only these, whatever the network or the server does (aiohttp's and the socket's own errors
never leave this layer):

- `ServerError` and its kind: this server cannot be used now, by anybody.
- `TransientError` (`OverloadedError`, `ItemLostError`, `MissingModelError` …): another try, or server, may succeed.
- `VariationError`: this graph cannot be rendered here or anywhere (refused values, a node that failed).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeAlias, TypeGuard, TypeVar

from sweep.errors import AttemptError, TransientError
from sweep.workflow import Graph, Json, Model, ModelRef, NodeSchemas, Value

Saved = TypeVar("Saved")


class MissingModelError(TransientError):
    """A server has not installed the model `ref`. Another may: the graph is sent elsewhere, and no graph
    with this model here. The server itself stays usable for everything else.
    """

    def __init__(self, message: str, *, ref: ModelRef) -> None:
        super().__init__(message)
        self.ref = ref


class RefusedImageError(TransientError):
    """The server does not take an input image; another may. The points that use it fail, and no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """A server's name, version and limits. `capacity`: how many items it renders at once (its generation devices)."""

    name: str  # short, for rows and progress: host:port, or "sandbox"
    url: str  # without credentials
    version: str
    api: str  # which of its family's, by a word
    family: str = ""  # name of the dialect of its graphs; empty where a backend does not say
    sandbox: bool = False
    capacity: int = 1
    max_pending: int | None = None  # the server's own limit of pending items; None where it does not say
    notes: tuple[str, ...] = ()  # sentences on options that have no effect there


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """An item to render: a graph that names no server, and the nodes whose images are wanted."""

    batch_id: str  # ours, chosen before the request leaves, so that a lost answer can be asked about
    graph: Graph
    outputs: tuple[str, ...]  # node ids
    destination: str  # names the run on the server; no "/"
    images: Mapping[str, Path] = field(default_factory=dict)  # sha256 → file, for every ImageRef in the graph
    board: str | None = None  # by name; made where it is missing
    intermediate: bool = False  # keep the images out of the server's gallery
    metadata: Mapping[str, Value] = field(default_factory=dict)  # to write into the images, where the graph does not
    priority: int = 0  # above 0: ahead of what is pending there, where the server can
    tells_steps: bool = False  # somebody watches: tell how far its nodes are, where the server says so


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The ids of a submitted item on its server."""

    batch_id: str
    item_id: str
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerImage:
    """An image on the server. `name` is untrusted: it is data for a request, never part of a path."""

    name: str
    node: str  # id of the output node in the submitted graph
    iteration: int = 0  # where a node ran several times (iterate), which of them
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemStarted:
    """The server has begun to render the item."""

    at: datetime | None = None  # aware, UTC


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemHeld:
    """The item waits for a person: `reason` is a sentence, such as that the queue is paused. It may go on later."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDone:
    """A node of the item is `share` (0 to 1) done. A hint for people: only where asked for, and not of every step."""

    node: str  # id in the submitted graph
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """An output node is done: its image can be fetched while the item goes on."""

    image: ServerImage


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemEnded:
    """The item is done with; always the last event. `images` holds every image of the outputs, also of a failed
    item's finished branches, ordered by output node and iteration. `error` is None exactly when completed.
    """

    status: Literal["completed", "failed", "canceled"]
    images: tuple[ServerImage, ...] = ()
    error: AttemptError | None = None
    failed_node: str | None = None  # id of the node in the submitted graph that failed
    queued_at: datetime | None = None  # aware, UTC, by the server's clock
    started_at: datetime | None = None
    finished_at: datetime | None = None
    # Seconds from taking it up to its first node; None where its events were not heard, as by who asks later.
    overhead: float | None = field(default=None, compare=False)


ItemEvent: TypeAlias = ItemStarted | ItemHeld | StepDone | Rendered | ItemEnded


class SavesImages(Protocol):
    """A server whose host can write images into the results folder."""

    @property
    def results(self) -> Path | None:
        """Return the folder that both hosts see; None where images have to be fetched."""

    async def save(self, image: ServerImage, limit: int, write: Callable[[bytes], Saved]) -> Saved:
        """Fetch the image there, as `Server.fetch` does, and return what `write` made of it there.

        `write` can be pickled. What it raises comes back as it is.
        """


def saves_images(server: object) -> TypeGuard[SavesImages]:
    """Tell whether a server writes its images into the results itself."""
    return hasattr(server, "save") and getattr(server, "results", None) is not None


class Gallery(Protocol):
    """The boards, images and workflows that people keep on a server.

    Names are untrusted: data for requests, never parts of a path. Every method raises
    ServerUnsupportedError where the server is too old for it.
    """

    async def boards(self) -> Mapping[str, str]:
        """Return the id of each board by its name."""

    async def list_images(self, board_id: str) -> list[str]:
        """List the names of a board's images, the oldest first."""

    async def fetch_image(self, name: str, limit: int) -> bytes | None:
        """Return the file of an image; None where there is none. Raises VariationError beyond `limit` bytes."""

    async def workflows(self) -> list[tuple[str, str]]:
        """List the workflows of the library: id and name of each."""

    async def fetch_workflow(self, workflow_id: str) -> Json:
        """Return a workflow of the library as its editor exports it."""


class KeepsImages(Protocol):
    """A server that keeps images by name. Methods raise ServerUnsupportedError for what its family does not have."""

    @property
    def uploads(self) -> MutableMapping[str, str]:
        """Names of input images by SHA-256, each uploaded once. What a run hands on is checked before it is used."""

    def gallery(self) -> Gallery:
        """Return the server's gallery."""

    async def find_leftovers(self, items: Mapping[str, str], uploads: Collection[str]) -> list[str]:
        """Return the names of images that these items (item id → batch id) made on the way to their outputs, and of
        those of the `uploads` that are there. What a person has starred or put on a board is not among them.
        """

    async def delete_images(self, names: Sequence[str]) -> int:
        """Delete these images; return how many the server deleted."""


def keeps_images(server: object) -> TypeGuard[KeepsImages]:
    """Tell whether a server keeps images by name.

    From Python 3.12 on, `isinstance` does not see what `AnyServer` passes on.
    """
    return hasattr(server, "uploads")


class Server(Protocol):
    """An image-generation server. Every method may be called by several tasks at once, between `open` and `aclose`."""

    @property
    def url(self) -> str:
        """Return the address as given, without credentials."""

    async def open(self) -> ServerInfo:
        """Find out which server answers, log in, start to listen for events. Raises ServerError. Call once."""

    async def aclose(self) -> None:
        """Close all connections; never raises. Items submitted stay on the server."""

    async def schemas(self) -> NodeSchemas:
        """Return the node types it has. Read once, then remembered."""

    async def models(self) -> tuple[Model, ...]:
        """Return all models installed, of every type. Asked anew at each call."""

    async def check(self, graphs: Sequence[Graph], images: Mapping[str, Path]) -> list[str | None]:
        """Have the server validate graphs without running them: for each, None or a sentence why it is refused.

        No item results and nothing is left behind. Uploads the images the graphs name.
        """

    async def submit(self, submission: Submission) -> Ticket:
        """Queue one item: exactly one, or an error. A TransientError leaves it open whether the item exists:
        `find` tells. Each image is uploaded once per server and content, however many tasks ask for it.
        """

    def hear(self, ticket: Ticket) -> AsyncIterator[ItemEvent]:
        """Yield the events of the item, ending with `ItemEnded`, even of one that ended long ago. A server that does
        not answer for too long raises TransientError; an item it does not know raises ItemLostError. Use it under
        `contextlib.aclosing`.
        """

    async def find(self, batch_id: str, outputs: tuple[str, ...] = ()) -> Ticket | None:
        """Return the item that was submitted under `batch_id`, whatever its state; None where there never was one."""

    async def fetch(self, image: ServerImage, limit: int) -> bytes:
        """Return the image's file. Raises VariationError where it has more than `limit` bytes, TransientError where it
        arrives incomplete. The content is not verified here.
        """

    async def cancel(self, batch_ids: Sequence[str]) -> None:
        """Cancel these items, pending or running; ids it does not know are ignored. Touches nothing else."""

    async def list_loaded(self) -> frozenset[str]:
        """Return the keys of the models it holds in memory, as far as known: for sending work where its model is."""

    async def count_others_waiting(self, ours: str) -> int:
        """Count other people's pending and running items: those whose destination is not `ours`."""
