"""The reference network against transformers' GLPN, the oracle, over random small configurations."""

import random

import pytest
import torch
import transformers
from torch import nn

from glpn_deploy import GLPNConfig, GLPNForDepthEstimation, GLPNModel
from glpn_deploy.errors import InputError
from glpn_deploy.model.modeling import silog_loss
from tests.refusals import refused

SEEDS = range(24)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """On networks this small, threads only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def random_config(seed: int, **fixed) -> GLPNConfig:
    """A small network; every fourth has a decoder as wide as an encoder stage (Identity in HF)."""
    rng = random.Random(seed)
    heads = [rng.choice([1, 2, 3, 5]) for _ in range(4)]
    hidden = [n * rng.choice([4, 6, 8]) for n in heads]
    decoder = (
        rng.choice([size for size in hidden if size % 2 == 0]) if seed % 4 == 0 else rng.choice([6, 8, 14])
    )
    values = {
        "depths": [rng.randint(1, 3) for _ in range(4)],
        "sr_ratios": rng.choice([(8, 4, 2, 1), (4, 4, 1, 1), (2, 1, 2, 1), (1, 1, 1, 1)]),
        "hidden_sizes": hidden,
        "num_attention_heads": heads,
        "mlp_ratios": [rng.choice([1, 2, 3, 4]) for _ in range(4)],
        "patch_sizes": rng.choice([(7, 3, 3, 3), (5, 3, 5, 3)]),
        "hidden_act": rng.choice(["gelu", "gelu", "relu", "silu", "gelu_new", "gelu_pytorch_tanh"]),
        "decoder_hidden_size": decoder,
        "max_depth": rng.choice([1, 10, 80]),
        "head_in_index": rng.choice([-1, -1, 3, 2, 0]),
        "drop_path_rate": rng.choice([0.0, 0.1]),
    }
    return GLPNConfig(**(values | fixed))


def hf_config(config: GLPNConfig):
    return transformers.GLPNConfig(**config.to_dict(), attn_implementation="eager")


def randomise(model: nn.Module, seed: int) -> None:
    """Weights, biases, norms and statistics far from their start, so that every one of them counts."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        noise = torch.randn(tensor.shape, generator=generator)
        if name.endswith("running_var"):
            tensor.copy_(0.5 + noise.abs())
        elif tensor.ndim > 1:
            tensor.copy_(noise * tensor[0].numel() ** -0.5)
        elif name.endswith("weight"):
            tensor.copy_(1 + 0.3 * noise)
        else:
            tensor.copy_(0.3 * noise)


def pair(config: GLPNConfig, seed: int = 0, ours=GLPNForDepthEstimation):
    """HF's model and ours with the same weights."""
    theirs = getattr(transformers, ours.__name__)(hf_config(config)).eval()
    randomise(theirs, seed)
    model = ours(config).eval()
    model.load_state_dict(theirs.state_dict(), strict=True)
    return theirs, model


def images(seed: int, channels: int = 3, batch: int | None = None, size: tuple[int, int] | None = None):
    rng = random.Random(1000 + seed)
    height, width = size or (32 * rng.randint(1, 5), 32 * rng.randint(1, 5))
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch or rng.randint(1, 2), channels, height, width, generator=generator)


def labels_for(pixels, max_depth: float, seed: int):
    """Metres with a third of the pixels unknown."""
    generator = torch.Generator().manual_seed(seed + 7)
    depth = max_depth * torch.rand(pixels.shape[0], *pixels.shape[2:], generator=generator)
    return torch.where(torch.rand(depth.shape, generator=generator) < 0.33, 0.0, depth)


def close(ours, theirs, scale: float = 1.0) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("seed", SEEDS)
@torch.no_grad()
def test_equals_hf(seed):
    config = random_config(seed)
    theirs, ours = pair(config, seed)
    pixels = images(seed)
    labels = labels_for(pixels, config.max_depth, seed) if config.head_in_index in (-1, 3) else None

    expected = theirs(pixels, labels=labels, output_hidden_states=True, output_attentions=True)
    got = ours(pixels, labels=labels, output_hidden_states=True, output_attentions=True)

    assert expected.predicted_depth.std() > 1e-3 * config.max_depth, "the comparison would mean nothing"
    close(got.predicted_depth, expected.predicted_depth, config.max_depth)
    assert len(got.hidden_states) == 4
    assert len(got.attentions) == sum(config.depths)
    for a, b in zip(got.hidden_states, expected.hidden_states, strict=True):
        close(a, b, max(1.0, b.abs().max()))
    for a, b in zip(got.attentions, expected.attentions, strict=True):
        close(a, b)
    if labels is not None:
        torch.testing.assert_close(got.loss, expected.loss, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("seed", SEEDS[:6])
@torch.no_grad()
def test_encoder_equals_hf(seed):
    config = random_config(seed)
    theirs, ours = pair(config, seed, GLPNModel)
    pixels = images(seed)
    expected = theirs(pixels, output_hidden_states=True, output_attentions=True)
    got = ours(pixels, output_hidden_states=True, output_attentions=True)
    close(got.last_hidden_state, expected.last_hidden_state, expected.last_hidden_state.abs().max())
    for a, b in zip(
        got.hidden_states + got.attentions, expected.hidden_states + expected.attentions, strict=True
    ):
        close(a, b, max(1.0, b.abs().max()))


@torch.no_grad()
def test_other_channel_and_stage_counts_equal_hf():
    config = random_config(0, num_channels=1, hidden_sizes=(8, 12, 10, 16), num_attention_heads=(1, 2, 5, 2))
    theirs, ours = pair(config)
    x = images(0, channels=1)
    close(ours(x).predicted_depth, theirs(x).predicted_depth, config.max_depth)
    three = GLPNConfig(
        num_encoder_blocks=3,
        depths=(1, 2, 1),
        sr_ratios=(4, 2, 1),
        hidden_sizes=(8, 12, 16),
        patch_sizes=(7, 3, 3),
        strides=(4, 2, 2),
        num_attention_heads=(1, 2, 2),
        mlp_ratios=(2, 2, 2),
        decoder_hidden_size=8,
    )
    theirs, ours = pair(three)
    x = images(1, size=(48, 80))
    close(ours(x).predicted_depth, theirs(x).predicted_depth, 10)


@pytest.mark.parametrize("with_labels", [False, True])
@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("attentions", [False, True])
@torch.no_grad()
def test_tuples_equal_hf_element_by_element(with_labels, hidden, attentions):
    config = random_config(1, head_in_index=-1)
    theirs, ours = pair(config)
    pixels = images(1, size=(32, 64))
    options = {"output_hidden_states": hidden, "output_attentions": attentions, "return_dict": False}
    if with_labels:
        options["labels"] = labels_for(pixels, config.max_depth, 0)
    expected, got = theirs(pixels, **options), ours(pixels, **options)
    assert isinstance(got, tuple)
    flat = [torch.utils._pytree.tree_leaves(output) for output in (got, expected)]
    for a, b in zip(*flat, strict=True):
        close(a, b, max(config.max_depth, b.abs().max()))
    assert [type(item) for item in got] == [type(item) for item in expected]

    named = ours(pixels, **(options | {"return_dict": True}))
    assert len(named.to_tuple()) == len(list(named)) == len(got)
    assert named["predicted_depth"] is named.predicted_depth is named[1 if with_labels else 0]


@pytest.mark.parametrize("ours", [GLPNForDepthEstimation, GLPNModel])
def test_state_dict_is_strict_both_ways(ours):
    theirs, model = pair(random_config(4), ours=ours)
    theirs.load_state_dict(model.state_dict(), strict=True)
    assert list(model.state_dict()) == list(theirs.state_dict())
    assert {k: v.shape for k, v in model.state_dict().items()} == {
        k: v.shape for k, v in theirs.state_dict().items()
    }


def test_glpn_nyu_has_its_published_size():
    with torch.device("meta"):
        model = GLPNForDepthEstimation(GLPNConfig(depths=(3, 8, 27, 3), hidden_sizes=(64, 128, 320, 512)))
    assert sum(p.numel() for p in model.parameters()) == 61_220_903
    assert len(model.state_dict()) == 972


def train_step(model, pixels, labels, seed):
    torch.manual_seed(seed)
    model.train().zero_grad()
    output = model(pixels, labels=labels)
    output.loss.backward()
    return output


@pytest.mark.parametrize("seed", range(4))
def test_training_step_equals_hf(seed):
    """The same seed draws the same drop path and attention dropout; gradients and statistics agree."""
    config = random_config(seed, drop_path_rate=0.5, attention_probs_dropout_prob=0.2, head_in_index=-1)
    theirs, ours = pair(config, seed)
    pixels = images(seed, batch=3, size=(64, 96))
    labels = labels_for(pixels, config.max_depth, seed)
    before = ours.eval()(pixels).predicted_depth
    expected = train_step(theirs, pixels, labels, seed)
    got = train_step(ours, pixels, labels, seed)

    assert (got.predicted_depth - before).abs().max() > 1e-2 * config.max_depth, "nothing was dropped"
    close(got.predicted_depth, expected.predicted_depth, config.max_depth)
    torch.testing.assert_close(got.loss, expected.loss, rtol=1e-5, atol=1e-6)
    gradients = dict(theirs.named_parameters())
    scale = max(p.grad.abs().max() for p in gradients.values())
    for name, parameter in ours.named_parameters():
        # A bias ahead of a norm, or of softmax's keys, has a gradient of 0 but for rounding.
        torch.testing.assert_close(
            parameter.grad, gradients[name].grad, rtol=1e-3, atol=1e-5 * scale, msg=name
        )
    statistics = dict(theirs.named_buffers())
    for name, value in ours.named_buffers():
        torch.testing.assert_close(value, statistics[name], rtol=1e-4, atol=1e-5, msg=name)


def test_hidden_dropout_has_hf_statistics():
    """Our Mix-FFN draws in another order than HF's, so that only the distribution can agree."""
    config = random_config(2, hidden_dropout_prob=0.3, drop_path_rate=0.0, depths=(1, 1, 1, 1))
    theirs, ours = (model.train() for model in pair(config, 2))
    pixels = images(2, batch=1, size=(32, 32)).expand(400, -1, -1, -1)
    torch.manual_seed(0)
    with torch.no_grad():
        # The first stage's: one block of dropouts, so that few samples tell.
        a, b = (m.glpn(pixels, output_hidden_states=True).hidden_states[0] for m in (ours, theirs))
    spread = b.std(dim=0)
    assert spread.mean() > 0.05
    standard_error = spread.mean() * (2 / 400) ** 0.5
    assert (a.mean(dim=0) - b.mean(dim=0)).abs().mean() < 1.2 * standard_error
    assert a.std(dim=0).mean().item() == pytest.approx(spread.mean().item(), rel=0.02)


def test_eval_mode_draws_nothing():
    model = GLPNForDepthEstimation(random_config(3, hidden_dropout_prob=0.5, drop_path_rate=0.5)).eval()
    pixels = images(3, size=(32, 32))
    state = torch.get_rng_state()
    with torch.no_grad():
        assert torch.equal(model(pixels).predicted_depth, model(pixels).predicted_depth)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("labels", [torch.zeros(1, 32, 32), torch.full((1, 32, 32), -1.0)])
def test_loss_without_a_valid_pixel_is_finite(labels):
    model = GLPNForDepthEstimation(random_config(1, head_in_index=-1)).train()
    loss = model(images(0, batch=1, size=(32, 32)), labels=labels).loss
    loss.backward()
    assert loss.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_loss_of_a_perfect_fit_has_a_finite_gradient():
    depth = torch.rand(1, 8, 8).add(1).requires_grad_()
    silog_loss(depth, depth.detach().clone()).backward()
    assert torch.isfinite(depth.grad).all()


def test_loss_equals_its_formula():
    predicted, target = torch.tensor([[[1.0, 2.0, 3.0]]]), torch.tensor([[[2.0, 0.0, 4.0]]])
    d = torch.tensor([2.0 / 1, 4.0 / 3]).log()
    expected = ((d**2).mean() - 0.5 * d.mean() ** 2).sqrt()
    torch.testing.assert_close(silog_loss(predicted, target), expected)


def test_labels_of_another_size_are_refused():
    model = GLPNForDepthEstimation(random_config(1, head_in_index=-1)).eval()
    with refused(InputError, got="labels of shape (1, 16, 16)", expected="(1, 32, 32)"):
        model(torch.zeros(1, 3, 32, 32), labels=torch.ones(1, 16, 16))


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        ((1, 3, 50, 64), r"an input height of 50 px; expected a multiple of 32 px; resize it to 32 px"),
        ((1, 3, 64, 70), r"an input width of 70 px; expected a multiple of 32 px; resize it to 64 px"),
        ((1, 3, 16, 64), r"an input height of 16 px; .* resize it to 32 px"),
        ((1, 3, 0, 64), r"an input height of 0 px"),
        ((3, 64, 64), r"pixel_values of shape \(3, 64, 64\); expected \(batch, 3, height, width\)"),
        ((1, 4, 64, 64), r"pixel_values of shape \(1, 4, 64, 64\); expected \(batch, 3,"),
    ],
)
@pytest.mark.parametrize("ours", [GLPNForDepthEstimation, GLPNModel])
def test_unusable_shapes_are_refused_with_the_size_to_use(ours, shape, text):
    if ours is GLPNModel and "a multiple of 32" in text:
        return  # the encoder alone takes any size, as HF's: see test_idioms
    with pytest.raises(InputError, match=text):
        ours(random_config(1, sr_ratios=(8, 4, 2, 1)))(torch.zeros(shape))


@torch.no_grad()
def test_sizes_that_only_just_fill_the_grid_equal_hf():
    """29 px makes eight patches a side as 32 px does; HF runs it, so this does."""
    theirs, ours = pair(random_config(1))
    pixels = images(1, size=(29, 62))
    close(ours(pixels).predicted_depth, theirs(pixels).predicted_depth, ours.config.max_depth)


def test_initial_weights_are_drawn_as_hf_draws_them():
    config = GLPNConfig(depths=(1, 1, 1, 1), initializer_range=0.05)
    torch.manual_seed(0)
    ours = GLPNForDepthEstimation(config)
    theirs = transformers.GLPNForDepthEstimation(hf_config(config))
    expected = theirs.state_dict()
    for name, tensor in ours.state_dict().items():
        if tensor.ndim > 1:
            assert tensor.std().item() == pytest.approx(
                0.05, rel=max(0.02, 4 * (2 * tensor.numel()) ** -0.5)
            ), name
            assert abs(tensor.mean()) < 5 * 0.05 * tensor.numel() ** -0.5, name
        else:  # norms, biases and statistics
            assert torch.equal(tensor, expected[name]), name


def test_norm_eps_original_touches_block_and_stage_norms_only():
    model = GLPNForDepthEstimation(random_config(0, sr_ratios=(8, 4, 2, 1), norm_eps="original"))
    eps = {name: m.eps for name, m in model.named_modules() if isinstance(m, nn.LayerNorm)}
    inner = {name for name, value in eps.items() if value == 1e-5}
    assert all("patch_embeddings" in name or "attention.self" in name for name in inner)
    assert all(value == 1e-6 for name, value in eps.items() if name not in inner)
