"""The pages' tables are what the figures give; measuring one section leaves the others as they were."""

from __future__ import annotations

import copy
import importlib
import json
import re
import shutil
from types import SimpleNamespace
from typing import Any

import pytest

from glpn_deploy.benchmarks.claims import figures
from glpn_deploy.benchmarks.claims.readme_tables import PART_OF, TABLES, fill
from glpn_deploy.errors import BackendError, InputError


@pytest.fixture
def sections() -> dict:
    return figures.read(figures.RESULTS)


@pytest.fixture
def files(tmp_path) -> dict[str, Any]:
    """Copies of figures and pages."""
    shutil.copy(figures.RESULTS, tmp_path / "figures.json")
    pages = [shutil.copy(page, tmp_path / page.name) for page in figures.PAGES]
    return {"results": tmp_path / "figures.json", "pages": pages}


def pages_text() -> str:
    return "".join(page.read_text(encoding="utf-8") for page in figures.PAGES)


def test_the_pages_say_what_was_measured(sections) -> None:
    text = pages_text()
    assert fill(text, sections) == text, "run: python -m glpn_deploy.benchmarks.claims.figures --tables"
    assert sections.keys() == set(figures.SECTIONS) == {PART_OF.get(name, name) for name in TABLES}
    assert all(text.count(f"<!-- figures:{name} -->") == 1 for name in TABLES)


def test_a_figure_that_changes_changes_its_table_alone(sections) -> None:
    text = pages_text()
    changed = copy.deepcopy(sections)
    changed["cpu"]["figures"]["rows"]["openvino int8"]["speedup"] = {"value": 9.0, "low": 8.0, "high": 10.0}
    before, after = text.splitlines(), fill(text, changed).splitlines()
    lines = [now for old, now in zip(before, after, strict=True) if old != now]
    median_ms = sections["cpu"]["figures"]["rows"]["openvino int8"]["median_ms"]
    told = f"| INT8, OpenVINO | {median_ms:.0f} ms | 9.00 (8.00 to 10.00) | "
    assert [line.startswith(told) for line in lines] == [True, True]  # in the README's table and in docs'


def test_a_row_that_did_not_run_is_left_out(sections) -> None:
    section = copy.deepcopy(sections["cpu"])
    del section["figures"]["rows"]["openvino bf16"], section["figures"]["abs_rel"]["openvino bf16"]
    section["figures"]["start"]["bf16"] = None
    text = TABLES["cpu"](section)
    assert "| BF16, OpenVINO" not in text
    assert f"comes {section['figures']['start']['fp32']['warm_s']:.1f} s in FP32 after" in text


def test_markers() -> None:
    text = "a\n<!-- figures:cpu -->\nold\n<!-- /figures -->\nb\n"
    assert fill(text, {}) == text
    with pytest.raises(InputError) as caught:
        fill(text.replace("cpu", "gpu"), {})
    assert "cpu" in str(caught.value.expected)


def planted(monkeypatch, measure) -> list[str]:
    asked: list[str] = []

    def load(name: str) -> SimpleNamespace:
        asked.append(name.rpartition(".")[2])
        return SimpleNamespace(measure=measure)

    monkeypatch.setattr(importlib, "import_module", load)
    monkeypatch.setattr(figures, "describe_environment", lambda: {"processor": "planted", "versions": {}})
    return asked


def test_one_section_replaces_its_part_and_the_table(sections, files, monkeypatch, tmp_path) -> None:
    fresh = copy.deepcopy(sections["precision"]["figures"])
    fresh["forms"]["fp8"]["abs_rel"] = 0.5

    def measure(options) -> dict:
        assert options.optimum == "/optimum/python"
        assert list(options.folder.iterdir()) == []
        return fresh

    asked = planted(monkeypatch, measure)
    changed = figures.update(["precision"], "/optimum/python", **files)
    assert changed == [tmp_path / "figures.json", tmp_path / "precision.md"]
    assert asked == ["precision"]
    found = figures.read(tmp_path / "figures.json")
    assert found["precision"]["figures"] == fresh
    assert found["precision"]["environment"]["processor"] == "planted"
    assert {name: found[name] for name in ("main_job", "cpu", "demo")} == {
        name: sections[name] for name in ("main_job", "cpu", "demo")
    }
    assert "| FP8 | 0.5000 |" in (tmp_path / "precision.md").read_text(encoding="utf-8")


def test_a_section_that_fails_keeps_those_before_it(files, monkeypatch, tmp_path) -> None:
    results = iter([{"first": 1}])

    def measure(options) -> dict:
        try:
            return next(results)
        except StopIteration:
            raise BackendError("planted") from None

    planted(monkeypatch, measure)
    with pytest.raises(BackendError):
        figures.update(["main_job", "cpu"], **files)
    assert figures.read(tmp_path / "figures.json")["main_job"]["figures"] == {"first": 1}


def test_tables_alone_measure_nothing(files, monkeypatch, tmp_path) -> None:
    asked = planted(monkeypatch, None)
    path = tmp_path / "precision.md"
    text = path.read_text(encoding="utf-8")
    path.write_text(re.sub(r"\| FP8 \| [\d.]+ \|", "| FP8 | 7 |", text), encoding="utf-8")
    assert figures.update([], **files) == [path]
    assert asked == []
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.parametrize("content", ["", "[]", '{"format": "glpn-deploy-figures", "format_version": 1}'])
def test_a_file_that_holds_no_figures_is_refused(content, files, tmp_path) -> None:
    (tmp_path / "figures.json").write_text(content)
    with pytest.raises(InputError):
        figures.update([], **files)
    assert (tmp_path / "figures.json").read_text() == content


def test_a_section_that_is_none_is_named(call, capsys) -> None:
    assert call(figures.main, "--only", "cpu,gpu") == InputError.exit_code
    assert "main_job, cpu, cpu_peers, precision, demo, rtx, uint8_input" in capsys.readouterr().err


def test_the_figures_are_written_in_their_order(sections, tmp_path) -> None:
    path = tmp_path / "x.json"
    figures.write(path, dict(reversed(sections.items())))
    assert list(json.loads(path.read_text())["sections"]) == list(figures.SECTIONS)
    assert path.read_bytes() == figures.RESULTS.read_bytes()
