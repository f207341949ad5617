"""A client of the KServe v2 protocol over HTTP, by the standard library alone: image bytes in, metres out.

The protocol: https://github.com/kserve/open-inference-protocol; its binary tensors and raw requests are
Triton's extension (docs/protocol/extension_binary_data.md of its server).
"""

from __future__ import annotations

import http.client
import json
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from numpy.typing import NDArray

from glpn_deploy.errors import BackendError, InputError

_HEADER_LENGTH = "Inference-Header-Content-Length"


class KserveClient:
    """One connection to a server, for one thread; also a context manager.

    Args:
        url: ``http://127.0.0.1:8000``, or https.
        timeout_s: How long an answer may take [s].

    Raises:
        InputError: The URL is none.
    """

    def __init__(self, url: str, timeout_s: float = 60.0) -> None:
        parts = urlsplit(url)
        try:
            port = parts.port
        except ValueError:
            port = -1
        if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
            raise InputError(
                f"the server is {url!r}", expected="its HTTP address", fix="write http://127.0.0.1:8000"
            )
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._url, self._base = url, parts.path.rstrip("/")
        self._connection = kind(parts.hostname, port, timeout=timeout_s)

    def ready(self) -> bool:
        """Whether the server answers, and all its models are ready."""
        try:
            self._ask("GET", "/v2/health/ready", b"", {})
        except (BackendError, InputError):  # Triton says 400 while it loads
            return False
        return True

    def models(self) -> list[str]:
        """Names of the models that are ready."""
        body, _ = self._ask("POST", "/v2/repository/index", b"{}", {})
        return [one["name"] for one in json.loads(body) if one.get("state") == "READY"]

    def depth(self, model: str, image: bytes) -> NDArray[np.float32]:
        """Depth of an image file, ``(H, W)`` at its own size [m], to be read only.

        Args:
            model: ``glpn`` or ``glpn_python``.
            image: The file's bytes.

        Raises:
            InputError: The server refused the image, for the reason that is given.
            BackendError: The server cannot be reached, is overloaded, or failed.
        """
        path = f"/v2/models/{quote(model, safe='')}/infer"
        body, length = self._ask("POST", path, image, {_HEADER_LENGTH: "0"})
        try:
            (output,) = json.loads(body[:length])["outputs"]
            depth: NDArray[np.float32] = np.frombuffer(body, "<f4", offset=length).reshape(output["shape"])
        except (ValueError, KeyError, TypeError) as error:
            raise BackendError(f"{self._url} gave something else than one FP32 tensor ({error!r})") from None
        return depth

    def _ask(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[bytes, int]:
        """The answer's body, and how long the JSON at its start is [bytes]."""
        try:
            self._connection.request(method, self._base + path, body, headers)
            answer = self._connection.getresponse()
            content, length = answer.read(), answer.headers.get(_HEADER_LENGTH)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise BackendError(
                f"{self._url} does not answer ({error})", fix="check that the server runs, and its address"
            ) from error
        if answer.status != 200:
            message = _message(content)
            kind = InputError if answer.status == 400 else BackendError
            raise kind(f"{self._url} answered {answer.status}: {message}")
        return content, len(content) if length is None else int(length)

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()

    def __enter__(self) -> KserveClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _message(content: bytes) -> str:
    try:
        found: Any = json.loads(content)["error"]
    except (ValueError, KeyError, TypeError):
        found = content[:200].decode(errors="replace")
    return str(found)
