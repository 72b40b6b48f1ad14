"""Where tasks run: processes that end with this one, or a Dask cluster."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from typing import Any, TypeVar

from ..models.errors import FAILED, MISSING_TOOL, BitkilnError

__all__ = ["dask_workers", "finished", "local_workers"]

T = TypeVar("T")
WATCH_SECONDS = 0.5
DASK_SECONDS = 10


def local_workers(jobs: int) -> ProcessPoolExecutor:
    """``jobs`` processes of this machine; in a ``with`` that an error or Ctrl-C leaves, they end at once."""
    return _Processes(jobs, initializer=_end_with_parent)


class _Processes(ProcessPoolExecutor):
    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> bool | None:
        if kind is None:
            return super().__exit__(kind, *rest)
        running = list((self._processes or {}).values())
        self.shutdown(wait=False, cancel_futures=True)
        for process in running:     # a synthesis would go on for minutes
            process.terminate()
        return None


def finished(running: Mapping[Future, T]) -> Iterator[tuple[T, Any]]:
    """What each task is about and its result, as they end; the others are cancelled where one fails."""
    try:
        for future in as_completed(running):
            yield running[future], future.result()
    finally:
        for future in running:
            future.cancel()


def _end_with_parent() -> None:
    """A parent that is killed says nothing, and its workers would wait for tasks for ever."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def dask_workers(address: str) -> Executor:
    """The workers of a Dask cluster.

    Raises
    ------
    BitkilnError
        Exit code 3 without the package, 1 where no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError:
        raise BitkilnError("Dask is not installed", where="--dask", got=address, exit_code=MISSING_TOOL,
                           help="pip install 'bitkiln[dask]'") from None
    try:
        client = Client(address, timeout=DASK_SECONDS)
    except ValueError as error:
        raise BitkilnError("malformed address", where="--dask", got=address, expected="tcp://HOST:PORT",
                           help=str(error).split("\n")[0][:100]) from None
    except (OSError, TimeoutError) as error:
        raise BitkilnError("no Dask scheduler answers", where="--dask", got=address, expected="tcp://HOST:PORT",
                           help=str(error).split("\n")[0][:100], exit_code=FAILED) from None
    return _DaskWorkers(client)


class _DaskWorkers(Executor):
    """Dask's own executor leaves its connection open."""

    def __init__(self, client: Any):
        self._client, self._pool = client, client.get_executor()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future:
        return self._pool.submit(fn, *args, **kwargs)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        self._pool.shutdown(wait=wait)
        self._client.close()
