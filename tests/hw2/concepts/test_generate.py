import pytest
import torch
from torch.testing import assert_close

from hw2.concepts.generate import ConceptSampler, fit_batch, image_to_u8, official_names

NAMES = {f"0/{i % 2}/source0_prompt{i % 2}_{i}.png": ("a red dog", "the cat on the beach")[i % 2] for i in range(9)}


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model


def draw(model, names=NAMES, **options):
    return dict(ConceptSampler(model, **{"num_inference_steps": 2} | options).sample(names))


@pytest.fixture(scope="module")
def whole(model):
    """The pictures of `NAMES`, five at a time."""
    return draw(model, batch_size=5)


def test_names_are_the_homeworks():
    names = official_names({"0": ["x", "y"], "7": ["z"]})
    assert len(names) == 75
    assert names["0/1/source0_prompt1_24.png"] == "y"
    assert names["7/0/source7_prompt0_0.png"] == "z"


@pytest.mark.parametrize("batch_size", [1, 4, 9])
def test_a_picture_is_the_same_bits_in_any_batch(model, whole, batch_size):
    parts = draw(model, batch_size=batch_size)
    assert list(whole) == list(parts) == list(NAMES)
    assert all(torch.equal(whole[name], parts[name]) for name in NAMES)


def test_a_picture_is_the_same_bits_in_any_order_and_company(model, whole):
    backwards = draw(model, dict(reversed(NAMES.items())))
    alone = draw(model, dict([list(NAMES.items())[4]]))
    assert all(torch.equal(whole[name], backwards[name]) for name in NAMES)
    assert all(torch.equal(whole[name], image) for name, image in alone.items())


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"guidance_scale": 2.0}, {"num_inference_steps": 3}, {"sampler": "ddim"}]
)
def test_every_option_changes_the_pictures(model, whole, change):
    (name, prompt), *_ = NAMES.items()
    assert not torch.allclose(whole[name], draw(model, {name: prompt}, **change)[name], atol=1e-3)


def test_names_and_prompts_change_the_pictures(model):
    images = draw(model, {"a": "a red dog", "b": "a red dog"})
    assert not torch.allclose(images["a"], images["b"], atol=1e-2)
    assert not torch.allclose(images["a"], draw(model, {"a": "the cat"})["a"], atol=1e-2)


def test_guidance_one_is_the_prompt_alone(model):
    sampler = ConceptSampler(model, guidance_scale=1.0)
    states = model.encode_prompts(["a red dog"])
    sample, timesteps = sampler.noise(["x"]), torch.tensor([500])
    with torch.no_grad():
        alone = model.unet(sample, timesteps, states).sample
        empty = model.unet(sample, timesteps, model.encode_prompts([""])).sample
        assert_close(sampler.guided(states)(sample, timesteps), alone, rtol=0, atol=1e-5)
        three = ConceptSampler(model, guidance_scale=3.0).guided(states)(sample, timesteps)
    assert_close(three, empty + 3 * (alone - empty), rtol=0, atol=1e-4)


class _Gpu:
    """Memory as a GPU of `total` bytes would report it: a model of 2 GB, and 1 GB more for every image of a step."""

    def __init__(self, total):
        self.total, self.peak = total, 0

    def install(self, monkeypatch):
        fakes = {
            "reset_peak_memory_stats": lambda device: None,
            "max_memory_allocated": lambda device: self.peak,
            "memory_allocated": lambda device: 2e9,
            "memory_reserved": lambda device: 5e9,
            "mem_get_info": lambda device: (self.total - 5e9, self.total),
        }
        for name, fake in fakes.items():
            monkeypatch.setattr(torch.cuda, name, fake)
        monkeypatch.setattr("hw2.concepts.generate.free_memory", lambda: None)  # it would look through all objects


@pytest.mark.parametrize(
    ("total", "needs", "images"),
    [
        (20e9, {}, 14),
        (20e9, {"rows": 4}, 7),
        (20e9, {"kept": int(1e9)}, 7),
        (20e9, {"rows": 4, "kept": int(1e9)}, 4),
        (80e9, {}, 25),
        (3e9, {}, 1),
    ],
)
def test_as_many_images_are_drawn_at_once_as_memory_holds(monkeypatch, total, needs, images):
    gpu = _Gpu(total)
    gpu.install(monkeypatch)

    class OnGpu:
        device, latent_shape = torch.device("cuda"), (4, 8, 8)
        encode_prompts = staticmethod(lambda prompts: torch.zeros(1, 77, 32))

        @staticmethod
        def predict(sample, timesteps, states):
            assert len(sample) == len(timesteps) == len(states)
            gpu.peak = 2e9 + len(sample) / 2 * 1e9

    monkeypatch.setattr(torch, "zeros", lambda *shape, device=None, dtype=None: torch.empty(shape))
    assert fit_batch(OnGpu, **needs).images == images


@pytest.mark.parametrize(("side", "images"), [(8, 25), (16, 25), (32, 20), (64, 5), (96, 2), (160, 1)])
def test_on_a_cpu_as_many_are_drawn_as_take_the_room_of_five_of_stable_diffusions(side, images):
    class OnCpu:
        device, latent_shape = torch.device("cpu"), (4, side, side)

    assert fit_batch(OnCpu) == (images, 0)


def test_where_two_images_do_not_fit_one_is_drawn_at_once(monkeypatch):
    gpu = _Gpu(3e9)
    gpu.install(monkeypatch)

    class OnGpu:
        device, latent_shape = torch.device("cuda"), (4, 8, 8)
        encode_prompts = staticmethod(lambda prompts: torch.zeros(1, 77, 32))

        @staticmethod
        def predict(sample, timesteps, states):
            if len(sample) > 2:
                raise torch.OutOfMemoryError("CUDA out of memory.")
            gpu.peak = 2.5e9

    monkeypatch.setattr(torch, "zeros", lambda *shape, device=None, dtype=None: torch.empty(shape))
    assert fit_batch(OnGpu) == (1, 2.5e9)


def test_pixels_are_rounded_and_clamped():
    image = torch.tensor([-9.0, -1.0, 0.0, 1.0]).view(1, 1, 4).expand(3, 1, 4)
    assert image_to_u8(image)[0, :, 0].tolist() == [0, 0, 128, 255]
    assert image_to_u8(image).shape == (1, 4, 3)
