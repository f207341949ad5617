"""One execution context of an engine: a profile, its shape, and the CUDA graph of its work."""

from __future__ import annotations

import contextlib
from typing import Any

from glpn_deploy.bundle.engine_profile import Shape, spell
from glpn_deploy.errors import BackendError, GlpnError
from glpn_deploy.runtimes.base import InputSpec
from glpn_deploy.runtimes.engine.cuda_memory import CapturedGraph, Channel, Cuda
from glpn_deploy.runtimes.engine.plan import Plan, reason


class EngineContext:
    """Runs an engine within one profile.

    A graph belongs to the shape it was captured with, and NVIDIA leaves open what it does once the context
    has been given another one. So there is one at a time, of the present shape, captured when that shape
    comes the second time in a row: a stream of ever-changing sizes captures none.

    Args:
        channels: Memory of input and output, which stays where it is.
        scratch: Address and size [bytes] of memory for activations. Contexts that never run at the same time
            share it: nothing in it outlives a run.

    Attributes:
        shape: Images, height and width that it is set to, or None.
        graph_note: What became of the graph, in words.
    """

    def __init__(
        self,
        cuda: Cuda,
        trt: Any,
        plan: Plan,
        index: int,
        stream: int,
        channels: tuple[Channel, Channel],
        scratch: tuple[int, int],
    ) -> None:
        self._cuda, self._trt, self._plan, self._stream = cuda, trt, plan, stream
        self.profile = plan.profiles[index]
        self.shape: Shape | None = None
        self.graph_note = "none yet: captured when a shape comes twice in a row"
        self._output: tuple[int, ...] = ()
        self._runs, self._refused = 0, False
        self._graph: CapturedGraph | None = None
        reason(trt)
        strategies = getattr(trt, "ExecutionContextAllocationStrategy", None)  # from 10 on
        self._context: Any = (
            plan.engine.create_execution_context_without_device_memory()
            if strategies is None
            else plan.engine.create_execution_context(plan.config or strategies.USER_MANAGED)
        )
        if self._context is None:
            raise BackendError(
                f"TensorRT has no room for the profile {self.profile.name}{reason(trt)}",
                fix="close other programs that use the GPU, or build an engine of smaller shapes",
            )
        self._check(self._context.set_optimization_profile_async(index, stream), "take the profile")
        cuda.synchronize(stream)  # the profile is copied on the stream
        for tensor, channel in zip((plan.source, plan.target), channels, strict=True):
            address = channel.address
            self._check(self._context.set_tensor_address(tensor.name, address), "take an address")
        if hasattr(self._context, "set_device_memory"):
            self._context.set_device_memory(*scratch)
        else:  # 8.6
            self._context.device_memory = scratch[0]

    def set_shape(self, shape: Shape) -> tuple[int, ...]:
        """Prepares for a shape and returns that of the output, as the engine says it."""
        if shape != self.shape:
            self._drop_graph("none yet: captured when a shape comes twice in a row")
            self.shape, self._refused, self._runs = None, False, 0
            given = InputSpec(dtype=self._plan.source.taken).tensor_shape(shape)
            self._check(self._context.set_input_shape(self._plan.source.name, given), f"take {spell(shape)}")
            output = tuple(int(n) for n in self._context.get_tensor_shape(self._plan.target.name))
            if output != shape:
                raise BackendError(
                    f"the engine gives depth of shape {output} for images of shape {given}",
                    expected=f"{shape}",
                    fix="build it again from its bundle with glpn-build",
                )
            self.shape, self._output = shape, output
        return self._output

    def enqueue(self, graph: bool) -> bool:
        """Puts one run on the stream, as a graph where there is one and it may; whether it was one."""
        if graph and self._graph is not None:
            self._graph.launch()
            return True
        self._execute()
        self._runs += 1
        return False

    @property
    def wants_graph(self) -> bool:
        """Whether the runs so far are worth a graph."""
        return self._graph is None and not self._refused and self._runs >= 2

    def capture(self) -> bool:
        """Captures the graph of the present shape; whether it worked, else `graph_note` says why not."""
        try:
            self._graph = CapturedGraph(self._cuda, self._stream, self._execute)
        except GlpnError as error:
            self.refuse_graph(f"could not be captured: {error.got}")
            return False
        self.graph_note = "replayed"
        return True

    def refuse_graph(self, why: str) -> None:
        """Drops the graph for as long as the shape stays."""
        self._drop_graph(why)
        self._refused = True

    def close(self) -> None:
        """Frees the graph and the context."""
        self._drop_graph("closed")
        self._context = None

    def _execute(self) -> None:
        self._check(self._context.execute_async_v3(self._stream), "run")

    def _drop_graph(self, note: str) -> None:
        self.graph_note = note
        if self._graph is not None:
            with contextlib.suppress(GlpnError):
                self._cuda.synchronize(self._stream)
            self._graph.close()
            self._graph = None

    def _check(self, done: bool, what: str) -> None:
        if not done:
            raise BackendError(
                f"TensorRT does not {what} in the profile {self.profile.name}{reason(self._trt)}",
                fix="try a smaller batch or image; glpn-verify tells whether the engine is sound",
            )
