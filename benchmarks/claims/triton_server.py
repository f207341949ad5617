"""A real tritonserver on this machine, for tests and figures: fetched as a wheel, started on loopback.

The wheel of nvidia-pytriton carries the server and its Python backend, which start without a GPU. Only its
files are taken, without what it depends on: it would ask for numpy 1.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from pathlib import Path

from glpn_deploy.atomic import replace_folder, staging_folder
from glpn_deploy.errors import BackendError
from glpn_deploy.scale.triton.kserve import KserveClient

ROOT = Path(__file__).resolve().parents[2]
SERVER = ("nvidia-pytriton==0.7.0",)
CLIENT = (  # tritonclient[grpc,http] asks for an older protobuf than onnx has, so it gets a folder of its own
    "tritonclient>=2.60,<3",
    "grpcio>=1.71",
    "protobuf>=6.30,<7",
    "python-rapidjson",
    "geventhttpclient>=2.3.3",
    "gevent",
    "greenlet<3.4",
    "zope.event",
    "zope.interface",
    "brotli",
    "urllib3",
    "certifi",
    "packaging",
)
_OLDEST_GLIBC = (2, 35)
_START_S, _STOP_S = 120, 20


def why_not() -> str:
    """Why the server cannot run on this machine, or nothing."""
    system = f"{sys.platform}-{platform.machine()}"
    name, version = platform.libc_ver()
    if system != "linux-x86_64" or name != "glibc":
        return f"its wheel is for linux-x86_64 with glibc, and this is {system} with {name or 'another libc'}"
    if tuple(map(int, version.split("."))) < _OLDEST_GLIBC:
        return f"its wheel needs glibc {'.'.join(map(str, _OLDEST_GLIBC))}, and this is {version}"
    if not (_library_folder() / str(sysconfig.get_config_var("INSTSONAME"))).is_file():
        return "its Python backend needs Python's shared library, and this Python was built without"
    return ""


def fetch(folder: Path, packages: tuple[str, ...]) -> Path:
    """Installs packages, without what they depend on, into a folder that may exist from the last time.

    Raises:
        BackendError: pip could not.
    """
    if not folder.is_dir():
        with staging_folder(folder) as staged:
            place = staged / folder.name
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-compile"]
            done = subprocess.run(
                [*pip, "--target", str(place), *packages], capture_output=True, text=True, check=False
            )
            if done.returncode:
                raise BackendError(f"pip cannot install {packages[0]}: {done.stderr.strip()[-300:]}")
            replace_folder(place, folder)
    return folder


@contextlib.contextmanager
def serving(
    packages: Path, repository: Path, work: Path, backends: dict[str, Path] | None = None
) -> Iterator[tuple[str, str, int]]:
    """Runs a server on a repository for the block; its log is ``server.log`` in ``work``.

    Args:
        packages: What `fetch` made of `SERVER`.
        repository: Model repository.
        work: Folder for backends and log.
        backends: Folders of more backends, by name.

    Yields:
        HTTP URL, gRPC address, and the server's process id.

    Raises:
        BackendError: It did not start; says what its log says.
    """
    home = packages / "pytriton" / "tritonserver"
    place = work / "backends" / "python"
    if not place.is_dir():
        shutil.copytree(home / "backends" / "python", place)
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
        shutil.copy(stub, place)
        # its libraries lie beside the wheel's other ones, relative to where the stub was
        for name, source in (backends or {}).items():
            (place.parent / name).symlink_to(source)
    for program in (home / "bin" / "tritonserver", place / "triton_python_backend_stub"):
        program.chmod(0o755)
    http, grpc = _free_ports(2)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # where the stub looks for its Python
        "LD_LIBRARY_PATH": f"{_library_folder()}:{packages / 'nvidia_pytriton.libs'}",
        "OMP_NUM_THREADS": "1",
    }
    command = [
        str(home / "bin" / "tritonserver"),
        f"--model-repository={repository}",
        f"--backend-directory={place.parent}",
        *("--http-address=127.0.0.1", f"--http-port={http}"),
        *("--grpc-address=127.0.0.1", f"--grpc-port={grpc}"),
        *("--allow-metrics=false", "--exit-timeout-secs=5"),
        f"--backend-config=python,shm-region-prefix-name=glpn{os.getpid()}-{http}-",
    ]
    log = work / "server.log"
    with log.open("wb") as written:
        # from the clone's folder, which the stub's Python imports from; it heeds no PYTHONPATH
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=written, stderr=written)
    try:
        _await_ready(process, f"http://127.0.0.1:{http}", log)
        yield f"http://127.0.0.1:{http}", f"127.0.0.1:{grpc}", process.pid
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + _START_S
    while time.monotonic() < end and process.poll() is None:
        with KserveClient(url) as client:
            if client.ready():
                return
        time.sleep(0.1)
    lines = log.read_text(errors="replace").splitlines()
    said = "; ".join(line for line in lines if line.startswith("E") or "error" in line)
    raise BackendError(f"tritonserver did not start: {said[-600:]}")


def _library_folder() -> Path:
    return Path(str(sysconfig.get_config_var("LIBDIR")))


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
