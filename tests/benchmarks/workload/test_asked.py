"""What a benchmark is asked for by name has a row, or is refused."""

from __future__ import annotations

import pytest

from glpn_deploy.benchmarks.options import BenchOptions
from glpn_deploy.benchmarks.workload.asked import require_asked
from glpn_deploy.benchmarks.workload.cases import CaseId, NotRun
from glpn_deploy.errors import UnavailableError

HAVE = [CaseId("onnxruntime", "fp32", (1, 32, 32)), CaseId("tensorrt@other", "fp16")]
NOT_RUN = [NotRun(CaseId("openvino", "bf16"), "no bf16 here.")]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"backends": ("onnxruntime", "tensorrt"), "precisions": ("fp32", "fp16")},
        {"backends": ("torch",), "allow_fallback": True},
    ],
)
def test_what_has_a_row(asked) -> None:
    require_asked(BenchOptions(**asked), HAVE, NOT_RUN)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"precisions": ("fp32", "bf16")}, "no bf16 here"),
        ({"backends": ("openvino",)}, "no bf16 here"),
        ({"precisions": ("int8",)}, "no artefact or backend has it"),
    ],
)
def test_what_has_none(asked, reason) -> None:
    with pytest.raises(UnavailableError) as caught:
        require_asked(BenchOptions(**asked), HAVE, NOT_RUN)
    assert caught.value.got.endswith(reason)
    assert caught.value.exit_code == 2
