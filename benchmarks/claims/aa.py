"""Does the benchmark keep its word? Equal runs are to be no different, a planted slow-down is to be found.

    python -m glpn_deploy.benchmarks.claims.aa BUNDLE --pairs 20

Each pair is two runs of `run_sweep` on one bundle and a third, by `SlowWorker`s, whose every call takes
``--planted`` longer.
"""

from __future__ import annotations

import argparse
import collections
import functools
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from glpn_deploy.benchmarks.measuring import worker
from glpn_deploy.benchmarks.measuring.worker_process import WorkerProcess
from glpn_deploy.benchmarks.options import BenchOptions
from glpn_deploy.benchmarks.report.compare import CompareOptions, compare_reports
from glpn_deploy.benchmarks.report.results import Report
from glpn_deploy.benchmarks.sweep import run_sweep
from glpn_deploy.benchmarks.workload.cases import CALIBRATION, Case
from glpn_deploy.errors import GlpnError

_SLOW = "--slow-worker"


class SlowWorker(worker.Worker):
    """A worker whose calls take a share longer, by waiting as long after each."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self._share = share

    def _load(self, case: dict[str, Any]) -> dict[str, Any]:
        answer = super()._load(case)
        call = self._workload.call

        def slow(turn: int) -> None:
            begin = time.perf_counter()
            call(turn)
            end = begin + (time.perf_counter() - begin) * (1 + self._share)
            while time.perf_counter() < end:  # a sleep would come back when the system likes
                pass

        self._workload.call = slow
        return answer


def start_slow(case: Case, share: float) -> WorkerProcess:
    """A process for a case whose calls take a share longer; the machine's own speed stays what it is."""
    if case.backend == CALIBRATION:
        return WorkerProcess()
    return WorkerProcess(program=("glpn_deploy.benchmarks.claims.aa", _SLOW, str(share)))


def count_verdicts(
    sweep: Callable[[float], Report], pairs: int, planted: float, compare: CompareOptions
) -> dict[str, Any]:
    """Runs the pairs and counts what `compare_reports` says of them.

    Args:
        sweep: Measures everything, with calls that take a share longer.
        pairs: How many.
        planted: The slow-down of the third run, a share of each call.
        compare: The margin, and whether disturbed cases are judged.

    Returns:
        ``equal`` and ``planted``: verdicts over cases, counted, and ``ratios`` of times; ``false_share`` and
        ``found_share`` are of the cases that were judged, None where none was.
    """
    shares = {"equal": 0.0, "planted": planted}
    counts = {kind: collections.Counter[str]() for kind in shares}
    ratios: dict[str, list[float]] = {kind: [] for kind in shares}
    for number in range(pairs):
        first = sweep(0.0)
        for kind, share in shares.items():
            found = compare_reports(first, sweep(share), compare)
            counts[kind].update(case.verdict for case in found.cases)
            ratios[kind] += [round(case.ratio.value, 4) for case in found.cases if case.ratio]
        words = "; ".join(f"{kind} {dict(count)}" for kind, count in counts.items())
        print(f"pair {number + 1}: {words}", file=sys.stderr, flush=True)
    judged = {kind: count.total() - count["not judged"] for kind, count in counts.items()}
    wrong = counts["equal"]["faster"] + counts["equal"]["slower"]
    return {
        "pairs": pairs,
        **{kind: {**counts[kind], "ratios": ratios[kind]} for kind in shares},
        "false_share": wrong / judged["equal"] if judged["equal"] else None,
        "found_share": counts["planted"]["slower"] / judged["planted"] if judged["planted"] else None,
    }


def kept(found: Mapping[str, Any]) -> bool:
    """Whether at most 1 of 20 verdicts on equal runs was false, and 19 of 20 slow-downs were found."""
    false, right = found["false_share"], found["found_share"]
    return false is not None and right is not None and false <= 0.05 and right >= 0.95


def _size(text: str) -> tuple[int, int]:
    height, width = map(int, text.split("x"))
    return height, width


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0 where the word is `kept`, else 1."""
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
    parser.add_argument("--force", action="store_true", help="judge cases that were disturbed")
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

        def sweep(share: float) -> Report:
            slow = functools.partial(start_slow, share=share) if share else None
            return run_sweep(chosen.bundle, options, slow)

        found = count_verdicts(sweep, chosen.pairs, chosen.planted, CompareOptions(force=chosen.force))
    except GlpnError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(
        json.dumps(found) if chosen.json else "\n".join(f"{name}: {value}" for name, value in found.items())
    )
    return 0 if kept(found) else 1


if __name__ == "__main__":
    sys.exit(main())
