"""The parts of a network that are raised to a higher precision as one, found by the graph's topology."""

from __future__ import annotations

import posixpath

import onnx

from glpn_deploy.exporters.graph.topology.topology import ENLARGING, Topology

HEAD = "head"
_NORMS = frozenset(
    {
        "BatchNormalization",
        "GroupNormalization",
        "InstanceNormalization",
        "LayerNormalization",
        "RMSNormalization",
    }
)


def scope_of(node_name: str) -> str:
    """The module that a node belongs to: all before the first slash of its name."""
    return node_name.split("/", 1)[0]


def groups(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Every group of the graph with its node names, both in graph order.

    A branch around which a tensor is added again is a group with its sum: a transformer block gives two, its
    attention and its Mix-FFN, each with the normalisation before it. What is left is a chain of products
    with what lies between them; a chain ends where something else reads its tensor, maps are joined,
    or a map is enlarged. What gives the depth is ``head``; the other names are the modules' that the
    products belong to, and mean nothing.
    """
    topology = Topology(model)
    grouping = _Grouping(topology)
    members: dict[int, list[int]] = {}
    for index in range(len(topology.nodes)):
        members.setdefault(grouping.opener(index), []).append(index)
    found: dict[str, list[str]] = {}
    for indices in members.values():
        nodes = [topology.nodes[index] for index in indices]
        base = name = HEAD if topology.producer[topology.outputs[0]] in indices else _name(topology, indices)
        count = 1
        while name in found:
            count += 1
            name = f"{base}_{count}"
        found[name] = [node.name for node in nodes]
    return found


class _Grouping:
    """Gives every node the index of the node that opens its group."""

    def __init__(self, topology: Topology) -> None:
        self.topology = topology
        self._opener: dict[int, int] = {}
        self._closed: set[int] = set()  # openers of branches, which no product behind them joins
        if head := topology.interleaved_head():
            self._opener.update(dict.fromkeys(head, min(head)))
        for _, branch in topology.residual_branches():
            if any(map(topology.is_product, branch)) and self._opener.keys().isdisjoint(branch):
                self._opener.update(dict.fromkeys(branch, branch[0]))
                self._closed.add(branch[0])
        for index in range(len(topology.nodes)):
            if index not in self._opener and (known := self._known(index)):
                self._opener[index] = self._choose(index, known)
            elif index not in self._opener and topology.is_product(index):
                self._opener[index] = index
        for index in reversed(range(len(topology.nodes))):
            if index not in self._opener:  # computed from shapes and the image alone
                users = [i for name in topology.nodes[index].output for i in topology.readers.get(name, ())]
                first = min(users, default=index)
                self._opener[index] = self._opener.get(first, index)

    def opener(self, index: int) -> int:
        """The node that opens a node's group."""
        return self._opener[index]

    def _known(self, index: int) -> list[int]:
        """The nodes before a node whose groups are known."""
        return [source for source in self.topology.sources(index) if source in self._opener]

    def _choose(self, index: int, sources: list[int]) -> int:
        topology, node = self.topology, self.topology.nodes[index]
        before = self._opener[max(sources)]
        norm = node.op_type in _NORMS
        joins = node.op_type == "Concat" and len({self._opener[source] for source in sources}) > 1
        if joins or ((norm or topology.is_product(index)) and self._ends(index, max(sources), norm=norm)):
            return index
        return before

    def _ends(self, index: int, source: int, *, norm: bool) -> bool:
        """Whether the chain ends before a product or a normalisation."""
        topology = self.topology
        opener = self._opener[source]
        name = topology.nodes[index].input[0]
        return (
            opener in self._closed
            or len(topology.readers[name]) > 1
            or topology.nodes[source].op_type in ENLARGING
            or (not norm and topology.nodes[opener].op_type in _NORMS)
        )


def _name(topology: Topology, indices: list[int]) -> str:
    """The innermost module of all the group's products, or that of its first node."""
    products = [index for index in indices if topology.is_product(index)] or indices[:1]
    scopes = [scope_of(topology.nodes[index].name).replace(".", "/") for index in products]
    return (posixpath.commonpath(scopes) or scopes[0]).replace("/", ".").removeprefix("glpn.")
