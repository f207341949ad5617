"""How often glpn-compare is wrong: its verdicts on equal runs, and on runs with a planted slow-down.

    python -m glpn_deploy.benchmarks.claims.aa BUNDLE --pairs 20

Each pair is two runs of `run_sweep` on one bundle and a third, by `SlowWorker`s, whose every call takes
``--planted`` longer.
"""

from __future__ import annotations

import collections
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from glpn_deploy.benchmarks.measuring import worker
from glpn_deploy.benchmarks.measuring.worker_process import WorkerProcess
from glpn_deploy.benchmarks.options import BenchOptions, CompareOptions
from glpn_deploy.benchmarks.report.compare import compare_reports
from glpn_deploy.benchmarks.report.results import Report
from glpn_deploy.benchmarks.sweep import run_sweep
from glpn_deploy.benchmarks.workload.cases import CALIBRATION, Case
from glpn_deploy.cli.app import FAILED, command
from glpn_deploy.cli.console import output, print_json
from glpn_deploy.cli.options import JsonOption
from glpn_deploy.options import Option

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


def passes(found: Mapping[str, Any]) -> bool:
    """Whether at most 1 of 20 verdicts on equal runs was false, and 19 of 20 slow-downs were found."""
    false, right = found["false_share"], found["found_share"]
    return false is not None and right is not None and false <= 0.05 and right >= 0.95


def verdicts(
    bundle: Annotated[Path, Option("Bundle folder.", argument=True)],
    *,
    options: partial[BenchOptions],
    compare: CompareOptions,
    pairs: Annotated[int, Option("Pairs of equal runs.", least=1)] = 20,
    planted: Annotated[float, Option("Slow-down of the third run [share].", least=0)] = 0.05,
    delay_ms: Annotated[float, Option("Of the null backend, which is the default here [ms].")] = 20.0,
    as_json: JsonOption = False,
) -> None:
    """Count what glpn-compare says of equal and of slowed-down runs.

    Exit status: 0 at most one verdict of 20 on equal runs is false and 19 of 20 slow-downs are found, else 1.
    """
    console = output(as_json=as_json)
    typed = {"backends": ("null",), "precisions": ("fp32",), **options.keywords}
    asked = BenchOptions(**typed | {"stages": False, "null_delay_ms": delay_ms})

    def sweep(share: float) -> Report:
        slow = partial(start_slow, share=share) if share else None
        return run_sweep(bundle, asked, slow)

    found = count_verdicts(sweep, pairs, planted, compare)
    if as_json:
        print_json(found)
    for name, value in found.items():
        console.print(f"{name}: {value}", markup=False)
    if not passes(found):
        raise typer.Exit(FAILED)


main = command(verdicts)

if __name__ == "__main__":
    if sys.argv[1:2] == [_SLOW]:
        worker.main(SlowWorker(float(sys.argv[2])))
    else:
        main()
