"""glpn-serve writes a repository that glpn-verify checks; glpn-bench tells a server from a bundle."""

from __future__ import annotations

import json


def test_write_and_verify(run, tiny_bundle, tmp_path):
    models = tmp_path / "models"
    done = run("serve", tiny_bundle, "--write", models, "--size", "64x96", "--instances", "1")
    assert done.status == 0, done.err
    assert f"--model-repository={models}" in done.out
    assert "--http-address=127.0.0.1" in done.out
    found = run("verify", models)
    assert found.status == 0, found.err
    assert "19 files unchanged" in found.out
    told = json.loads(run("verify", models, "--json").out)
    assert (told["files"], told["precision"]) == (19, "fp32")
    (models / "glpn_raw" / "1" / "model.onnx").write_bytes(b"another")
    found = run("verify", models)
    assert found.status == 2
    assert "changed since it was written" in found.err


def test_json_is_the_repositorys_list(run, tiny_bundle, tmp_path):
    models = tmp_path / "models"
    done = run("serve", tiny_bundle, "--write", models, "--models", "glpn_python", "--json")
    assert json.loads(done.out) == json.loads((models / "glpn-repository.json").read_text())


def test_a_repository_has_no_reference(run, tiny_bundle, tmp_path):
    run("serve", tiny_bundle, "--write", tmp_path / "models", "--models", "glpn_python")
    found = run("verify", tmp_path / "models", "--reference", "demo")
    assert found.status == 2
    assert "digests" in found.err


def test_a_precision_that_the_bundle_lacks(run, tiny_bundle, tmp_path):
    done = run("serve", tiny_bundle, "--write", tmp_path / "models", "--precision", "fp16")
    assert done.status == 2
    assert "has no fp16 artefact" in done.err
    assert not (tmp_path / "models").exists()


def test_bench_wants_a_bundle_or_a_server(run, tiny_bundle):
    assert "no bundle is given" in run("bench").err
    assert "--rate" in run("bench", tiny_bundle, "--rate", "3").err
    both = run("bench", tiny_bundle, "--server", "http://127.0.0.1:9")
    assert (both.status, "one of them" in both.err) == (2, True)
    gone = run("bench", "--server", "http://127.0.0.1:9")
    assert (gone.status, "does not answer" in gone.err) == (1, True)
    for ignored in (["--precision", "int8"], ["--mode", "throughput"], ["--quick"], ["--out", "report"]):
        found = run("bench", "--server", "http://127.0.0.1:9", *ignored)
        assert (found.status, "--server with options of a bundle" in found.err) == (2, True)
    assert run("bench", tiny_bundle, "--callers", "1,2").status == 2
    wrong = run("bench", "--server", "127.0.0.1:8000")
    assert (wrong.status, "http://127.0.0.1:8000" in wrong.err) == (2, True)
