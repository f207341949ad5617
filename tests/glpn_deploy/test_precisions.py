"""The table of precisions: whole, and the one that everything else derives from."""

from __future__ import annotations

import onnx

from glpn_deploy.exporters.options import MAX_OPSET, MIN_OPSET
from glpn_deploy.exporters.search import recipes
from glpn_deploy.precisions import (
    HALF_PRECISIONS,
    LOWER_PRECISIONS,
    PRECISION_INFO,
    PRECISIONS,
    QUANTIZED_PRECISIONS,
)


def test_every_precision_has_its_entry():
    assert tuple(PRECISION_INFO) == PRECISIONS
    assert PRECISIONS[1:] == LOWER_PRECISIONS


def test_every_lower_precision_has_budgets_and_a_recipe():
    assert {*HALF_PRECISIONS, *QUANTIZED_PRECISIONS} == {*LOWER_PRECISIONS}
    assert recipes._QUANTIZERS.keys() == {*QUANTIZED_PRECISIONS}
    for name in LOWER_PRECISIONS:
        info = PRECISION_INFO[name]
        assert 0 < info.max_abs_rel < 0.1
        assert 0 < info.max_delta1_drop < 0.1
        assert info.fallback in HALF_PRECISIONS


def test_onnx_knows_the_types_and_can_write_them_at_the_least_opset():
    for info in PRECISION_INFO.values():
        assert MIN_OPSET <= info.least_opset <= MAX_OPSET
        assert {*info.onnx_types} <= {*onnx.TensorProto.DataType.keys()}
    for precision, operator in (("bf16", "Conv"), ("fp8", "QuantizeLinear")):
        kind = f"tensor({PRECISION_INFO[precision].onnx_types[0].lower()})"
        least = PRECISION_INFO[precision].least_opset
        for opset, taken in ((least - 1, False), (least, True)):
            schema = onnx.defs.get_schema(operator, opset)
            types = {name for constraint in schema.type_constraints for name in constraint.allowed_type_strs}
            assert (kind in types) is taken
