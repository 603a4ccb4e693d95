"""The connection to a Dask cluster: opened once for an address, closed with its last user."""

from __future__ import annotations

import asyncio
import pkgutil
import queue
import re
import sys
import threading
from typing import TYPE_CHECKING

from .. import __version__
from ..errors import FusionError

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_SECONDS = 10
REACH_SECONDS = 3
"""How long a worker may take to answer this computer before tiles go by way of the scheduler."""
CLOSE_SECONDS = 5
INSTALL = "python -m pip install distributed"
PACKAGES = "torch, safetensors, pywavelets and distributed"
_ADDRESS = re.compile(r"(\w+://)?(\[[0-9a-fA-F:.]+\]|[^\s:/\[\]]+):\d{1,5}")

_connections: dict[str, Connection] = {}
_lock = threading.Lock()


def check_address(address: str) -> None:
    """Refuse what is no address of a scheduler; nothing is asked of the network.

    Raises:
        FusionError: it is not [protocol://]host:port.
    """
    if not _ADDRESS.fullmatch(address):
        raise FusionError(
            f"{address} is no address of a Dask scheduler: give one such as tcp://host:8786."
        )


class Connection:
    """A client of a scheduler and the models that it sent there; thread-safe.  Get one with ``connect``.

    Attributes:
        address: of the scheduler.
        client: connected; it has found one worker or more.
        direct: every worker answers this computer, so what is large need not pass through the scheduler.
    """

    def __init__(self, address: str) -> None:
        check_address(address)
        self.address = address
        self.users = 1
        self._models: dict[str, Future] = {}
        self._sending = threading.Lock()
        self.client = _client(address)
        try:
            _check_cluster(self.client, address)
            self.direct = self.client.sync(_reachable, self.client, list(self.client.nthreads()))
        except BaseException:
            self.client.close(CLOSE_SECONDS)
            raise

    def model(self, digest: str, weights: bytes) -> Future:
        """The model on the cluster: sent to the scheduler once, and from there on by the workers to each other.

        Args:
            digest: SHA-256 of the file.
            weights: its bytes.
        """
        with self._sending:
            if digest not in self._models:
                # A task and not scattered data: the scheduler can make it again when all workers that had it are gone.
                self._models[digest] = self.client.submit(bytes, weights, key=f"model-{digest}")
            return self._models[digest]

    @property
    def lost(self) -> bool:
        """Whether the scheduler does not answer any more."""
        return self.client.status != "running"

    def close(self) -> None:
        """Say that a user of the connection is done; the last one closes it, and its data leave the cluster."""
        with _lock:
            self.users -= 1
            if self.users > 0:
                return
            if _connections.get(self.address) is self:
                del _connections[self.address]
        self._models.clear()
        self.client.close(CLOSE_SECONDS)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def connect(address: str) -> Connection:
    """The connection to a scheduler, shared by all who ask for the same address.

    Args:
        address: such as tcp://host:8786.

    Raises:
        FusionError: distributed is not installed, nothing answers, there is no worker, or versions differ.
    """
    with _lock:
        known = _connections.get(address)
        if known is not None and not known.lost:
            known.users += 1
            return known
    made = Connection(address)
    with _lock:
        _connections[address] = made
    return made


def _client(address: str) -> Client:
    try:
        import dask
        from distributed import Client
    except ModuleNotFoundError as error:
        raise FusionError(
            f"{sys.executable} lacks {error.name}, which talks to the cluster: install it with {INSTALL}."
        ) from error
    # The weights are large on purpose.
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"})
    answer: queue.Queue = queue.Queue()
    late = threading.Event()

    def open_client() -> None:
        try:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except Exception as error:  # whatever it is, the scheduler cannot be used
            answer.put(error)
            return
        answer.put(client)
        if late.is_set():
            client.close(CLOSE_SECONDS)

    # The client's own limit does not hold where something listens that never says a word.
    threading.Thread(target=open_client, daemon=True).start()
    try:
        found = answer.get(timeout=CONNECT_SECONDS + 1)
    except queue.Empty:
        late.set()
        found = TimeoutError("it accepts connections and stays silent")
    if isinstance(found, Client):
        return found
    raise FusionError(
        f"No Dask scheduler answers at {address} within {CONNECT_SECONDS} seconds: "
        "start one with dask scheduler, or correct the address."
    ) from found


def _check_cluster(client: Client, address: str) -> None:
    """Refuse a cluster without workers, or one that would not understand what is sent."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError:
        raise FusionError(
            f"The Dask scheduler at {address} has no workers: start some with dask worker {address}."
        ) from None
    versions = client.get_versions()
    ours = _version(versions["client"])
    for name, found in {"scheduler": versions["scheduler"], **versions["workers"]}.items():
        if found is not None and _version(found) != ours:
            raise FusionError(
                f"The cluster's {name} has distributed {_version(found)} and this Python {ours}: "
                "install the same version on both sides."
            )
    # Asked without any function of ours: a worker that cannot import what it is sent dies of it.
    package = __package__.rpartition(".")[0]
    found = client.run(pkgutil.resolve_name, f"{package}:__version__", on_error="return")
    for worker, answer in found.items():
        if isinstance(answer, ModuleNotFoundError):
            raise FusionError(
                f"The worker {worker} lacks {answer.name}: put the folder of this software into the PYTHONPATH of "
                f"every worker, and install there {PACKAGES}."
            )
        if answer != __version__:
            raise FusionError(
                f"The worker {worker} has version {answer} of this software and this computer {__version__}: "
                "install the same version on both sides."
            )


async def _reachable(client: Client, workers: list[str]) -> bool:
    """Whether all workers answer this computer; they may be behind a network that only the scheduler reaches."""

    async def ask(worker: str) -> None:
        await asyncio.wait_for(client.rpc(worker).identity(), REACH_SECONDS)

    answers = await asyncio.gather(*map(ask, workers), return_exceptions=True)
    return not any(isinstance(answer, BaseException) for answer in answers)


def _version(found: dict) -> str:
    return found["packages"]["distributed"]
