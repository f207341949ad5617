"""Who makes and who reads what in a graph, and what lies between two of its nodes."""

from __future__ import annotations

from collections.abc import Iterator

import onnx

PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
ENLARGING = frozenset({"ConvTranspose", "DepthToSpace", "Pad", "Resize", "Upsample"})
_SHAPES = frozenset({"Shape", "Size"})


class Topology:
    """A graph by the indices of its nodes, which are in order.

    Attributes:
        nodes: The graph's nodes.
        weights: Names of the stored tensors.
        image: The graph's input.
        outputs: Its outputs.
        producer: Tensor to the node that computes it; the graph's inputs have none.
        readers: Tensor to the nodes that read its numbers.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.nodes = list(model.graph.node)
        self.weights = {tensor.name for tensor in model.graph.initializer}
        self.outputs = [value.name for value in model.graph.output]
        self.image = next(v.name for v in model.graph.input if v.name not in self.weights)
        self.producer: dict[str, int] = {}
        self.readers: dict[str, list[int]] = {}
        self._before: list[int] = []  # of each node: the nodes it is computed from, as bits
        for index, node in enumerate(self.nodes):
            before = 0
            for name in self.values(index):
                self.readers.setdefault(name, []).append(index)
                if name in self.producer:
                    before |= self._before[self.producer[name]] | 1 << self.producer[name]
            self._before.append(before)
            self.producer.update(dict.fromkeys(filter(None, node.output), index))

    def values(self, index: int) -> list[str]:
        """The tensors whose numbers a node reads: none for what asks for a shape."""
        node = self.nodes[index]
        return [] if node.op_type in _SHAPES else list(node.input)

    def sources(self, index: int) -> list[int]:
        """The nodes that compute the numbers a node reads."""
        return [self.producer[name] for name in self.values(index) if name in self.producer]

    def is_before(self, first: int, second: int) -> bool:
        """Whether the second node is computed from the first."""
        return bool(self._before[second] >> first & 1)

    def is_product(self, index: int) -> bool:
        """Whether a node is a product with stored weights."""
        node = self.nodes[index]
        return node.op_type in PRODUCTS and len(node.input) > 1 and node.input[1] in self.weights

    def residual_branches(self) -> Iterator[tuple[int, list[int]]]:
        """Every sum of two computed tensors, one of which comes from the other, and the branch it closes.

        The branch is the nodes between the tensor that is added again and the sum, and the sum itself.
        """
        for index, node in enumerate(self.nodes):
            sources = self.sources(index)
            if node.op_type != "Add" or len(sources) != 2:
                continue
            skipped = min(sources)
            if self.is_before(skipped, max(sources)):
                between = range(skipped + 1, index)
                branch = [i for i in between if self.is_before(skipped, i) and self.is_before(i, index)]
                yield index, [*branch, index]

    def first_products(self) -> set[int]:
        """The products that read the image, or what was made of it without a product."""
        found, wanted = set[int](), [self.image]
        while wanted:
            for index in self.readers.get(wanted.pop(), ()):
                if self.is_product(index):
                    found.add(index)
                else:
                    wanted += self.nodes[index].output
        return found

    def last_products(self) -> set[int]:
        """The products behind which there is none; two convolutions one right after the other are one.

        In a head whose pixels are interleaved, all of them.
        """
        if interleaved := self.interleaved_head():
            return {index for index in interleaved if self.is_product(index)}
        return self._last_products()

    def _last_products(self) -> set[int]:
        found, wanted = set[int](), list(self.outputs)
        while wanted:
            index = self.producer.get(wanted.pop())
            if index is None:
                continue
            if self.is_product(index):
                found.add(index)
            else:
                wanted += self.values(index)
        for index in tuple(found):
            name = self.nodes[index].input[0]
            source = self.producer.get(name)
            if source is not None and self.nodes[source].op_type == self.nodes[index].op_type == "Conv":
                found |= {source} if len(self.readers[name]) == 1 else set()
        return found

    def head(self) -> set[int]:
        """What turns the last map of the decoder into depth: all behind the last larger map with a product.

        Where no map is larger, the last products and what is behind them.
        """
        found: set[tuple[int, bool]] = set()
        wanted = [(self.producer[name], False) for name in self.outputs if name in self.producer]
        while wanted:
            index, crossed = wanted.pop()
            node = self.nodes[index]
            if (index, crossed) in found or (crossed and node.op_type in ENLARGING):
                continue
            found.add((index, crossed))
            crossed |= self.is_product(index)
            wanted += [(source, crossed) for source in self.sources(index)]
        indices = {index for index, _ in found}
        if indices & self.first_products():
            last = self._last_products()
            return {i for i in indices if i in last or any(self.is_before(product, i) for product in last)}
        return indices

    def interleaved_head(self) -> set[int]:
        """The head, where its pixels are channels that DepthToSpace lays side by side; else nothing."""
        head = self.head()
        return head if any(self.nodes[index].op_type == "DepthToSpace" for index in head) else set()
