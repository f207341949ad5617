"""The report of a benchmark: what is in its JSON, written and read back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from glpn_deploy.atomic import atomic_path
from glpn_deploy.benchmarks.measuring.latency_stats import Drift, Latency, Ratio
from glpn_deploy.benchmarks.workload.cases import CaseId, NotRun
from glpn_deploy.decoding import Document, Valid, count
from glpn_deploy.errors import InputError
from glpn_deploy.reading import read_bytes

FORMAT, FORMAT_VERSION = "glpn-deploy-bench", 2
_FIX = "run glpn-bench again"
# Longer than eleven days is damage; ratios of the rest are finite.
_ABOVE_0 = Valid("times above 0 ms, below 1e9", lambda samples: all(0 < ms < 1e9 for ms in samples))
WarmUp = dict[int, Annotated[list[float], _ABOVE_0]]
"""Milliseconds by round; the number of a round is the same for all cases of a report."""
Samples = dict[int, Annotated[list[float], _ABOVE_0, count(1, 10**9)]]
"""The same, with at least one in each round."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One case as measured.

    Attributes:
        backend: Backend, or what tells an engine or a variant of it from others.
        precision: Precision.
        batch: Images a run.
        height: Height of the image [px].
        width: Width of the image [px].
        network_size: Height and width of the network's input [px].
        device: What it ran on.
        latency: Of a run, a batch being one run.
        images_per_s: Images a second at the median.
        stable: Whether the figures can be believed.
        reasons: Why not, in words by kind, see `glpn_deploy.benchmarks.report.stability`.
        samples: Every run that counts [ms].
        warm_up: Every run that does not [ms]; round -1 is what was run before the first.
        cold_start: ``process_s``, ``load_s``, ``first_call_s``: from nothing to the first depth [s].
        peak_memory_mib: Most host memory of the process, Python and the backend included [MiB].
        device_memory_mib: Its GPU memory after the last round [MiB], or None.
        energy_j: Energy an image [J], or None where the machine does not tell.
        stages: Median of each stage of a run [ms], from file to depth at the image's size; empty if left out.
        operators: Time of a run by type of operator [ms], of one more run, where the backend tells it.
        error: Errors against the reference's depth, see `glpn_deploy.depth.error_stats.ErrorStats`, or None.
        accuracy: Metrics on a data set, or None.
        disk_bytes: Size of the artefact or checkpoint, or None.
        speedup: Times as fast as the baseline at the same shape, round by round; None without a baseline.
        gflops: Arithmetic of one image [10^9 operations], or None.
        product_share: Arithmetic rate as a share of a matrix product's: of an FP16 one for rows below FP32
            on a GPU, else of an FP32 one, and then it may pass 1 below FP32.
        drift: Trend over rounds.
        others: Cores that other processes took on average.
        stolen: Cores that the hypervisor took on average.
        runtime: What the runtime said of itself after its runs, or None.
    """

    backend: str
    precision: str
    batch: int
    height: int
    width: int
    network_size: tuple[int, int]
    device: str
    latency: Latency
    images_per_s: float
    stable: bool
    reasons: dict[str, str]
    samples: Annotated[Samples, count(1, 10**9)]
    warm_up: WarmUp
    cold_start: dict[str, float]
    peak_memory_mib: float | None = None
    device_memory_mib: float | None = None
    energy_j: float | None = None
    stages: dict[str, float] = dataclasses.field(default_factory=dict)
    operators: dict[str, float] = dataclasses.field(default_factory=dict)
    error: dict[str, Any] | None = None
    accuracy: dict[str, Any] | None = None
    disk_bytes: int | None = None
    speedup: Ratio | None = None
    gflops: float | None = None
    product_share: float | None = None
    drift: Drift = Drift(0.0, 1.0)  # noqa: RUF009 - frozen
    others: float = 0.0
    stolen: float = 0.0
    runtime: dict[str, Any] | None = None

    @property
    def shape(self) -> str:
        """``1x480x640``: batch, height, width."""
        return f"{self.batch}x{self.height}x{self.width}"

    @property
    def id(self) -> CaseId:
        """Backend, precision and shape."""
        return CaseId(self.backend, self.precision, (self.batch, self.height, self.width))

    @property
    def key(self) -> str:
        """The same as text: ``onnxruntime fp32 1x480x640``."""
        return str(self.id)


def fastest_first(rows: Iterable[Row]) -> list[Row]:
    """Rows of one shape by their times in units of the baseline's in the same rounds, else by medians."""
    found = list(rows)
    in_turns = [1 / row.speedup.value for row in found if row.speedup is not None]
    times = in_turns if len(in_turns) == len(found) else [row.latency.median_ms for row in found]
    return [row for _, row in sorted(zip(times, found, strict=True), key=lambda pair: pair[0])]


@dataclasses.dataclass(frozen=True)
class Headline:
    """What one shape comes to.

    Attributes:
        shape: As `Row.shape`.
        words: A sentence.
        fastest: Backend and precision that are surely the fastest within their error budget, or None.
    """

    shape: str
    words: str
    fastest: str | None = None

    def __str__(self) -> str:
        return f"{self.shape}: {self.words}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """A whole benchmark.

    Attributes:
        source: Name of the ``bundle`` and its ``manifest_sha256``, digest of its ``checkpoint``, names of the
            ``images`` and ``images_sha256``.
        created: When, ISO 8601.
        machine: What must be the same for two reports to be compared.
        state: The machine's state ``before`` and ``after``.
        versions: Of Python and the packages.
        settings: The options as used.
        rows: What was measured.
        not_run: What was not, with reasons.
        calibration: The matrix product that ran in every round [ms].
        ceilings: ``product_gflops_per_s``, ``half_gflops_per_s``, ``by``, ``device`` and ``flops_by``.
        harness: ``overhead_ms`` of the timing loop and its ``share_of_shortest`` case.
        baseline: Backend and precision that ratios refer to, or None.
        reference: What errors refer to, or None.
        headlines: One a shape; says why where there is none.
        load: For each case ``key`` and ``callers``: what several threads got of it, see
            `glpn_deploy.benchmarks.measuring.load`.
        interrupted: Whether Ctrl-C ended it; what was not complete is in ``not_run``.
        seconds: How long it took [s].
    """

    source: dict[str, Any]
    created: str
    machine: dict[str, Any]
    state: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any]
    rows: tuple[Row, ...]
    not_run: tuple[NotRun, ...]
    calibration: Samples
    ceilings: dict[str, Any]
    harness: dict[str, Any]
    baseline: str | None = None
    reference: str | None = None
    headlines: tuple[Headline, ...] = ()
    load: tuple[dict[str, Any], ...] = ()
    interrupted: bool = False
    seconds: float = 0.0

    @property
    def answers(self) -> list[str]:
        """The headlines; where there is one shape, without it."""
        return [one.words if len(self.headlines) == 1 else str(one) for one in self.headlines]

    def ordered(self) -> list[Row]:
        """The rows, shape by shape, the fastest first."""
        shapes = dict.fromkeys(row.shape for row in self.rows)
        return [row for shape in shapes for row in fastest_first(r for r in self.rows if r.shape == shape)]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            **dataclasses.asdict(self),
            "rows": [{"key": row.key, **dataclasses.asdict(row)} for row in self.rows],
            "not_run": [{"name": item.name, **dataclasses.asdict(item)} for item in self.not_run],
        }

    def write(self, path: Path) -> Path:
        """Writes the JSON.

        Raises:
            WriteError: The file cannot be written.
        """
        with atomic_path(path) as temporary:
            temporary.write_text(
                json.dumps(rounded(self.to_dict()), allow_nan=False) + "\n", encoding="utf-8"
            )
        return path

    @classmethod
    def read(cls, path: Path) -> Report:
        """Reads a report's file, or that of a folder that glpn-bench wrote.

        Raises:
            InputError: There is none, or it is not a report that can be read.
        """
        path = path / "report.json" if path.is_dir() else path
        try:
            text = read_bytes(path)
        except OSError as error:
            raise InputError(
                f"{path} cannot be read ({error.strerror})",
                expected="report.json of glpn-bench, or its folder",
            ) from None
        return _DOCUMENT.read(text, str(path), _FIX)


def _upgrade(values: dict[str, Any]) -> dict[str, Any]:
    """Format version 1 knew cases by names only, and headlines as sentences."""
    not_run, headlines = values.get("not_run"), values.get("headlines")
    if values["format_version"] > 1 or not isinstance(not_run, list) or not isinstance(headlines, list):
        return values
    named = [{**item, "case": {"backend": item.get("name")}} for item in not_run if isinstance(item, dict)]
    split = [line.partition(": ") for line in headlines if isinstance(line, str)]
    told = [{"shape": shape, "words": words} for shape, _, words in split]
    return {**values, "not_run": named, "headlines": told}


_DOCUMENT = Document(
    into=Report,
    what="a benchmark report",
    name=FORMAT,
    version=FORMAT_VERSION,
    error=InputError,
    upgrade=_upgrade,
)


def rounded(value: Any) -> Any:
    """Floats with six significant digits, which keeps raw samples to the nanosecond where that matters."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {str(name): rounded(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(entry) for entry in value]
    return value
