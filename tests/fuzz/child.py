"""Tries one door, in a process of its own: ``child.py DOOR MADE WORK SEED FIRST COUNT``."""

from __future__ import annotations

import faulthandler
import gc
import importlib
import json
import os
import random
import resource
import shutil
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

SECONDS, BYTES = 10, 4 << 30
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_CHANGES = {
    "os.mkdir",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
}
_RUNS = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
    "os.startfile",
}


def watch(inside: Path, told: list[str]) -> None:
    """Notes whatever Python is asked to write outside a folder, to run, or to connect to."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _RUNS:
            told.append(f"{event} {arguments[:2]!r}")
        written = event in _CHANGES or (
            event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES
        )
        if written and isinstance(arguments[0], (str, bytes, os.PathLike)):
            path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - resolve() follows what it checks
            if not path.startswith((str(inside), "/dev/null", "/dev/shm/")):
                told.append(f"{event} {path}")

    sys.addaudithook(hook)


def main() -> None:
    name, made, work, seed, first, count = sys.argv[1:7]
    from glpn_deploy.errors import GlpnError

    warnings.simplefilter("ignore")
    door, folder = importlib.import_module("doors").DOORS[name], Path(work) / "case"
    mutate = importlib.import_module("mutate").mutate
    samples = door.samples(Path(made))
    whole = []
    for sample in samples:  # as they should be; what is imported is so before there are limits
        build(folder, sample)
        door.tend(folder)
        whole.append(attempt(door, folder, GlpnError))
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + BYTES  # beyond what the libraries have mapped
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    told: list[str] = []
    watch(Path(work).absolute(), told)
    outcome: dict[str, Any] = {"whole": str(whole[0] or ""), "taken": 0, "refused": 0, "failures": []}
    for number in range(int(first), int(first) + int(count)):
        (Path(work) / "number").write_text(str(number))
        rng = random.Random(f"{name} {seed} {number}")
        sample = rng.choice(samples)
        build(folder, sample)
        paths = [path for path in sorted(sample) if path.endswith(door.changed)]
        for path in rng.sample(paths, min(len(paths), rng.choice((1, 1, 1, 2)))):
            mutate(folder / path, rng)
        door.tend(folder)
        told.clear()
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        error = attempt(door, folder, GlpnError)
        faulthandler.cancel_dump_traceback_later()
        if isinstance(error, str) or told:
            outcome["failures"].append({"number": number, "error": str(error or ""), "outside": told[:5]})
            if len(outcome["failures"]) >= 5:
                break
        outcome["taken" if error is None else "refused"] += 1
    outcome["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(outcome))


def attempt(door: Any, folder: Path, own: type[Exception]) -> Exception | str | None:
    """None where the case was taken, the package's own error, or another one's traceback."""
    try:
        door.open(folder)
    except own as error:
        text = str(error)
        if len(text) > 2500 or any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in text):
            return f"a refusal of {len(text)} characters, or with control characters: {text[:300]!r}"
        text.encode()
        return error
    except BaseException:
        return traceback.format_exc()[-3000:]
    finally:
        gc.collect(0)
    return None


def build(folder: Path, sample: dict[str, bytes]) -> None:
    """Writes a case's folder anew."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in sample.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


if __name__ == "__main__":
    main()
