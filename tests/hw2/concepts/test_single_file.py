import os
import re
import socket
import struct
import sys
import types
from functools import cache

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from open_clip import tokenizer as open_clip_tokenizer
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from hw2.concepts import single_file
from hw2.concepts.single_file import (
    SingleFileConfig,
    build_stable_diffusion,
    read_single_file,
    sd_v1_tokenizer,
    unet_to_ldm,
    vae_to_ldm,
)
from hw2.errors import InputError
from hw2.files.torch_file import read_torch_file
from tests.hw2.concepts import compvis

MODULE = "pytorch_lightning.callbacks.model_checkpoint"

SMALL = SingleFileConfig(
    unet={
        "sample_size": 8, "block_out_channels": (32, 64, 64), "layers_per_block": 2, "attention_head_dim": 4,
        "cross_attention_dim": 24,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
    },
    vae={
        "sample_size": 16, "block_out_channels": (32, 64, 32), "layers_per_block": 1, "latent_channels": 4,
        "scaling_factor": 0.18215, "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
    },
    text_encoder={
        "vocab_size": 50, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
        "num_attention_heads": 3, "max_position_embeddings": 77, "hidden_act": "quick_gelu", "bos_token_id": 48,
        "eos_token_id": 49, "pad_token_id": 49,
    },
)  # fmt: skip


@cache
def original():
    """The three networks as CompVis has them, none of their weights zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        unet = compvis.UNetModel(32, (1, 2, 2), layers=2, attention=(0, 1), context=24, heads=4)
        vae = compvis.AutoencoderKL(32, (1, 2, 1), layers=1)
        text = CLIPTextModel(CLIPTextConfig(**SMALL.text_encoder))
        for network in (unet, vae, text):
            for parameter in network.parameters():
                noise = torch.randn_like(parameter)
                parameter.data = noise / parameter[0].numel() ** 0.5 if parameter.ndim > 1 else 1 + 0.3 * noise
            network.eval().requires_grad_(False)
    return unet, vae, text


def original_tensors():
    """What the original file holds under state_dict, with all that only training needs."""
    unet, vae, text = original()
    words = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in text.state_dict().items()}
    return {
        **{f"model.diffusion_model.{name}": value.clone() for name, value in unet.state_dict().items()},
        **{f"first_stage_model.{name}": value.clone() for name, value in vae.state_dict().items()},
        **{f"cond_stage_model.transformer.{name}": value.clone() for name, value in words.items()},
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
        "betas": torch.rand(1000),
        "alphas_cumprod": torch.rand(1000),
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(3, dtype=torch.int32),
        "model_ema.diffusion_modelout2bias": torch.zeros(4),
    }


@pytest.fixture
def tensors():
    return original_tensors()


@pytest.fixture
def lightning(monkeypatch):
    """The class that the original file was pickled with, importable while the test writes its file."""
    module = types.ModuleType(MODULE)
    for name in ("ModelCheckpoint", "Other"):
        setattr(module, name, type(name, (), {"__module__": MODULE}))
    for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, MODULE, module)
    return module


def assert_outputs_are_the_originals(networks):
    unet, vae, text = networks
    old_unet, old_vae, old_text = original()
    g = torch.Generator().manual_seed(1)
    latents, context = torch.randn(2, 4, 8, 8, generator=g), torch.randn(2, 7, 24, generator=g)
    timesteps = torch.tensor([3, 981])
    expected = old_unet(latents, timesteps, context)
    assert expected.std() > 0.1
    torch.testing.assert_close(unet(latents, timesteps, context).sample, expected, rtol=1e-4, atol=1e-4)
    image = torch.rand(2, 3, 16, 16, generator=g) * 2 - 1
    torch.testing.assert_close(vae.encode(image).latent_dist.parameters, old_vae.moments(image), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(vae.decode(latents).sample, old_vae.decode(latents), rtol=1e-4, atol=1e-4)
    ids = torch.tensor([[48, *range(10, 30), *[49] * 56]])
    assert torch.equal(text(ids).last_hidden_state, old_text(ids).last_hidden_state)


@pytest.mark.parametrize("kind", ["lightning", "old format", "safetensors"])
def test_the_networks_compute_what_the_originals_compute(tmp_path, tensors, lightning, monkeypatch, kind):
    path = tmp_path / ("model.safetensors" if kind == "safetensors" else "model.ckpt")
    if kind == "safetensors":
        save_file(tensors, path)
    else:
        callbacks = {lightning.ModelCheckpoint: {"monitor": "val/loss", "best_model_score": torch.tensor(0.1)}}
        whole = {"epoch": 6, "global_step": 470000, "callbacks": callbacks, "state_dict": tensors}
        torch.save(whole, path, _use_new_zipfile_serialization=kind != "old format")
    monkeypatch.undo()  # Lightning is gone again
    before = set(torch.serialization.get_safe_globals())
    networks = read_single_file(path, SMALL)
    assert set(torch.serialization.get_safe_globals()) == before
    assert_outputs_are_the_originals(networks)
    for network in networks:
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())
        assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    counted = sum(len(network.state_dict()) for network in networks)
    assert counted == len([name for name in tensors if name.count(".") > 1]) - 1  # position_ids


def test_half_precision_becomes_float32(tmp_path, tensors):
    """In a file of nothing but the tensors."""
    torch.save({name: value.half() for name, value in tensors.items()}, tmp_path / "model.ckpt")
    unet, *others = read_single_file(tmp_path / "model.ckpt", SMALL)
    for network in (unet, *others):
        assert {value.dtype for value in network.state_dict().values()} == {torch.float32}
    assert torch.equal(unet.conv_in.bias, tensors["model.diffusion_model.input_blocks.0.0.bias"].half().float())


def test_nothing_is_fetched_from_anywhere(tmp_path, tensors, monkeypatch):
    def refuse(*arguments):
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    save_file(tensors, tmp_path / "model.safetensors")
    read_single_file(tmp_path / "model.safetensors", SMALL)
    sd_v1_tokenizer()


def test_the_default_is_v1_4():
    config = SingleFileConfig()
    with init_empty_weights():
        unet, vae = UNet2DConditionModel(**config.unet), AutoencoderKL(**config.vae)
        text = CLIPTextModel(CLIPTextConfig(**config.text_encoder))
    sizes = [sum(p.numel() for p in network.parameters()) for network in (unet, vae, text)]
    assert sizes == [859_520_964, 83_653_863, 123_060_480]  # as diffusers' and CompVis' model cards count them
    names = {unet_to_ldm(name, 2, {1, 2, 3}): name for name in unet.state_dict()}
    assert len(names) == len(unet.state_dict()) == 686
    known = {
        "input_blocks.4.0.skip_connection.weight": (640, 320, 1, 1),
        "input_blocks.9.0.op.bias": (1280,),
        "output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
        "output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
        "output_blocks.11.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        "middle_block.1.proj_in.weight": (1280, 1280, 1, 1),
    }
    for name, shape in known.items():
        assert unet.state_dict()[names[name]].shape == shape
    # diffusers' own converter, which looks up these names, finds every tensor where ours puts it
    numbered = {f"model.diffusion_model.{old}": torch.tensor(hash(new)) for old, new in names.items()}
    converted = convert_ldm_unet_checkpoint(numbered, dict(unet.config))
    assert {name: int(value) for name, value in converted.items()} == {name: hash(name) for name in unet.state_dict()}
    old_vae = {vae_to_ldm(name, 4): name for name in vae.state_dict()}
    assert len(old_vae) == len(vae.state_dict()) == 248
    numbered = {f"first_stage_model.{old}": torch.full((1, 1, 1, 1), hash(new)) for old, new in old_vae.items()}
    converted = convert_ldm_vae_checkpoint(numbered, dict(vae.config))
    assert {name: int(value) for name, value in converted.items()} == {name: hash(name) for name in vae.state_dict()}
    text_config = text.config
    assert (text_config.hidden_act, text_config.num_attention_heads, text_config.layer_norm_eps) == (
        "quick_gelu", 12, 1e-5,
    )  # fmt: skip
    assert (unet.config.attention_head_dim, unet.config.sample_size, vae.config.scaling_factor) == (8, 64, 0.18215)


def test_missing_extra_misshapen_and_broken_tensors_are_named(tmp_path, tensors):
    def refused(changes, *sentences):
        changed = {**tensors, **changes}
        torch.save({name: value for name, value in changed.items() if value is not None}, tmp_path / "model.ckpt")
        with pytest.raises(InputError) as error:
            read_single_file(tmp_path / "model.ckpt", SMALL)
        for sentence in (str(tmp_path / "model.ckpt"), *sentences):
            assert sentence in str(error.value)
        assert "\n" not in str(error.value)

    unet, vae, text = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer.text_model."
    extra, nan = torch.zeros(3), torch.full((4,), torch.nan)
    refused(
        {f"{unet}time_embed.0.bias": None, f"{unet}input_blocks.99.0.op.bias": extra, f"{unet}out.2.bias": nan},
        "does not fit the UNet2DConditionModel",
        "missing: time_embedding.linear_1.bias",
        f"not the network's: {unet}input_blocks.99.0.op.bias",
        "without finite floating numbers: conv_out.bias",
    )
    attention = f"{vae}decoder.mid.attn_1"
    refused(
        {f"{attention}.k.weight": None, f"{attention}.q.weight": torch.zeros(32, 32, 3, 3), f"{vae}loss.x": extra},
        "does not fit the AutoencoderKL",
        "decoder.mid_block.attentions.0.to_k.weight",
        "is [32, 288] instead of [32, 32]",
        f"not the network's: {vae}loss.x",
    )
    refused({f"{text}final_layer_norm.bias": None}, "does not fit the CLIPTextModel", "final_layer_norm.bias")
    refused({f"{unet}out.2.bias": "x"}, "out.2.bias, which is not a tensor")
    for name in ("cond_stage_model.model.transformer.resblocks.0.ln_1.bias", "conditioner.embedders.0.x"):
        refused({name: extra}, f"{name}, which Stable Diffusion v1 does not have; expected v1")


def test_other_files_are_refused_in_one_sentence(tmp_path, tensors, tiny_checkpoint, tiny_network):
    def refused(path, sentence):
        with pytest.raises(InputError, match=sentence) as error:
            read_single_file(path, SMALL)
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)

    torch.save(tiny_network.state_dict(), tmp_path / "UNet.pt")
    refused(tmp_path / "UNet.pt", "holds a dict with the entries time.0.inv_freq.*expected Stable Diffusion v1")
    refused(tiny_checkpoint, "expected Stable Diffusion v1 in one file")
    torch.save([1, 2], tmp_path / "list.ckpt")
    refused(tmp_path / "list.ckpt", "holds a list; expected")
    torch.save({"state_dict": [1]}, tmp_path / "odd.ckpt")
    refused(tmp_path / "odd.ckpt", "holds a dict with the entries state_dict")
    refused(tmp_path / "nowhere.ckpt", "is not a file; expected")
    refused(tmp_path, "is not a file; expected")
    disks = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 2) + b"PK\x05\x06" + bytes(18)
    (tmp_path / "part.ckpt").write_bytes(b"PK\x03\x04" + disks)  # an archive on two disks, which zipfile cannot open
    refused(tmp_path / "part.ckpt", "not a readable PyTorch file")
    (tmp_path / "tail.ckpt").write_bytes(b"tail" + disks)
    refused(tmp_path / "tail.ckpt", "not a PyTorch file|not a readable PyTorch file")
    torch.save(tensors, tmp_path / "whole.ckpt")
    save_file(tensors, tmp_path / "whole.safetensors")
    for name in ("whole.ckpt", "whole.safetensors"):
        content = (tmp_path / name).read_bytes()
        for share in (0, 0.01, 0.5, 0.99):
            (tmp_path / f"cut {name}").write_bytes(content[: int(share * len(content))])
            refused(tmp_path / f"cut {name}", "not a readable|no PyTorch file" if share else "empty")


def test_nothing_but_the_one_class_is_unpickled(tmp_path, tensors, lightning, monkeypatch):
    class Hostile:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/ran",)

    def refused():
        with pytest.raises(InputError, match="anything but tensors could run code"):
            read_single_file(tmp_path / "model.ckpt", SMALL)
        assert not (tmp_path / "ran").exists()

    torch.save({"state_dict": tensors, "callbacks": Hostile()}, tmp_path / "model.ckpt")
    refused()
    torch.save({"state_dict": tensors, "callbacks": {lightning.Other: 1}}, tmp_path / "model.ckpt")
    refused()
    torch.save({"state_dict": tensors, "callbacks": {lightning.ModelCheckpoint: 1}}, tmp_path / "model.ckpt")
    monkeypatch.undo()
    read_single_file(tmp_path / "model.ckpt", SMALL)
    with pytest.raises(InputError, match="could run code"):  # the permission ends with the reading
        read_torch_file(tmp_path / "model.ckpt")


def test_a_file_is_mapped_and_not_held_twice(tmp_path, tensors, monkeypatch):
    seen = []
    load = torch.load
    monkeypatch.setattr(
        torch, "load", lambda *a, **k: seen.append(torch.utils.serialization.config.load.mmap) or load(*a, **k)
    )
    torch.save(tensors, tmp_path / "model.ckpt")
    unet = read_single_file(tmp_path / "model.ckpt", SMALL)[0]
    assert seen == [True]
    before = unet.conv_in.bias.clone()
    torch.save({"x": torch.zeros(10**6)}, tmp_path / "model.ckpt")  # the networks do not live in the file
    assert torch.equal(unet.conv_in.bias, before)


# --- words


@pytest.fixture(scope="module")
def tokenizer():
    return sd_v1_tokenizer()


def openai_ids(text):
    """Padded as v1 pads: with the end sign."""
    ids = open_clip_tokenizer.SimpleTokenizer.__call__(open_clip_tokenizer._tokenizer, [text])[0]
    end = int((ids == 49407).nonzero()[0])
    return [*ids[: end + 1].tolist(), *[49407] * (76 - end)]


def ids_of(tokenizer, text):
    return tokenizer(text, padding="max_length", truncation=True).input_ids


LETTERS = st.characters(codec="ascii", exclude_categories=["Cc"]) | st.sampled_from(
    "\n\täöüßéèñçøåÉÄжДλΔ中文日本語한국😀🐕…—½²€"
)
WORDS = re.split(
    " ", "A photo of aquarium_fish . , it's they're WE'LL 42 1000 a-b <new1> <cat-toy> café Straße ! ( ) \" don't"
)


@settings(max_examples=100)
@given(st.text(LETTERS, max_size=120) | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_ids_are_openais(tokenizer, text):
    # OpenAI's tokenizer mends text first (HTML, broken UTF-8, quotes), transformers' does not.
    cleaned = open_clip_tokenizer.basic_clean(text)
    assume(" ".join(cleaned.split()) == " ".join(text.split()))
    assume("<start_of_text>" not in text.lower())
    assume("<end_of_text>" not in text.lower())
    assert ids_of(tokenizer, text) == openai_ids(text)


def test_every_word_of_the_vocabulary_has_openais_number(tokenizer):
    theirs = dict(open_clip_tokenizer._tokenizer.encoder)
    theirs["<|startoftext|>"] = theirs.pop("<start_of_text>")
    theirs["<|endoftext|>"] = theirs.pop("<end_of_text>")
    assert tokenizer.get_vocab() == theirs
    assert len(tokenizer) == 49408


def test_known_sentences(tokenizer):
    assert ids_of(tokenizer, "a photo of a cat")[:7] == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert ids_of(tokenizer, "") == [49406] + [49407] * 76
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id) == (49406, 49407, 49407)
    assert tokenizer.model_max_length == 77
    cut = ids_of(tokenizer, "dog " * 100)
    assert (len(cut), cut[-1], cut[-2]) == (77, 49407, cut[1])


def test_the_tokenizer_fits_the_default_text_encoder(tokenizer):
    assert len(tokenizer) == single_file.SD_V1_TEXT["vocab_size"]
    assert tokenizer.eos_token_id == single_file.SD_V1_TEXT["eos_token_id"]


def test_a_model_without_files_is_frozen_and_of_the_given_configuration_and_dtype():
    model = build_stable_diffusion(SMALL, dtype=torch.bfloat16)
    weights = [value for part in (model.unet, model.vae, model.text_encoder) for value in part.parameters()]
    assert not any(value.requires_grad for value in weights)
    assert {value.dtype for value in (model.unet.conv_in.weight, model.vae.quant_conv.weight)} == {torch.bfloat16}
    assert model.latent_shape == (4, 8, 8)
    states = model.encode_tokens(torch.tensor([[48, 1, 49]]))
    assert model.predict(torch.zeros(1, 4, 8, 8), torch.tensor([5]), states).shape == (1, 4, 8, 8)
