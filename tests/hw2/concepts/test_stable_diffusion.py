"""Oracles: diffusers' own pipeline and its loader of learned words."""

import copy
import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from hw2.concepts.embeddings import save_embeddings, token_pieces
from hw2.concepts.generate import ConceptSampler
from hw2.concepts.stable_diffusion import WordTable, load_stable_diffusion
from hw2.errors import InputError
from tests.models.tiny_sd import save_tiny_stable_diffusion, tiny_parts, tiny_tokenizer


def diffusers_pipeline(folder, prediction_type="epsilon"):
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
        steps_offset=1, prediction_type=prediction_type,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline.from_pretrained(
        folder, scheduler=scheduler, safety_checker=None, feature_extractor=None, image_encoder=None
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module", params=["epsilon", "v_prediction"])
def folder(request, tmp_path_factory):
    path = save_tiny_stable_diffusion(tmp_path_factory.mktemp("sd"), request.param)
    config = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.35.0"}
    config |= {
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"],
    }  # fmt: skip
    (path / "model_index.json").write_text(json.dumps(config))
    return path, request.param


def test_pictures_are_those_of_diffusers_own_pipeline(folder):
    path, prediction_type = folder
    sampler = ConceptSampler(load_stable_diffusion(path), "ddim", num_inference_steps=3, guidance_scale=5.0)
    names = {"0": "a red dog on the beach", "1": "the cat"}
    ours = torch.stack([image for _, image in sampler.sample(names)])
    pipeline = diffusers_pipeline(path, prediction_type)
    theirs = pipeline(
        list(names.values()), latents=sampler.noise(list(names)), num_inference_steps=3, guidance_scale=5.0,
        output_type="pt",
    ).images  # fmt: skip
    assert_close((ours / 2 + 0.5).clamp(0, 1), theirs, rtol=0, atol=2e-4)
    assert theirs.std() > 0.05


def test_learned_words_draw_what_diffusers_loader_makes_of_the_same_file(folder, tmp_path):
    path, prediction_type = folder
    vectors = torch.randn(3, 32, generator=torch.Generator().manual_seed(1))
    save_embeddings(tmp_path / "learned_embeds.safetensors", {"<new1>": vectors})
    model = load_stable_diffusion(path)
    model.add_words({"<new1>": vectors})
    pipeline = diffusers_pipeline(path, prediction_type)
    pipeline.load_textual_inversion(tmp_path / "learned_embeds.safetensors")
    prompt = "a red <new1> on the beach"
    ids = pipeline.tokenizer(pipeline.maybe_convert_prompt(prompt, pipeline.tokenizer), padding="max_length")
    assert model.tokenize([prompt])[0].tolist() == ids.input_ids
    theirs = pipeline.text_encoder(torch.tensor([ids.input_ids])).last_hidden_state
    assert_close(model.encode_prompts([prompt]), theirs, rtol=0, atol=1e-6)


def test_a_new_word_changes_no_prompt_without_it(tiny_model):
    model = copy.deepcopy(tiny_model)
    before = model.encode_prompts(["a red dog", ""])
    model.add_words({"<new1>": torch.randn(2, 32)})
    assert torch.equal(model.encode_prompts(["a red dog", ""]), before)
    assert not torch.allclose(model.encode_prompts(["a red <new1>"]), before[:1], atol=0.1)


def test_latents_are_the_autoencoders_scaled_and_decode_undoes_the_scale(tiny_model):
    model = copy.deepcopy(tiny_model)
    _, vae, _ = tiny_parts()
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        expected = vae.encode(images).latent_dist
    mean, std = model.latent_distribution(images)
    assert_close(mean, expected.mean * 0.5, rtol=0, atol=1e-5)
    assert_close(std, expected.std * 0.5, rtol=0, atol=1e-5)
    with torch.no_grad():
        assert_close(model.decode(mean), vae.decode(expected.mean).sample, rtol=0, atol=1e-5)
    assert model.image_size == 16


@settings(max_examples=50)
@given(ids=st.lists(st.integers(0, 9), min_size=1, max_size=12), learned=st.integers(0, 3))
def test_a_word_table_looks_up_one_list_of_both_kinds(ids, learned):
    table = WordTable(torch.randn(10 - learned, 4))
    table.vectors = torch.nn.Parameter(torch.randn(learned, 4), requires_grad=False)
    everything = torch.cat([table.weight, table.vectors])
    assert torch.equal(table(torch.tensor([ids])), everything[torch.tensor([ids])])


def test_only_learned_rows_get_a_gradient():
    table = WordTable(torch.randn(5, 4))
    table.vectors = torch.nn.Parameter(torch.randn(2, 4))
    table(torch.tensor([[0, 5, 5, 4]])).sum().backward()
    assert table.vectors.grad.tolist() == [[2.0] * 4, [0.0] * 4]
    assert not table.weight.requires_grad


def test_gradients_are_the_same_bits_each_time():
    table = WordTable(torch.zeros(100, 128))
    table.vectors = torch.nn.Parameter(torch.zeros(6, 128))
    ids = 100 + torch.randint(6, (64, 32), generator=torch.Generator().manual_seed(0))
    upstream = torch.randn(64, 32, 128, generator=torch.Generator().manual_seed(1))
    grads = [torch.autograd.grad(table(ids), table.vectors, upstream)[0] for _ in range(20)]
    assert all(torch.equal(grad, grads[0]) for grad in grads)


def test_a_token_of_several_vectors_takes_several_places(tiny_model):
    model = copy.deepcopy(tiny_model)
    plain = model.tokenize(["a dog on"])[0]
    model.add_words({"<new1>": torch.randn(3, 32)})
    ids = model.tokenize(["a <new1> on"])[0]
    V = len(tiny_tokenizer())
    assert ids[:7].tolist() == [plain[0], plain[1], V, V + 1, V + 2, plain[3], plain[4]]
    assert token_pieces("<x>", 3) == ["<x>", "<x>_1", "<x>_2"]
    twice = model.tokenize(["a <new1> and <new1>"])[0].tolist()
    assert (twice[2:5], twice[6:9], twice[9]) == ([V, V + 1, V + 2], [V, V + 1, V + 2], plain[4])


def refused(match, call, *args, **options):
    with pytest.raises(InputError, match=match) as caught:
        call(*args, **options)
    assert "\n" not in str(caught.value)


def test_words_that_cannot_be_added_are_refused(tiny_model):
    model = copy.deepcopy(tiny_model)
    refused("is 768 wide, and this model's words are 32 wide", model.add_words, {"<new1>": torch.randn(1, 768)})
    model.add_words({"<new1>": torch.randn(1, 32)})
    refused("<new1> is a word of the model already", model.add_words, {"<new1>": torch.randn(1, 32)})


def test_prompts_that_cannot_be_read_are_refused(tiny_model):
    model = copy.deepcopy(tiny_model)
    model.tokenize(["dog " * 75])  # 77 with start and end
    refused("has 78 tokens with start and end; shorten it to at most 77", model.tokenize, ["dog " * 76])
    refused("has <new7>, but no embedding", model.tokenize, ["a <new7>"])


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_folder_with_a_part_missing_is_refused(tiny_sd, tmp_path, part):
    shutil.copytree(tiny_sd, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns(part))
    refused(f"has no folder {part}", load_stable_diffusion, tmp_path)


@pytest.fixture
def folder_copy(tiny_sd, tmp_path):
    return shutil.copytree(tiny_sd, tmp_path / "sd")


def test_broken_parts_are_refused(folder_copy):
    folder = folder_copy
    refused("does not exist", load_stable_diffusion, folder / "none")
    weights = folder / "vae" / "diffusion_pytorch_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    refused("vae cannot be loaded", load_stable_diffusion, folder)
    tensors = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    weights.write_bytes(whole)
    tensors["conv_in.bias"][0] = float("nan")
    save_file(tensors, folder / "unet" / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    refused("not finite: conv_in.bias", load_stable_diffusion, folder)


@pytest.mark.parametrize(
    ("part", "file"),
    [
        ("unet", "diffusion_pytorch_model.safetensors"),
        ("vae", "diffusion_pytorch_model.safetensors"),
        ("text_encoder", "model.safetensors"),
    ],
)
def test_weights_that_are_missing_are_not_made_up(folder_copy, part, file):
    weights = folder_copy / part / file
    tensors = load_file(weights)
    tensors.pop(sorted(tensors)[5])
    save_file(tensors, weights, metadata={"format": "pt"})
    refused(part, load_stable_diffusion, folder_copy)


@pytest.mark.parametrize(
    ("file", "changes", "sentence"),
    [
        ("unet/config.json", {"sample_size": None}, "whose sample_size is None; expected a number"),
        ("unet/config.json", {"sample_size": 0}, "whose sample_size is 0"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": "77"}, "a tokenizer for '77' tokens a prompt"),
        ("tokenizer/tokenizer_config.json", {"model_max_length": -1}, "a tokenizer for -1 tokens a prompt"),
        ("unet/config.json", {"layers_per_block": [1, 2**64]}, "under layers_per_block; expected at most 1000"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": float("inf")}, "does not describe a supported"),
        (
            "tokenizer/tokenizer_config.json",
            {"model_max_length": 99},
            "99 tokens a prompt and a text encoder for 77",
        ),
        ("text_encoder/config.json", {"num_hidden_layers": 1}, "not in its config"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**12}, "1000000000000 timesteps"),
    ],
)
def test_parts_that_do_not_fit_together_are_refused(folder_copy, file, changes, sentence):
    path = folder_copy / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    refused(sentence, load_stable_diffusion, folder_copy)


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"num_train_timesteps": 1000, "beta_start": 1, "beta_end": 2, "beta_schedule": "x"}']
)
def test_a_scheduler_of_another_kind_is_refused(folder_copy, content):
    (folder_copy / "scheduler" / "scheduler_config.json").write_text(content)
    refused("does not describe a supported schedule" if content else "is empty", load_stable_diffusion, folder_copy)


def test_a_pickle_beside_the_configuration_does_not_run(folder_copy, tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    (folder_copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    torch.save({"x": Evil()}, folder_copy / "vae" / "diffusion_pytorch_model.bin")
    refused("vae cannot be loaded", load_stable_diffusion, folder_copy)
    assert not (tmp_path / "ran").exists()
