"""The parent's end of a worker: starts it, asks, waits no longer than allowed, and says how it died."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from glpn_deploy.errors import BackendError, UnavailableError

START_LIMIT_S = 300.0
_TAIL = 300  # characters of a dead worker's last words


class WorkerProcess:
    """One fresh process. Use it as a context manager, or call `close`.

    Args:
        python: The interpreter, which must be able to import this package from the present folder.
        program: The module that answers, and its arguments.

    Attributes:
        pid: Its process id.
        start_s: From starting the process until it could take a request [s].

    Raises:
        BackendError: It did not start.
    """

    def __init__(
        self,
        python: str = sys.executable,
        program: Sequence[str] = ("glpn_deploy.benchmarks.measuring.worker",),
    ) -> None:
        begin = time.perf_counter()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the worker
        try:
            self._process = subprocess.Popen(
                [python, "-m", *program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            self._stderr.close()
            raise BackendError(f"{python} does not start ({error.strerror})") from None
        self._replies: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.pid: int = self._next("starting", START_LIMIT_S)["pid"]
        except BaseException:
            self.close()
            raise
        self.start_s = time.perf_counter() - begin

    def ask(self, do: str, limit_s: float = START_LIMIT_S, **values: Any) -> Any:
        """Sends a request and waits for its answer.

        Args:
            do: The command's name, see `glpn_deploy.benchmarks.measuring.worker.Worker`.
            limit_s: Longest wait [s].
            values: The command's arguments.

        Raises:
            BackendError: The worker says so, died, or took longer; it is not to be used after the last two.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **values}) + "\n")
            self._process.stdin.flush()
        except OSError:
            raise self._died(do) from None
        return self._next(do, limit_s)

    def _next(self, what: str, limit_s: float) -> Any:
        try:
            line = self._replies.get(timeout=limit_s)
        except queue.Empty:
            self._process.kill()
            self.close()
            raise BackendError(f"the process did not answer within {limit_s:.0f} s ({what})") from None
        if line is None:
            raise self._died(what)
        reply = json.loads(line)
        if "error" in reply:
            kind = UnavailableError if reply.get("unavailable") else BackendError
            raise kind(reply["error"])
        return reply["ok"]

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):  # closed while it waited
            for line in self._process.stdout:
                self._replies.put(line)
        self._replies.put(None)

    def _died(self, what: str) -> BackendError:
        code = self._process.wait()
        reason = f"exit status {code}"
        if code < 0:
            with contextlib.suppress(ValueError):
                reason = signal.Signals(-code).name
        if code == -9:
            reason += ", as the system does when memory runs out"
        self._stderr.seek(0)
        words = self._stderr.read().decode("utf-8", "replace").strip()[-_TAIL:]
        return BackendError(f"the process died while {what} ({reason}){': ' + words if words else ''}")

    def close(self) -> None:
        """Ends the process."""
        for stream in (self._process.stdin, self._stderr):
            with contextlib.suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()  # a worker whose input ends goes by itself
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(timeout=5)
        if self._process.stdout is not None and not self._reader.is_alive():
            self._process.stdout.close()

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
