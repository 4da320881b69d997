"""Learned words in the tokenizer and text encoder of diffusers' pipelines, compared with diffusers' own loader."""

import copy

import pytest
import torch
from diffusers import PNDMScheduler, StableDiffusionPipeline

from hw2.concepts.embeddings import read_embeddings, save_embeddings
from hw2.concepts.words import load_words
from hw2.errors import InputError
from tests.models.tiny_sd import tiny_parts, tiny_tokenizer

PROMPT = ["a <cat> on the beach, style of <New_one>"]


def pipeline():
    """A fresh pipeline of random weights."""
    unet, vae, text_encoder = tiny_parts()
    return StableDiffusionPipeline(
        vae, copy.deepcopy(text_encoder), tiny_tokenizer(), unet, PNDMScheduler(steps_offset=1), None, None, None, False
    )


def states(pipe, prompts=PROMPT):
    with torch.no_grad():
        return pipe.encode_prompt(prompts, "cpu", 1, False)[0]


@pytest.fixture
def words(tmp_path):
    """A file of one word of three vectors and one of one."""
    g = torch.Generator().manual_seed(0)
    learned = {"<cat>": torch.randn(3, 32, generator=g), "<New_one>": torch.randn(1, 32, generator=g)}
    save_embeddings(tmp_path / "words.safetensors", learned)
    for i, (token, vectors) in enumerate(learned.items()):
        save_embeddings(tmp_path / f"{i}.safetensors", {token: vectors})
    return tmp_path / "words.safetensors"


def test_prompts_have_the_states_that_diffusers_own_loader_gives(words):
    ours, theirs = pipeline(), pipeline()
    assert sorted(load_words(words, ours.tokenizer, ours.text_encoder)) == ["<New_one>", "<cat>"]
    for i in range(2):
        theirs.load_textual_inversion(str(words.with_name(f"{i}.safetensors")))
    before = states(pipeline())
    torch.testing.assert_close(states(ours), states(theirs), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(states(ours), before, atol=1e-3)


def test_prompts_have_the_states_of_this_packages_own_model(words, tiny_model):
    ours = copy.deepcopy(tiny_model)
    ours.add_words(read_embeddings(words))
    pipe = pipeline()
    load_words(words, pipe.tokenizer, pipe.text_encoder)
    torch.testing.assert_close(states(pipe), ours.encode_prompts(PROMPT), rtol=1e-4, atol=1e-4)


def test_other_words_keep_their_states_and_no_random_number_is_drawn(words):
    pipe, other = pipeline(), ["a red dog on the beach"]
    before, generator = states(pipe, other), torch.get_rng_state()
    load_words(words, pipe.tokenizer, pipe.text_encoder)
    assert torch.equal(states(pipe, other), before)
    assert torch.equal(torch.get_rng_state(), generator)


def test_a_token_can_be_renamed_and_two_files_can_be_loaded(words):
    pipe = pipeline()
    first = words.with_name("0.safetensors")
    assert load_words(first, pipe.tokenizer, pipe.text_encoder, "<x>") == ["<x>"]
    x = states(pipe, ["a <x>"])
    assert load_words(first, pipe.tokenizer, pipe.text_encoder) == ["<cat>"]
    assert torch.equal(states(pipe, ["a <x>"]), x)
    assert torch.equal(states(pipe, ["a <cat>"]), x)


def test_words_that_differ_in_case_alone_are_two_words(words):
    pipe, vectors = pipeline(), torch.randn(2, 1, 32, generator=torch.Generator().manual_seed(1))
    save_embeddings(words, {"<dot>": vectors[0], "<Dot>": vectors[1]})
    load_words(words, pipe.tokenizer, pipe.text_encoder)
    table = pipe.text_encoder.get_input_embeddings().weight
    for token, vector in zip(("<dot>", "<Dot>"), vectors, strict=True):
        (one,) = pipe.tokenizer(f"a {token}", add_special_tokens=False).input_ids[1:]
        assert torch.equal(table[one], vector[0])


def test_a_refused_file_changes_nothing(words):
    pipe = pipeline()
    load_words(words.with_name("0.safetensors"), pipe.tokenizer, pipe.text_encoder)
    size = len(pipe.tokenizer)
    with pytest.raises(InputError, match="the token <cat>, which the tokenizer knows already") as error:
        load_words(words, pipe.tokenizer, pipe.text_encoder)
    assert error.value.parameters == ("token",)
    save_embeddings(words, {"<new>": torch.ones(1, 32), "<wide>": torch.ones(1, 33)})
    with pytest.raises(InputError, match="vectors of width 33 for <wide>, and this text encoder's words have 32"):
        load_words(words, pipe.tokenizer, pipe.text_encoder)
    assert len(pipe.tokenizer) == len(pipe.text_encoder.get_input_embeddings().weight) == size
