"""Does the benchmark keep its word? Equal runs are to be no different, a planted slow-down is to be found.

    python -m glpn_deploy.benchmarks.claims.aa BUNDLE --pairs 20

Each pair is two runs of `run_sweep` on one bundle and a third whose every call takes ``--planted`` longer:
its workers are `SlowWorker`s, started through the option that gives a backend another Python.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from glpn_deploy.benchmarks.measuring import worker
from glpn_deploy.benchmarks.options import BenchOptions
from glpn_deploy.benchmarks.report.compare import CompareOptions, compare_reports
from glpn_deploy.benchmarks.sweep import run_sweep
from glpn_deploy.errors import GlpnError

_SLOW = "--slow-worker"


class SlowWorker(worker.Worker):
    """A worker whose calls take a share longer, by waiting as long after each."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._share = share

    def _load(self, case: dict[str, Any]) -> dict[str, Any]:
        answer = super()._load(case)
        call = self._subject.call

        def slow(turn: int) -> None:
            begin = time.perf_counter()
            call(turn)
            end = begin + (time.perf_counter() - begin) * (1 + self._share)
            while time.perf_counter() < end:  # a sleep would come back when the system likes
                pass

        self._subject.call = slow
        return answer


@contextlib.contextmanager
def slow_python(share: float) -> Iterator[str]:
    """A command that stands for a Python and starts slow workers."""
    with tempfile.TemporaryDirectory(prefix="glpn-aa-") as folder:
        path = Path(folder) / "python"
        program = [sys.executable, "-m", "glpn_deploy.benchmarks.claims.aa", _SLOW, str(share)]
        path.write_text(f"#!/bin/sh\nexec {shlex.join(program)}\n", encoding="utf-8")
        path.chmod(0o755)
        yield str(path)


def count_verdicts(
    folder: Path, options: BenchOptions, pairs: int, planted: float, compare: CompareOptions
) -> dict[str, Any]:
    """Runs the pairs and counts what `compare_reports` says of them.

    Args:
        folder: The bundle.
        options: What to measure; its backends are to be named.
        pairs: How many.
        planted: The slow-down of the third run, a share of each call.
        compare: The margin, and whether disturbed cases are judged.

    Returns:
        ``equal`` and ``planted``: verdicts over cases, counted, and ``ratios`` of times; ``false_share`` and
        ``found_share`` are of the cases that were judged, None where none was.
    """
    kinds = ("equal", "planted")
    counts = {kind: collections.Counter[str]() for kind in kinds}
    ratios: dict[str, list[float]] = {kind: [] for kind in kinds}
    with slow_python(planted) as python:
        slow = dataclasses.replace(options, pythons=dict.fromkeys(options.backends or (), python))
        for number in range(pairs):
            first = run_sweep(folder, options)
            for kind, chosen in zip(kinds, (options, slow), strict=True):
                found = compare_reports(first, run_sweep(folder, chosen), compare)
                counts[kind].update(case.verdict for case in found.cases)
                ratios[kind] += [round(case.ratio.value, 4) for case in found.cases if case.ratio]
            words = "; ".join(f"{kind} {dict(count)}" for kind, count in counts.items())
            print(f"pair {number + 1}: {words}", file=sys.stderr, flush=True)
    judged = {kind: count.total() - count["not judged"] for kind, count in counts.items()}
    wrong = counts["equal"]["faster"] + counts["equal"]["slower"]
    return {
        "pairs": pairs,
        **{kind: {**counts[kind], "ratios": ratios[kind]} for kind in kinds},
        "false_share": wrong / judged["equal"] if judged["equal"] else None,
        "found_share": counts["planted"]["slower"] / judged["planted"] if judged["planted"] else None,
    }


def _size(text: str) -> tuple[int, int]:
    height, width = map(int, text.split("x"))
    return height, width


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 where at most 1 of 20 verdicts was false and 19 of 20 slow-downs were found, else 1."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == [_SLOW]:
        worker.main(SlowWorker(float(given[1])))
        return 0
    parser = argparse.ArgumentParser(prog="aa", description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--planted", type=float, default=0.05, help="slow-down of the third run [share]")
    parser.add_argument("--backends", default="null", help="separated by commas")
    parser.add_argument("--delay-ms", type=float, default=20.0, help="of the null backend")
    parser.add_argument("--size", type=_size, default=(480, 640), help="height x width [px]")
    parser.add_argument("--anyway", action="store_true", help="judge cases that were disturbed")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(given)
    try:
        options = BenchOptions(
            backends=tuple(chosen.backends.split(",")),
            precisions=("fp32",),
            shapes=(chosen.size,),
            stages=False,
            null_delay_ms=chosen.delay_ms,
        )
        compare = CompareOptions(anyway=chosen.anyway)
        found = count_verdicts(chosen.bundle, options, chosen.pairs, chosen.planted, compare)
    except GlpnError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(
        json.dumps(found) if chosen.json else "\n".join(f"{name}: {value}" for name, value in found.items())
    )
    kept = found["false_share"] is not None and found["false_share"] <= 0.05
    return 0 if kept and (found["found_share"] or 0.0) >= 0.95 else 1


if __name__ == "__main__":
    sys.exit(main())
