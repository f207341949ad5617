"""Stand-ins for versions of TensorRT's Python module, built from what the real ones offer.

The recording (`tests/data/tensorrt_api.json`, made by `tests/record_tensorrt_api.py`) is the oracle: a name
that a version does not have raises AttributeError, a call is checked against the recorded signature with
the types of its arguments, and a property that cannot be set cannot be set. What calls return follows from
the recorded type; a test that needs more puts it into ``answers``.
"""

from __future__ import annotations

import enum
import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

_RECORDED = json.loads((Path(__file__).parent / "data" / "tensorrt_api.json").read_text(encoding="utf-8"))
_PLAIN: dict[str, Any] = {"bool": bool, "str": str, "float": float, "bytes": bytes, "list": list}
_DEFAULTS: dict[str, Any] = {"None": None, "bool": True, "int": 0, "str": "", "list": []}


class StandIn:
    """A module-like object of one version.

    Attributes:
        calls: What was called and set so far: ``("IBuilderConfig.set_flag", (flag,))``,
            ``("IBuilderConfig.flags =", (3,))``.
        answers: ``{"Builder.create_network": function(self, *arguments)}`` for methods and properties.
    """

    def __init__(self, version: str) -> None:
        api = _RECORDED[version]
        self.__version__ = version
        self.calls: list[tuple[str, tuple[Any, ...]]] = []
        self.answers: dict[str, Callable[..., Any]] = {}
        self._names = set(api["names"])
        self._kinds: dict[str, Any] = {}
        for name, members in api["enums"].items():
            self._kinds[name] = _Enumeration(name.split(".")[-1], members)
        for name, about in sorted(api["classes"].items(), key=lambda item: len(item[1]["bases"])):
            bases = tuple(self._kinds[base] for base in about["bases"])
            self._kinds[name] = _make_class(self, name, about, bases)
        for name in ("ILogger", "Logger"):
            self._kinds[name].Severity = self._kinds["ILogger.Severity"]
            for member in self._kinds["ILogger.Severity"]:
                setattr(self._kinds[name], member.name, member)

    def __getattr__(self, name: str) -> Any:
        if name in vars(self).get("_kinds", {}) and "." not in name:
            return self._kinds[name]
        types = {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16", "int8": "INT8"}
        if name in types and name in self._names:
            return getattr(self._kinds["DataType"], types[name])
        if name in vars(self).get("_names", ()):
            raise AssertionError(f"TensorRT {self.__version__} has {name}, the stand-in has not")
        raise AttributeError(f"TensorRT {vars(self).get('__version__')} has no {name}")

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """Arguments of every call of a method, or of every setting of a property (``X.y =``)."""
        return [arguments for called, arguments in self.calls if called == name]

    def check(self, signature: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Any, ...]:
        """The arguments in order, defaults left out; TypeError where the signature refuses them."""
        taken = []
        parameters = [p for p in re.split(r",\s*(?![^\[]*\])", signature.rpartition("->")[0].strip()) if p]
        if len(arguments) > len(parameters):
            raise TypeError(f"{len(arguments)} arguments for ({signature})")
        rest = dict(keywords)
        for number, parameter in enumerate(parameters):
            name, _, kind = parameter.partition(": ")
            kind, _, default = kind.partition(" = ")
            if number < len(arguments):
                value = arguments[number]
            elif name in rest:
                value = rest.pop(name)
            elif default:
                continue
            else:
                raise TypeError(f"{name} is missing for ({signature})")
            if not self._fits(value, kind):
                raise TypeError(f"{name}={value!r} is no {kind}")
            taken.append(value)
        if rest:
            raise TypeError(f"({signature}) takes no {', '.join(rest)}")
        return tuple(taken)

    def _fits(self, value: Any, kind: str) -> bool:
        if value is None:
            return kind not in _PLAIN and kind != "int"
        if kind == "int":
            return hasattr(value, "__index__")
        if kind == "Dims":
            return isinstance(value, (tuple, list)) and all(isinstance(n, int) for n in value)
        if kind == "Buffer":
            try:
                memoryview(value)
            except TypeError:
                return type(value).__name__ == "IHostMemory"
            return True
        known = self._kinds.get(kind, _PLAIN.get(kind.split("[")[0]))
        return known is None or isinstance(value, known)

    def default(self, signature: str) -> Any:
        """What a call returns where the test gives no answer: an object of the recorded type."""
        kind = signature.rpartition("->")[2].strip()
        if kind in self._kinds and isinstance(self._kinds[kind], type) and hasattr(self._kinds[kind], "_api"):
            return object.__new__(self._kinds[kind])
        plain = kind.split("[")[0]
        if plain in _DEFAULTS:
            return _DEFAULTS[plain]
        raise AssertionError(f"the test must say what a {kind} is: put it into answers")


class _Member(enum.Enum):
    """As pybind's: equal within its enumeration only, an integer where int() is asked."""

    def __int__(self) -> int:
        return int(self.value)

    __index__ = __int__


def _Enumeration(name: str, members: dict[str, int]) -> Any:  # noqa: N802 - makes a class
    make: Any = _Member  # the functional call, which a checker takes for a look-up
    return make(name, members)


def _make_class(module: StandIn, name: str, about: dict[str, Any], bases: tuple[type, ...]) -> type:
    def initialise(self: Any, *arguments: Any, **keywords: Any) -> None:
        signatures = about["methods"].get("__init__", [])
        if not signatures:
            raise TypeError(f"{name}: No constructor defined!")
        _call(module, f"{name}.__init__", signatures, self, arguments, keywords)

    def read(self: Any, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        key = f"{name}.{attribute}"
        if attribute in about["properties"]:
            if key in module.answers:
                return module.answers[key](self)
            if attribute in vars(self):
                return vars(self)[attribute]
            raise AssertionError(f"the test must say what {key} is: put it into answers")
        if attribute in about["methods"]:
            return functools.partial(_method, module, key, about["methods"][attribute], self)
        raise AttributeError(f"TensorRT {module.__version__} has no {key}")

    def write(self: Any, attribute: str, value: Any) -> None:
        if type(self) is not kind:  # a subclass of ours has attributes of its own
            object.__setattr__(self, attribute, value)
            return
        if about["properties"].get(attribute) != "rw":
            raise AttributeError(f"TensorRT {module.__version__}: {name}.{attribute} cannot be set")
        module.calls.append((f"{name}.{attribute} =", (value,)))
        vars(self)[attribute] = value

    kind = type(
        name, bases, {"_api": True, "__init__": initialise, "__getattr__": read, "__setattr__": write}
    )
    return kind


def _method(
    module: StandIn, key: str, signatures: list[str], self: Any, *arguments: Any, **keywords: Any
) -> Any:
    return _call(module, key, signatures, self, arguments, keywords)


def _call(
    module: StandIn,
    key: str,
    signatures: list[str],
    self: Any,
    arguments: tuple[Any, ...],
    keywords: dict[str, Any],
) -> Any:
    problems = []
    for signature in signatures:
        try:
            taken = module.check(signature, arguments, keywords)
        except TypeError as error:
            problems.append(str(error))
            continue
        module.calls.append((key, taken))
        if key in module.answers:
            return module.answers[key](self, *taken)
        return None if key.endswith(".__init__") else module.default(signature)
    raise TypeError(f"TensorRT {module.__version__}: {key}: {'; '.join(problems)}")
