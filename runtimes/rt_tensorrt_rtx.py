"""TensorRT for RTX: an engine that was built elsewhere, finished by its compiler on the card it runs on.

Everything but that last step is `rt_tensorrt`. Not run on a GPU yet: what the calls do is held against the
recorded API of 1.7.1 and the simulated GPU of the tests; building and refusing are tested for real.
"""

from __future__ import annotations

import contextlib
import dataclasses
from pathlib import Path

from glpn_deploy.runtimes.base import Runtime
from glpn_deploy.runtimes.engine.context import EngineContext
from glpn_deploy.runtimes.engine.kernel_cache import KernelCache
from glpn_deploy.runtimes.engine.plan import Plan
from glpn_deploy.runtimes.options import RuntimeOptions
from glpn_deploy.runtimes.rt_tensorrt import TensorRTRuntime
from glpn_deploy.runtimes.rt_tensorrt import load as load_engine


class TensorRTForRTXRuntime(TensorRTRuntime):
    """One engine, whose kernels are compiled when a context is made, and for a new shape at its first run.

    They are compiled for each shape at once rather than in the background, so that what is captured as a
    CUDA graph are the fast ones. With ``options.cache`` they are kept in that folder, by engine, GPU and
    driver, and the next start takes them from there.
    """

    backend = "tensorrt_rtx"
    _kernels: KernelCache | None = None

    def _configured(self, plan: Plan, options: RuntimeOptions, owner: contextlib.ExitStack) -> Plan:
        config = plan.engine.create_runtime_config()
        strategy = self._trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = strategy.EAGER
        allocation = self._trt.ExecutionContextAllocationStrategy
        config.set_execution_context_allocation_strategy(allocation.USER_MANAGED)
        if options.cache is not None:
            engine = self._engine
            self._kernels = KernelCache(options.cache, config, engine.sidecar.sha256, engine.device)
            owner.callback(self._kernels.save)
        return dataclasses.replace(plan, config=config)

    def _context(self, index: int) -> EngineContext:
        made = index not in self._contexts
        context = super()._context(index)
        if made and self._kernels is not None:  # now, since a process may be killed
            self._kernels.save()
        return context


def load(path: Path | None, options: RuntimeOptions) -> Runtime:
    """Loads an ``.engine`` file of ``glpn-build --rtx`` that has its sidecar beside it."""
    return load_engine(path, options, TensorRTForRTXRuntime)
