"""Free memory as the system and a container's limits tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from glpn_deploy.runtimes.memory import available_memory

SYSTEM = "MemTotal:       32000000 kB\nMemAvailable:   16000000 kB\n"
FREE = 16_000_000 * 1024


@pytest.mark.parametrize(
    ("files", "free"),
    [
        ({"/proc/meminfo": SYSTEM}, FREE),
        ({"/proc/meminfo": SYSTEM, "memory.max": "max\n", "memory.current": "5\n"}, FREE),
        ({"/proc/meminfo": SYSTEM, "memory.max": "4000\n", "memory.current": "1000\n"}, 3000),
        ({"/proc/meminfo": SYSTEM, "memory.max": "4000\n", "memory.current": "5000\n"}, 0),
        ({"/proc/meminfo": "MemTotal: 1 kB\n"}, None),  # Linux before 3.14
        ({}, None),  # another system
    ],
)
def test_free_memory(files, free, monkeypatch):
    def read_text(path, *_, **__):
        try:
            return files[str(path).removeprefix("/sys/fs/cgroup/")]
        except KeyError:
            raise FileNotFoundError(path) from None

    monkeypatch.setattr(Path, "read_text", read_text)
    assert available_memory() == free
