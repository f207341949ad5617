"""glpn-verify: is this bundle whole, and does every artefact give the reference's depth on this machine?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from glpn_deploy.cli.app import command
from glpn_deploy.cli.options import JsonOption, VerboseOption
from glpn_deploy.options import Option
from glpn_deploy.proof.options import VerifyOptions


def verify(
    bundle: Annotated[
        Path,
        Option(
            "Bundle folder, or model repository of glpn-serve; with --reference also any .onnx file.",
            argument=True,
        ),
    ],
    options: VerifyOptions,
    error_map: Annotated[
        Path | None, Option("PNG to draw the worst image in: input, reference, candidate, error.")
    ] = None,
    verbose: VerboseOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check a bundle's digests, and the depth of every artefact against the reference.

    Without --reference the bundle's own goldens are used: inputs and PyTorch's outputs that travel
    with it, so that any machine can verify without torch. Artefacts of lower precision are also held
    against the fp32 one over the shape sweep, each batch within the budget it was exported with (else
    AbsRel 0.001 fp16, 0.01 bf16, 0.02 int8, 0.05 fp8). On a CPU, 16-bit graphs run emulated, which
    needs onnx. TensorRT engines in the bundle are held against their sidecars, and run at the corners
    of their profiles where they were built for this GPU and this TensorRT; without ONNX Runtime, as on
    a Jetson, the engines alone are run. Exit status: 0 the depth is the reference's as far as this
    machine can tell (a warning names what it cannot), 1 it is not or an engine is damaged, 2 wrong use,
    a damaged bundle, or neither ONNX Runtime nor an engine that fits.

    An .onnx file of other software (or the folder that Optimum wrote) is held against the checkpoint
    of --reference, at the sizes and batches that it takes. Of a Triton model repository of glpn-serve
    the digests are checked, and that no file was added.

    Example: glpn-verify glpn-nyu --reference vinvino02/glpn-nyu
    """
    from glpn_deploy.cli.working.verify import run

    run(bundle, options, error_map, verbose=verbose, as_json=as_json)


main = command(verify)

if __name__ == "__main__":
    main()
