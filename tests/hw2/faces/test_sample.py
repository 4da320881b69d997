import os

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import save_image

from hw2.errors import InputError
from hw2.faces.checkpoint import load_face_unet
from hw2.faces.network import FaceUNet
from hw2.faces.sample import FaceSampler, batch_invariant, face_to_u8, load_noises
from hw2.files.output import OutputFolder, png_bytes
from tests.oracles import diffusers_ddim_scheduler, diffusers_face_unet, face_to_u8_twin


def sampler_of(network: FaceUNet, **options) -> FaceSampler:
    return FaceSampler(batch_invariant(network), **{"num_inference_steps": 10, **options})


@pytest.fixture
def noises(noise_folder):
    return load_noises(noise_folder)


# --- the recipe ---


def test_the_bundled_faces_are_those_of_diffusers_network_and_sampler(bundled_model, bundled_data):
    # The ground truth in fixtures/ was made by this pipeline, in 50 steps; here it runs in float64 against ours.
    network = load_face_unet(bundled_model)
    noise = load_noises(bundled_data / "face" / "noise")["03"]
    theirs = diffusers_face_unet(network.state_dict(), network.config).double()
    scheduler, sample = diffusers_ddim_scheduler(5), noise.double()
    for t in scheduler.timesteps:
        sample = scheduler.step(theirs(sample, t).sample, t, sample, eta=0.0).prev_sample
    [(_, ours)] = sampler_of(network, num_inference_steps=5).sample({"03": noise})
    torch.testing.assert_close(ours.double(), sample[0], rtol=1e-4, atol=1e-4)
    assert FaceSampler(batch_invariant(network)).num_inference_steps == 50


def test_without_eta_the_seed_does_not_matter_and_with_it_it_does(tiny_network, noises):
    def draw(seed, eta):
        return torch.stack(
            [face for _, face in sampler_of(tiny_network, num_inference_steps=3, seed=seed).sample(noises, eta)]
        )

    assert torch.equal(draw(0, 0.0), draw(1, 0.0))
    assert torch.equal(draw(0, 0.5), draw(0, 0.5))
    assert not torch.allclose(draw(0, 0.5), draw(1, 0.5))
    assert not torch.allclose(draw(0, 0.0), draw(0, 0.5))


def test_the_number_of_steps_matters(tiny_network, noises):
    three, four = (dict(sampler_of(tiny_network, num_inference_steps=n).sample(noises)) for n in (3, 4))
    assert not torch.allclose(three["00"], four["00"])


def test_a_face_is_the_same_bit_for_bit_whoever_shares_its_batch(bundled_model, bundled_data):
    network = load_face_unet(bundled_model)
    noises = dict(list(load_noises(bundled_data / "face" / "noise").items())[:5])

    def drawn(names, batch_size):  # with fresh noise
        sampler = sampler_of(network, num_inference_steps=2, batch_size=batch_size)
        return dict(sampler.sample({name: noises[name] for name in names}, 1.0))

    together = drawn(noises, 5)
    for batch_size, names in ((1, ["01", "04"]), (2, ["02", "03"]), (3, [*reversed(noises)])):
        others = drawn(names, batch_size)
        assert list(others) == names
        for name, face in others.items():
            assert torch.equal(face, together[name]), (batch_size, name)


def test_the_batch_invariant_network_is_the_network(tiny_network, noises):
    sample, timesteps = torch.cat(list(noises.values())), torch.full((5,), 981)
    expected = tiny_network(sample, timesteps)
    torch.testing.assert_close(batch_invariant(tiny_network)(sample, timesteps), expected)
    torch.testing.assert_close(batch_invariant(tiny_network)(sample[:1], timesteps[:1]), expected[:1])


def test_bfloat16_networks_take_and_give_float32(tiny_network, noises):
    sample, timesteps = torch.cat(list(noises.values())), torch.full((5,), 981)
    exact = batch_invariant(tiny_network)(sample, timesteps)
    rough = batch_invariant(tiny_network.bfloat16(), torch.bfloat16)(sample, timesteps)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05)
    assert not torch.equal(rough, exact)


def test_a_network_that_overflows_is_told(noises):
    sampler = FaceSampler(lambda sample, timesteps: sample * float("nan"), num_inference_steps=10)
    with pytest.raises(InputError, match=r"faces of 00, .* NaN or infinity; use float32"):
        list(sampler.sample(noises))


def test_the_steps_of_every_face_are_counted_for_the_progress_bar(tiny_network, noises):
    steps = []
    list(sampler_of(tiny_network, batch_size=2).sample(noises, on_step=lambda note, count: steps.append(count)))
    assert steps == [2] * 10 + [2] * 10 + [1] * 10


def test_finished_faces_are_not_drawn_again(tmp_path, tiny_network, noises):
    folder = OutputFolder(tmp_path / "out", [f"{name}.png" for name in noises], settings=1)
    kept = png_bytes(np.zeros((8, 8, 3), np.uint8))
    folder.write("02.png", kept)
    sampler_of(tiny_network).write(folder, noises)
    folder.finish()
    assert (tmp_path / "out" / "02.png").read_bytes() == kept
    alone = dict(sampler_of(tiny_network).sample(noises))
    for name in ("00", "01", "03", "04"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes() == png_bytes(face_to_u8(alone[name]))


# --- pixels ---


@pytest.mark.parametrize("scale", [0.3, 1.0, 5.0])
def test_pixels_and_files_are_those_of_torchvisions_save_image(tmp_path, scale):
    face = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(0)) * scale
    save_image(face, tmp_path / "theirs.png", normalize=True)
    with Image.open(tmp_path / "theirs.png") as image:
        np.testing.assert_array_equal(face_to_u8(face), np.asarray(image))
    assert png_bytes(face_to_u8(face)) == (tmp_path / "theirs.png").read_bytes()


def test_each_face_reaches_from_black_to_white_over_all_channels_together():
    face = torch.tensor([[[-2.0]], [[0.0]], [[2.0]]])
    assert face_to_u8(face).tolist() == [[[0, 128, 255]]]


def test_pixels_equal_the_recipe_number_by_number():
    face = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1)) * 2
    difference = np.array(face_to_u8(face), int) - np.array(face_to_u8_twin(face.double().numpy()))
    assert not difference.any()


def test_a_nearly_flat_face_is_not_stretched_to_full_contrast():
    face = torch.tensor([[[0.0]], [[5e-7]], [[1e-6]]])
    assert face_to_u8(face).tolist() == [[[0, 13, 26]]]  # save_image divides by 1e-5 at least


def test_a_noise_that_is_a_parameter_is_as_good(noise_folder):
    torch.save(torch.nn.Parameter(torch.ones(1, 3, 8, 8)), noise_folder / "02.pt")
    assert not load_noises(noise_folder)["02"].requires_grad


def test_noises_with_names_that_are_no_text_can_be_drawn(tiny_network, noise_folder):
    os.rename(noise_folder / "02.pt", os.path.join(os.fsencode(noise_folder), b"\xff.pt"))
    assert len(dict(sampler_of(tiny_network).sample(load_noises(noise_folder), 1.0))) == 5


# --- noises ---


def test_noises_are_named_after_their_files_in_order(noise_folder):
    assert list(load_noises(noise_folder)) == ["00", "01", "02", "03", "04"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (torch.zeros(1, 1, 8, 8), r"shape \[1, 1, 8, 8\]; expected \[1, 3, height, width\]"),
        (torch.zeros(3, 8, 8), r"shape \[3, 8, 8\]"),
        (torch.zeros(2, 3, 8, 8), r"shape \[2, 3, 8, 8\]"),
        (torch.zeros(1, 3, 0, 0), r"shape \[1, 3, 0, 0\]"),
        (torch.zeros(1, 3, 8, 8).half(), r"torch.float16; expected torch.float32"),
        (torch.zeros(1, 3, 8, 8).int(), r"torch.int32; expected torch.float32"),
        (torch.full((1, 3, 8, 8), torch.nan), "NaN or infinity"),
        (torch.zeros(1, 3, 16, 16), r"02.pt is \[1, 3, 16, 16\] but 00.pt is \[1, 3, 8, 8\]"),
        (torch.zeros(1, 3, 9, 9), "9x9 pixels; this network needs multiples of 2"),
        (torch.zeros(1, 3, 8, 8).to_sparse(), "torch.sparse_coo tensor"),
        (torch.zeros(1, 3, 8, 8, device="meta"), "on meta; expected plain numbers"),
        (torch.zeros(1).expand(1, 3, 10**6, 10**6), "1000000x1000000 pixels; at most 4096 a side"),
        ({"noise": torch.zeros(1, 3, 8, 8)}, "holds a dict; expected a tensor"),
        (len, "could run code"),
    ],
)
def test_a_noise_that_is_none_is_named_with_what_was_found(noise_folder, content, sentence):
    torch.save(content, noise_folder / "02.pt")
    with pytest.raises(InputError, match=sentence) as error:
        load_noises(noise_folder, downsampling=2)
    assert str(noise_folder / "02.pt") in str(error.value)


def test_a_folder_without_noises_is_told(tmp_path):
    with pytest.raises(InputError, match="has no noise files"):
        load_noises(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        load_noises(tmp_path / "nowhere")
