"""Damages and rewrites files: bytes, JSON, PyTorch's archives, .npy headers and ONNX graphs."""

from __future__ import annotations

import io
import json
import os
import random
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

WHOLE = (
    -1,
    0,
    1,
    2,
    3,
    255,
    4096,
    65_536,
    10**9,
    2**31 - 1,
    2**31,
    2**32,
    2**53,
    2**63 - 1,
    -(2**63),
    10**400,
)
REAL = (0.0, -0.0, 1e-300, 1e300, -1.5, float("nan"), float("inf"), float("-inf"))
TEXTS = (
    "",
    "a",
    "[/b]",
    "\x1b[2J",
    "\x00",
    "../x",
    "/etc/hostname",
    "é\u202e",
    "\ud800",
    "x" * 300,
    "y" * 70_000,
)
_CHUNKS = (b"PLTE", b"tRNS", b"zTXt", b"iCCP", b"eXIf", b"acTL", b"fdAT", b"gAMA", b"tEXt")
_ATTRIBUTES = (
    *("axis", "pads", "strides", "perm", "to", "keepdims", "group", "kernel_shape"),
    *("mode", "auto_pad", "num_outputs", "epsilon", "axes", "equation", "direction"),
)


def of_json(rng: random.Random) -> Any:
    """A value that may stand where another was expected."""
    kind = rng.randrange(8)
    if kind == 0:
        return rng.choice(WHOLE)
    if kind == 1:
        return rng.choice(REAL)
    if kind == 2:
        return rng.choice(TEXTS)
    if kind == 3:
        return [of_json(rng) for _ in range(rng.randrange(4))]
    if kind == 4:
        return {rng.choice(TEXTS): of_json(rng) for _ in range(rng.randrange(3))}
    if kind == 5:
        deep: Any = 1
        for _ in range(rng.choice((10, 500, 20_000))):
            deep = [deep]
        return deep
    return rng.choice((None, True, False))


def mutate(path: Path, rng: random.Random) -> None:
    """Changes a file in place, by what its name says it is."""
    if rng.random() < 0.06:
        replace(path, rng)
        return
    content = path.read_bytes()
    ways = {
        ".json": rewrite_json,
        ".pt": rewrite_archive,
        ".bin": rewrite_archive,
        ".npy": rewrite_npy,
        ".png": rewrite_png,
        ".onnx": rewrite_onnx,
        ".txt": rewrite_text,
    }
    structured = ways.get(path.suffix)
    if structured is not None and rng.random() < 0.75:
        path.write_bytes(structured(content, rng))
    else:
        path.write_bytes(damage(content, rng))


def replace(path: Path, rng: random.Random) -> None:
    """Puts something else in the file's place."""
    path.unlink()
    kind = rng.randrange(8)
    if kind == 0:
        os.mkfifo(path)
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        with path.open("wb") as file:
            file.truncate(rng.choice((3 << 30, 1 << 40)))
    elif kind == 3:
        path.symlink_to("/dev/zero")
    elif kind == 4:
        path.symlink_to(path.name)
    elif kind == 5:
        path.write_bytes(b"")
    elif kind == 6:
        path.write_bytes(
            rng.choice((b"PK\x03\x04", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\x93NUMPY", b"\x80\x04."))
        )


def damage(content: bytes, rng: random.Random) -> bytes:
    """Flips, cuts, repeats and inserts bytes, more of them near the start, where headers are."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(data) + 1) if rng.random() < 0.5 else rng.randrange(min(len(data), 400) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            del data[at : at + rng.choice((1, 2, 8, 100, 10_000))]
        elif kind == 1:
            data[at:at] = rng.randbytes(rng.choice((1, 4, 50)))
        elif kind == 2:
            data[at : at + 8] = struct.pack("<q", rng.choice(WHOLE[:-1]) % (1 << 62))
        elif kind == 3:
            data[at:at] = data[max(0, at - 64) : at]
        elif kind == 4 and rng.random() < 0.3:
            del data[at:]
        elif at < len(data):
            data[at] = rng.choice((0, 255, 127, 128, data[at] ^ (1 << rng.randrange(8))))
    return bytes(data)


def rewrite_json(content: bytes, rng: random.Random) -> bytes:
    """Replaces, removes and adds values anywhere in a document."""
    document = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        places: list[tuple[Any, Any]] = []
        _places(document, places)
        if not places:
            break
        holder, key = rng.choice(places)
        kind = rng.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice(TEXTS)] = holder[key]
        elif kind == 2 and isinstance(holder, list):
            holder.extend([holder[key]] * rng.choice((1, 2, 20_000)))
        elif kind == 3 and type(holder[key]) in (int, float):
            holder[key] = rng.choice(WHOLE + REAL)
        elif kind == 4 and isinstance(holder[key], str):
            holder[key] = rng.choice((*TEXTS, holder[key] + "\x1b[31m", holder[key].upper()))
        else:
            holder[key] = of_json(rng)
    try:
        text = json.dumps(document)
    except (RecursionError, ValueError):
        return b"[" * 100_000 + b"]" * 100_000
    if rng.random() < 0.1:
        text = text.replace("1", "1e999", 1) if rng.random() < 0.5 else "\ufeff" + text
    return text.encode()


def _places(value: Any, found: list[tuple[Any, Any]], depth: int = 0) -> None:
    if depth < 20 and len(found) < 5000:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            found.append((value, key))
            _places(value[key], found, depth + 1)


def rewrite_archive(content: bytes, rng: random.Random) -> bytes:
    """Changes members of torch's zip, whose checksums stay right; the pickle most of all."""
    if not zipfile.is_zipfile(io.BytesIO(content)):
        return damage(content, rng)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    name = rng.choice([name for name in members if name.endswith("data.pkl")] * 3 + list(members))
    data = bytearray(members[name])
    for _ in range(rng.choice((1, 1, 2, 4))):
        at = rng.randrange(max(len(data), 1))
        if rng.random() < 0.2:
            del data[at : at + rng.choice((1, 3, 40))]
        elif rng.random() < 0.5 and at < len(data):
            data[at] = rng.choice((data[at] ^ (1 << rng.randrange(8)), 0, 255, *b"().0KMJX}q]t\x85\x86\x87R"))
        else:
            data[at:at] = rng.choice(
                (b"K\x03", b"(", b"t", b"N", b"}", b"0", b"J\xff\xff\xff\x7f", b"R", b".")
            )
    members[name] = bytes(data)
    if rng.random() < 0.1:
        del members[rng.choice(list(members))]
    out = io.BytesIO()
    packed = rng.random() < 0.1
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, value in members.items():
            archive.writestr(name, value)
    return out.getvalue()


def rewrite_npy(content: bytes, rng: random.Random) -> bytes:
    """Another header before the same values."""
    descr = rng.choice(
        (
            "'<f4'",
            "'<f8'",
            "'|O'",
            "'<f2'",
            "'>f4'",
            "'<U9'",
            "'<i4'",
            "[('a', '<f4')]",
            "'<c8'",
            "'<M8[s]'",
            "'<V0'",
            "('<f4', (2**40,))",
            "3",
            "'<f4', 'x'",
            "lambda: 0",
        )
    )
    shape = rng.choice(
        (
            "(4, 4)",
            "(2**40, 4)",
            "(-1, 4)",
            "(10**30, 10**30)",
            "()",
            "(0, 0)",
            "(1.5, 2)",
            "4",
            "(4, 4, 1)",
            "(1, 16)",
            "('a', 4)",
            "(True, 16)",
            f"({'1, ' * 40})",
            "(2147483647, 2)",
        )
    )
    order = rng.choice(("False", "True", "2", "'x'"))
    header = rng.choice((
        f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}",
        f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}",
        f"{{'descr': {descr}, 'shape': {shape}}}",
        "(" * 90 + ")" * 90,
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4)}" + " " * 20_000,
        "\x00\x1b[2J",
        "[" * 9000,
    )).encode("latin1") + b"\n"  # fmt: skip
    version = rng.choice((1, 1, 1, 2, 3, 9))
    size = struct.pack("<H", len(header) & 0xFFFF) if version == 1 else struct.pack("<I", len(header))
    if rng.random() < 0.1:
        size = b"\xff" * len(size)
    return b"\x93NUMPY" + bytes((version, 0)) + size + header + content[-64:]


def rewrite_png(content: bytes, rng: random.Random) -> bytes:
    """Changes chunks and gives them right checksums."""
    chunks, at = [], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append([content[at + 4 : at + 8], content[at + 8 : at + 8 + size]])
        at += 12 + size
    chunk = rng.choice(chunks)
    kind = rng.randrange(5)
    if kind == 0:
        sizes = (0, 1, 31, 64, 70_000, 2**31 - 1, 2**32 - 1)
        head = struct.pack(">II", rng.choice(sizes), rng.choice(sizes))
        depth = bytes(
            (rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 9)), 0, 0, rng.randrange(3))
        )
        chunks[0][1] = head + depth
    elif kind == 1:
        chunks.remove(chunk)
    elif kind == 2:
        chunks.insert(rng.randrange(len(chunks)), [rng.choice(_CHUNKS), rng.randbytes(30)])
    elif kind == 3:
        chunks.append(chunk)
    else:
        chunk[1] = damage(chunk[1], rng)
    body = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return content[:8] + body


def rewrite_text(content: bytes, rng: random.Random) -> bytes:
    """Changes words of a list of files."""
    lines = [line.split(" ") for line in content.decode().split("\n")]
    for _ in range(rng.choice((1, 3))):
        line = rng.choice(lines)
        word = rng.choice((*TEXTS, "None", "1e999", "nan", "../../" + "z" * 5000, "images", ".", "\u2028"))
        line[rng.randrange(len(line))] = word
    return "\n".join(map(" ".join, lines)).encode("utf-8", "surrogatepass")


def rewrite_onnx(content: bytes, rng: random.Random) -> bytes:
    """Changes operators, inputs, attributes, tensors and types of a graph, which stays protobuf."""
    import onnx
    from onnx import TensorProto, helper

    from glpn_deploy.runtimes.onnx_file.operators import OPERATORS

    try:
        model = onnx.load_from_string(content)
    except Exception:
        return damage(content, rng)
    graph = model.graph
    whole = WHOLE[:-1]
    for _ in range(rng.choice((1, 1, 2, 3))):
        node = rng.choice(graph.node)
        kind = rng.randrange(15)
        names = (
            [tensor.name for tensor in graph.initializer]
            + [n for one in graph.node for n in one.output]
            + ["x"]
        )
        if kind == 0:
            node.op_type = rng.choice(sorted(OPERATORS[""]))
        elif kind == 1 and node.input:
            del node.input[rng.randrange(len(node.input)) :]
        elif kind == 2 and node.input:
            node.input[rng.randrange(len(node.input))] = rng.choice([*names, "", "nowhere"])
        elif kind == 3:
            node.input.append(rng.choice([*names, ""]))
        elif kind == 4 and node.attribute:
            attribute = rng.choice(node.attribute)
            if attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(whole)
            elif attribute.floats:
                attribute.floats[rng.randrange(len(attribute.floats))] = rng.choice(REAL[:4])
            elif attribute.type == onnx.AttributeProto.INT:
                attribute.i = rng.choice(whole)
            elif attribute.type == onnx.AttributeProto.STRING:
                attribute.s = rng.choice((b"", b"cubic", b"\xff", b"NOTSET", b"SAME_UPPER", b"x" * 300))
        elif kind == 5 and node.attribute:
            del node.attribute[rng.randrange(len(node.attribute))]
        elif kind == 6:
            name = rng.choice(_ATTRIBUTES)
            value = rng.choice(
                (rng.choice(whole), [1, 1], [0, 0, 0, 0], 0.5, "SAME_UPPER", [rng.choice(whole)])
            )
            node.attribute.append(helper.make_attribute(name, value))
        elif kind == 7 and graph.initializer:
            tensor = rng.choice(graph.initializer)
            tensor.data_type = rng.choice((0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 14, 16, 17, 21, 23, 99))
        elif kind == 8 and graph.initializer:
            tensor = rng.choice(graph.initializer)
            if tensor.dims and rng.random() < 0.5:
                tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(whole)
            else:
                tensor.dims.extend([rng.choice((0, 1, 2, -1))])
        elif kind == 9 and graph.initializer:
            tensor = rng.choice(graph.initializer)
            size = len(tensor.raw_data)
            if tensor.data_type == TensorProto.INT64:
                tensor.raw_data = b"".join(struct.pack("<q", rng.choice(whole)) for _ in range(size // 8))
            elif tensor.data_type == TensorProto.FLOAT:
                tensor.raw_data = b"".join(
                    struct.pack("<f", rng.choice((0, 1e30, -1, 3, 1e9))) for _ in range(size // 4)
                )
        elif kind == 10:
            value = rng.choice((*graph.input, *graph.output))
            value.type.tensor_type.elem_type = rng.choice((0, 1, 7, 8, 10, 16, 99))
        elif kind == 11:
            shape = rng.choice((*graph.input, *graph.output)).type.tensor_type.shape
            if shape.dim:
                shape.dim[rng.randrange(len(shape.dim))].dim_value = rng.choice(whole)
        elif kind == 12:
            model.opset_import[0].version = rng.choice((*whole, 7, 9, 11, 13, 21, 26))
        elif kind == 13:
            graph.node.append(rng.choice(graph.node))
        elif len(graph.node) > 1:
            del graph.node[rng.randrange(len(graph.node))]
    return model.SerializeToString()
