"""Results kept under a hash of everything that decides them (SQLite).

The file is ``$BITKILN_STORE`` or ``build/store.sqlite``. Several processes may use it at once.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from .models.errors import FAILED, BitkilnError

__all__ = ["Store", "content_key", "store"]

LAYOUT = 1
BUSY_SECONDS = 60


def content_key(kind: str, inputs: Mapping[str, Any]) -> str:
    """SHA-256 of ``kind`` and ``inputs`` (JSON values: netlist text, tool versions, options, seeds)."""
    text = json.dumps([kind, inputs], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class Store:
    """A table of results.

    Parameters
    ----------
    path : Path
        SQLite file; made with its folder on first use.

    Raises
    ------
    BitkilnError
        Exit code 1 when the file is no store, cannot be written, or is of another layout.
    """

    def __init__(self, path: Path):
        self.path = Path(path)
        with self._database() as database, database:
            found = database.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, LAYOUT):
                raise BitkilnError("store of another version", where=str(self.path), got=f"layout {found}",
                                   expected=f"layout {LAYOUT}", exit_code=FAILED,
                                   help="set BITKILN_STORE to a new file, or delete this one")
            if found != LAYOUT:
                database.execute("CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, kind TEXT NOT NULL, "
                                 "created REAL NOT NULL, seconds REAL NOT NULL, inputs TEXT NOT NULL, "
                                 "result TEXT NOT NULL)")
                database.execute(f"PRAGMA user_version = {LAYOUT}")

    def _database(self) -> Any:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(self.path, timeout=BUSY_SECONDS)
            database.execute("PRAGMA schema_version").fetchone()       # reads the header: fails on other files
        except (sqlite3.Error, OSError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise BitkilnError("cannot open result store", where=str(self.path), got=reason.lower(),
                               expected="an SQLite file of bitkiln", exit_code=FAILED,
                               help="delete it, or set BITKILN_STORE to another file") from None
        return closing(database)

    def get(self, key: str) -> Any | None:
        """The result under ``key``, or None."""
        with self._database() as database:
            row = database.execute("SELECT result FROM results WHERE key = ?", (key,)).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, key: str, kind: str, inputs: Mapping[str, Any], result: Any, seconds: float = 0.0) -> None:
        """Keep ``result`` (JSON values). Long texts among ``inputs`` are kept as their digest."""
        short = {name: f"sha256:{hashlib.sha256(value.encode()).hexdigest()}"
                 if isinstance(value, str) and len(value) > 200 else value for name, value in inputs.items()}
        with self._database() as database, database:
            database.execute("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?)",
                             (key, kind, time.time(), seconds, json.dumps(short), json.dumps(result)))

    def find(self, kind: str) -> list[tuple[dict[str, Any], Any]]:
        """All ``(inputs, result)`` of a kind, newest first."""
        with self._database() as database:
            rows = database.execute("SELECT inputs, result FROM results WHERE kind = ? ORDER BY created DESC",
                                    (kind,)).fetchall()
        return [(json.loads(inputs), json.loads(result)) for inputs, result in rows]

    def cached(self, kind: str, inputs: Mapping[str, Any], compute: Callable[[], Any]) -> Any:
        """The kept result of ``inputs``, else that of ``compute()``, which is then kept."""
        key = content_key(kind, inputs)
        result = self.get(key)
        if result is None:
            started = time.perf_counter()
            result = compute()
            self.put(key, kind, inputs, result, time.perf_counter() - started)
        return result


def store() -> Store:
    """The store of this working folder: ``$BITKILN_STORE``, else ``build/store.sqlite``."""
    return Store(Path(os.environ.get("BITKILN_STORE") or "build/store.sqlite"))
