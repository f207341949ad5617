"""The plain tensor operators that an ONNX file may hold, each with the fewest and most inputs it takes.

They are what torch.onnx writes for such networks (with and without dynamo), what ONNX Runtime's quantization
tools and its optimiser make of those, and their near kin: nothing that loops, nests, calls out, holds text or
a sequence. The figures span all opsets of onnx 1.23 and onnxruntime 1.32; tests hold them against both.
"""

from __future__ import annotations

Arity = tuple[int, int]
_ANY = 4096  # inputs of Concat, Sum and their like: beyond any network

_ONNX: dict[Arity, str] = {
    (0, 0): "Constant",
    (1, 1): """Abs ArgMax ArgMin Atan AveragePool BitwiseNot Cast Ceil Celu ConstantOfShape Cos Cosh
        DepthToSpace DynamicQuantizeLinear Elu Erf Exp Flatten Floor Gelu GlobalAveragePool GlobalMaxPool
        HardSigmoid HardSwish Hardmax Identity IsInf IsNaN LRN LeakyRelu Log LogSoftmax LpNormalization
        MaxPool MeanVarianceNormalization Mish Neg NonZero Not RandomNormalLike RandomUniformLike Reciprocal
        Relu Round Selu Shape Shrink Sigmoid Sign Sin Sinh Size Softmax Softplus Softsign SpaceToDepth Sqrt
        Swish Tan Tanh ThresholdedRelu Transpose""",
    (1, 2): """ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
        ReduceSum ReduceSumSquare Split Squeeze TopK Trilu Unsqueeze Upsample""",
    (1, 3): "Clip Dropout",
    (1, 4): "Pad Resize",
    (1, 5): "Slice",
    (1, _ANY): "Concat Einsum Max Mean Min Sum",
    (2, 2): """Add And BitShift BitwiseAnd BitwiseOr BitwiseXor CastLike CumSum Div Equal Expand Gather
        GatherElements GatherND Greater GreaterOrEqual GridSample Less LessOrEqual MatMul Mod Mul Or PRelu Pow
        RMSNormalization Reshape SimplifiedLayerNormalization Sub Tile Xor""",
    (2, 3): "Conv ConvTranspose DequantizeLinear Gemm LayerNormalization QuantizeLinear",
    (2, 4): "ConvInteger MatMulInteger",
    (3, 3): """GroupNormalization InstanceNormalization OneHot Range ScatterElements ScatterND
        Where""",
    (3, 7): "Attention",
    (5, 5): "BatchNormalization",
    (8, 8): "QLinearMatMul",
    (8, 9): "QLinearConv",
}
_MICROSOFT: dict[Arity, str] = {
    (1, 1): "Gelu NhwcMaxPool QuickGelu",
    (1, 2): "FastGelu",
    (1, 10): "MultiHeadAttention",
    (2, 2): "BiasGelu FusedMatMul",
    (2, 3): "DequantizeLinear FusedGemm NhwcConv QuantizeLinear",
    (2, 4): "FusedConv NhwcFusedConv",
    (2, 7): "Attention",
    (3, 3): "BiasAdd",
    (3, 4): "SkipSimplifiedLayerNormalization",
    (3, 5): "DynamicQuantizeMatMul SkipLayerNormalization",
    (3, 6): "MatMulNBits",
    (3, _ANY): "QLinearConcat",
    (4, 5): "QLinearAveragePool QLinearLeakyRelu QLinearReduceMean QLinearSigmoid",
    (4, 7): "MatMulIntegerToFloat",
    (5, 5): "QLinearGlobalAveragePool QLinearSoftmax",
    (5, 9): "QAttention",
    (6, 9): "QGemm",
    (7, 8): "QLinearAdd QLinearMul",
    (8, 9): "QLinearConv",
    (9, 9): "QLinearWhere",
}


def _by_name(table: dict[Arity, str]) -> dict[str, Arity]:
    return {name: arity for arity, names in table.items() for name in names.split()}


OPERATORS: dict[str, dict[str, Arity]] = {
    "": _by_name(_ONNX),
    "ai.onnx": _by_name(_ONNX),
    "com.microsoft": _by_name(_MICROSOFT),
}
"""Fewest and most inputs by domain and operator; the first ones must be there."""
