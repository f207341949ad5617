"""A drop-in for transformers: its documentation's snippet, and the tools that take its models apart."""

from __future__ import annotations

import copy
import io
import json
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import onnxruntime
import openvino
import pytest
import torch
import transformers
from PIL import Image
from torch import nn

from glpn_deploy import GLPNConfig, GLPNForDepthEstimation, GLPNImageProcessor, GLPNModel
from glpn_deploy.errors import BackendError, CheckpointError, ConfigError, InputError
from glpn_deploy.model.outputs import DepthEstimatorOutput
from glpn_deploy.model.settings.checks import ACTIVATIONS

VALUES: dict[str, Any] = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 10, 16], "decoder_hidden_size": 6}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(0)
    network = transformers.GLPNForDepthEstimation(transformers.GLPNConfig(**VALUES)).eval()
    for parameter in network.parameters():  # away from initialisation, where depth hardly varies
        parameter.data.add_(0.2 * torch.randn_like(parameter))
    return network


@pytest.fixture
def model(theirs):
    model = GLPNForDepthEstimation(GLPNConfig(**VALUES)).eval()
    model.load_state_dict(theirs.state_dict())
    return model


@pytest.fixture
def x():
    return torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def cache(theirs, tmp_path, monkeypatch):
    """A hub's cache that holds vinvino02/glpn-kitti, or rather a network of its name, and no network."""
    repository = tmp_path / "models--vinvino02--glpn-kitti"
    theirs.save_pretrained(repository / "snapshots" / COMMIT)
    GLPNImageProcessor(size_divisor=64).save_pretrained(repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path


@pytest.mark.filterwarnings("ignore::glpn_deploy.model.pretrained.ScaleWarning")
def test_the_snippet_of_transformers_documentation(cache, theirs):
    """As it stands at GLPNForDepthEstimation.forward, but for where the image comes from."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8))

    image_processor = GLPNImageProcessor.from_pretrained("vinvino02/glpn-kitti")
    model = GLPNForDepthEstimation.from_pretrained("vinvino02/glpn-kitti")

    # prepare image for the model
    inputs = image_processor(images=image, return_tensors="pt")

    with torch.no_grad():
        outputs = model(**inputs)

    # interpolate to original size
    post_processed_output = image_processor.post_process_depth_estimation(
        outputs,
        target_sizes=[(image.height, image.width)],
    )

    # visualize the prediction
    predicted_depth = post_processed_output[0]["predicted_depth"]
    depth = predicted_depth * 255 / predicted_depth.max()
    depth = depth.detach().cpu().numpy()
    picture = Image.fromarray(depth.astype("uint8"))

    assert inputs["pixel_values"].shape == (1, 3, 64, 128)
    with torch.no_grad():
        expected = theirs(inputs["pixel_values"]).predicted_depth[None]
    expected = nn.functional.interpolate(expected, size=(100, 150), mode="bicubic", align_corners=False)[0, 0]
    torch.testing.assert_close(predicted_depth, expected, rtol=0, atol=1e-4)
    assert picture.size == image.size


def test_hub_ids_for_every_class_with_hfs_keywords(cache):
    for keywords in ({}, {"cache_dir": cache, "local_files_only": True, "revision": "main", "token": False}):
        config = GLPNConfig.from_pretrained("vinvino02/glpn-kitti", **keywords)
        assert list(config.hidden_sizes) == VALUES["hidden_sizes"]
        assert GLPNImageProcessor.from_pretrained("vinvino02/glpn-kitti", **keywords).size_divisor == 64
        model = GLPNModel.from_pretrained("vinvino02/glpn-kitti", **keywords)
        assert model.name_or_path == "vinvino02/glpn-kitti"
    for kind in (GLPNConfig, GLPNImageProcessor, GLPNModel):
        with pytest.raises(CheckpointError) as refusal:
            kind.from_pretrained("vinvino02/something-else", local_files_only=True)
        assert isinstance(refusal.value, OSError)


def test_a_saved_model_keeps_the_preprocessing_that_stands_there(model, tmp_path):
    GLPNImageProcessor(size_divisor=64).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    assert GLPNImageProcessor.from_pretrained(tmp_path).size_divisor == 64
    model.save_pretrained(tmp_path, GLPNImageProcessor(size_divisor=96))
    assert GLPNImageProcessor.from_pretrained(tmp_path).size_divisor == 96


@torch.no_grad()
def test_every_layer_is_called(model, x):
    """Hooks, adapters and quantization act on what is called; the Mix-FFN's layers were only read."""
    called: dict[str, int] = {}

    def note(name):
        return lambda module, inputs, output: called.update({name: called.get(name, 0) + 1})

    for name, module in model.named_modules():
        if not list(module.children()):
            module.register_forward_hook(note(name))
    model(x)
    leaves = {name for name, module in model.named_modules() if not list(module.children())}
    assert leaves == called.keys()


@torch.no_grad()
def test_tools_that_take_the_plain_model_apart(model, x):
    depth = model(x).predicted_depth

    def close(other, atol=1e-4):
        torch.testing.assert_close(torch.as_tensor(np.asarray(other)), depth, rtol=0, atol=atol)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(model, x, strict=False, check_trace=False)
        close(traced(x)["predicted_depth"])
        compiled = openvino.Core().compile_model(
            openvino.convert_model(model, example_input=x), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        close(compiled(x.numpy())[0])
        exported = torch.export.export(model, (x,)).module()(x)  # of any size: tests/exporters/network
        assert isinstance(exported, DepthEstimatorOutput)
        close(exported.predicted_depth)
        file = io.BytesIO()
        torch.onnx.export(copy.deepcopy(model), (x,), file, dynamo=False)
        session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
        close(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])


def test_outputs_of_several_devices_are_gathered_whole(model, x):
    """What DataParallel's gather does with an output that is a dict."""
    outputs = [model(x, labels=torch.ones(1, 64, 96)) for _ in range(2)]
    gathered = type(outputs[0])((key, torch.stack([o[key] for o in outputs])) for key in outputs[0])
    assert gathered.loss.shape == (2,)
    assert gathered.predicted_depth.shape == (2, 1, 64, 96)
    flat, spec = torch.utils._pytree.tree_flatten(outputs[0])
    assert torch.utils._pytree.tree_unflatten(flat, spec).loss is outputs[0].loss


@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@torch.no_grad()
def test_activations_equal_transformers(name, x):
    theirs = transformers.GLPNModel(transformers.GLPNConfig(**VALUES, hidden_act=name)).eval()
    model: Any = GLPNModel(GLPNConfig(**VALUES, hidden_act=name)).eval()
    model.load_state_dict(theirs.state_dict())
    for module, other in zip(model.encoder.block, theirs.encoder.block, strict=True):
        values = torch.linspace(-12, 12, 999)
        function, expected = module[0].mlp.intermediate_act_fn, other[0].mlp.intermediate_act_fn
        torch.testing.assert_close(function(values), expected(values), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(x).last_hidden_state, theirs(x).last_hidden_state, rtol=0, atol=1e-4)


def test_the_only_activation_left_out_is_named(x):
    names = set(transformers.activations.ACT2FN) - set(ACTIVATIONS)
    assert names == {"xielu"}, "its weights are bfloat16, whatever the model's are"
    with pytest.raises(ConfigError):
        GLPNModel(GLPNConfig(hidden_act="xielu"))


# What only one machine or one package has, and so no oracle here


@pytest.mark.parametrize("device_map", [None, "cpu", "auto", {"": "cpu"}, torch.device("cpu")])
def test_device_map_of_one_device(model, tmp_path, device_map):
    model.save_pretrained(tmp_path)
    assert GLPNForDepthEstimation.from_pretrained(tmp_path, device_map=device_map).device.type in {
        "cpu",
        "cuda",
    }


def test_what_cannot_be_honoured_is_named(model, tmp_path):
    model.save_pretrained(tmp_path)

    def refusal(kind=InputError, **keywords):
        with pytest.raises(kind) as caught:
            GLPNForDepthEstimation.from_pretrained(tmp_path, **keywords)
        return caught.value.got

    assert "balanced" in refusal(device_map="balanced")
    assert "'glpn'" in refusal(device_map={"glpn": 0, "head": "cpu"})
    assert "quantization_config" in refusal(quantization_config={})
    assert "int8" in refusal(dtype="int8")
    assert "sdpa" in refusal(ConfigError, attn_implementation="sdpa")
    if not torch.cuda.is_available():
        assert "CUDA" in refusal(BackendError, device_map="cuda:0")


def test_not_strict_by_choice(model, tmp_path):
    model.glpn.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError):
        GLPNForDepthEstimation.from_pretrained(tmp_path)
    with pytest.warns(UserWarning, match=r"not loaded as it is: \d+ missing"):
        loaded, info = GLPNForDepthEstimation.from_pretrained(
            tmp_path,
            strict=False,
            output_loading_info=True,
            state_dict={f"glpn.{name}": tensor for name, tensor in model.glpn.state_dict().items()},
        )
    assert all(name.startswith(("decoder.", "head.")) for name in info["missing_keys"])
    assert torch.equal(loaded.glpn.encoder.layer_norm[0].weight, model.glpn.encoder.layer_norm[0].weight)
    assert all(torch.isfinite(p).all() for p in loaded.parameters())


def test_pickled_weights_by_choice(model, tmp_path, x):
    model.save_pretrained(tmp_path, safe_serialization=False)
    assert {p.name for p in tmp_path.glob("*.*") if "model" in p.name} == {"pytorch_model.bin"}
    back = GLPNForDepthEstimation.from_pretrained(tmp_path, use_safetensors=False)
    assert torch.equal(back(x).predicted_depth, model(x).predicted_depth)
    with pytest.raises(CheckpointError):
        GLPNForDepthEstimation.from_pretrained(tmp_path, use_safetensors=True)


def test_pushing_uploads_what_saving_writes(model, tmp_path, monkeypatch):
    uploads = []

    class Api:
        def __init__(self, token=None):
            self.token = token

        def create_repo(self, repo_id, **options):
            return SimpleNamespace(repo_id=f"me/{repo_id}")

        def upload_folder(self, *, repo_id, folder_path, **options):
            names = sorted(p.name for p in Path(folder_path).iterdir())
            uploads.append((repo_id, names, options["commit_message"], self.token))
            return "info"

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert model.push_to_hub("my-glpn", commit_message="trained", token="t") == "info"
    GLPNConfig().push_to_hub("my-glpn")
    GLPNImageProcessor().save_pretrained(tmp_path / "named", push_to_hub=True)
    everything = ["config.json", "model.safetensors", "preprocessor_config.json"]
    assert uploads[0] == ("me/my-glpn", everything, "trained", "t")
    assert [upload[:2] for upload in uploads[1:]] == [
        ("me/my-glpn", ["config.json"]),
        ("me/named", ["preprocessor_config.json"]),
    ]
    monkeypatch.setattr(Api, "create_repo", lambda *a, **k: (_ for _ in ()).throw(OSError("401 who are you")))
    with pytest.raises(CheckpointError) as refusal:
        model.push_to_hub("my-glpn")
    assert "401" in refusal.value.got


def test_saving_in_shards_equals_transformers_file_by_file(model, theirs, tmp_path):
    for who, name in ((model, "ours"), (theirs, "theirs")):
        who.save_pretrained(tmp_path / name, max_shard_size="8KB")
    files = {name: {p.name for p in (tmp_path / name).glob("model*")} for name in ("ours", "theirs")}
    assert len(files["ours"]) > 2
    indexes = [json.loads((tmp_path / n / "model.safetensors.index.json").read_text()) for n in files]
    assert set(indexes[0]["weight_map"]) == set(indexes[1]["weight_map"])
    back, info = transformers.GLPNForDepthEstimation.from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(info.values())
    assert torch.equal(back.head.head[0].weight, theirs.head.head[0].weight)
