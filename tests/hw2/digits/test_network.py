import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hw2.digits.info import alternatives, cost
from hw2.digits.network import NULL_DATASET, NULL_DIGIT, DigitUNet, DigitUNetConfig, sinusoids


def batch(count, seed=0):
    g = torch.Generator().manual_seed(seed)
    sample = torch.randn(count, 3, 28, 28, generator=g)
    return sample, torch.randint(10, (count,), generator=g), torch.randint(2, (count,), generator=g)


def test_the_default_network_has_its_size():
    assert sum(p.numel() for p in DigitUNet().parameters()) == 3_719_820


def test_an_untrained_network_ignores_its_input_and_every_parameter_learns():
    network = DigitUNet(DigitUNetConfig(channels=(16, 32), num_res_blocks=(1, 1), head_dim=16))
    sample, digits, datasets = batch(4)
    labels = torch.tensor([0, 5, 9, NULL_DIGIT]), torch.tensor([0, 1, NULL_DATASET, 0])
    output = network(sample, torch.tensor([1, 5, 500, 999]), digits, datasets)
    assert torch.equal(output[:1].expand(4, -1, -1, -1), output)
    for p in network.parameters():
        torch.nn.init.normal_(p, std=0.1)
    network(sample, torch.tensor([1, 5, 500, 999]), *labels).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("changed", ["timesteps", "digits", "datasets", "null digit", "null dataset"])
def test_every_condition_changes_the_prediction_of_its_own_image_only(tiny_digit_model, changed):
    sample, _, _ = batch(3)
    inputs = {
        k: torch.tensor(v) for k, v in {"timesteps": [1, 500, 999], "digits": [1, 2, 3], "datasets": [0, 1, 0]}.items()
    }
    other = {k: v.clone() for k, v in inputs.items()}
    key = {"null digit": "digits", "null dataset": "datasets"}.get(changed, changed)
    other[key][1] = {"timesteps": 501, "digits": 7, "datasets": 0, "null digit": NULL_DIGIT, "null dataset": 2}[changed]
    a, b = (tiny_digit_model.network(sample, *x.values()) for x in (inputs, other))
    assert (a[1] - b[1]).abs().max() > 1e-4
    torch.testing.assert_close(a[[0, 2]], b[[0, 2]], rtol=0, atol=1e-6)


def test_one_shared_timestep_gives_the_same_as_one_for_each_image(tiny_digit_model):
    sample, digits, datasets = batch(5)
    digits[0], datasets[1] = NULL_DIGIT, NULL_DATASET
    shared = tiny_digit_model.network(sample, torch.tensor([321]), digits, datasets)
    each = tiny_digit_model.network(sample, torch.full((5,), 321), digits, datasets)
    torch.testing.assert_close(shared, each, rtol=1e-5, atol=1e-5)


@given(st.permutations(range(4)))
@settings(max_examples=10)
def test_a_permuted_batch_gives_permuted_predictions(order):
    torch.manual_seed(0)
    network = DigitUNet(DigitUNetConfig(channels=(16, 32), num_res_blocks=(1, 1), head_dim=16)).eval()
    torch.nn.init.normal_(network.out.weight)
    sample, digits, datasets = batch(4)
    index = torch.tensor(order)
    with torch.no_grad():
        straight = network(sample, torch.tensor([7]), digits, datasets)[index]
        permuted = network(sample[index], torch.tensor([7]), digits[index], datasets[index])
    torch.testing.assert_close(straight, permuted, rtol=1e-4, atol=1e-5)


def test_attention_equals_pytorchs():
    from hw2.digits.network import SelfAttention

    torch.manual_seed(0)
    attention = SelfAttention(16, groups=4, head_dim=8).double()
    torch.nn.init.normal_(attention.out.weight)
    sample = torch.randn(2, 16, 3, 3, dtype=torch.float64)
    theirs = torch.nn.MultiheadAttention(16, 2, batch_first=True, dtype=torch.float64)
    theirs.load_state_dict({
        "in_proj_weight": attention.qkv.weight, "in_proj_bias": attention.qkv.bias,
        "out_proj.weight": attention.out.weight, "out_proj.bias": attention.out.bias,
    })  # fmt: skip
    tokens = attention.norm(sample).flatten(2).transpose(1, 2)
    expected = sample + theirs(tokens, tokens, tokens)[0].transpose(1, 2).reshape(2, 16, 3, 3)
    torch.testing.assert_close(attention(sample), expected)


def test_sinusoids_are_those_of_diffusers():
    from diffusers.models.embeddings import get_timestep_embedding

    timesteps = torch.tensor([0, 1, 500, 999])
    expected = get_timestep_embedding(timesteps, 64, downscale_freq_shift=0)
    torch.testing.assert_close(sinusoids(timesteps, 64), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    "bad",
    [
        {"channels": ()},
        {"channels": (64, -128)},
        {"channels": (60, 128)},
        {"patch_size": 3},
        {"patch_size": 4, "channels": (64, 64, 64), "num_res_blocks": (1, 1, 1)},
        {"num_res_blocks": (2,)},
        {"num_res_blocks": (2, 17)},
        {"attention_levels": (2,)},
        {"head_dim": 48},
        {"channels": (64, 1e9)},
        {"patch_size": True},
    ],
)
def test_numbers_that_build_no_network_are_refused(bad):
    with pytest.raises(ValueError, match="got"):
        DigitUNetConfig(**bad)


def test_operations_are_counted_once_and_by_part():
    config = DigitUNetConfig(channels=(16, 32), num_res_blocks=(1, 1), attention_levels=(), head_dim=16)
    spent = cost(config)
    assert sum(spent.parts.values()) == spent.operations
    # stem: a 3x3 convolution of 12 channels into 16 at each of 14x14 places, two operations a weight
    assert spent.parts["stem"] == 2 * 14 * 14 * 16 * 12 * 9
    # down: two 3x3 convolutions and a linear layer of the condition in each of two blocks
    linear = 2 * 64 * 2
    assert spent.parts["down"] == 2 * 9 * 2 * (196 * 16**2 + 49 * 32**2) + linear * (16 + 32)
    assert spent.parameters == sum(p.numel() for p in DigitUNet(config).parameters())


def test_alternatives_are_networks_that_cost_something_else():
    costs = {name: cost(config).operations for name, config in alternatives(DigitUNetConfig()).items()}
    assert costs["without attention"] < costs["this network"] < costs["attention at 14x14 too"]
    assert costs["pixels not folded, three levels"] > 1.5 * costs["this network"]
