import copy

import pytest
import torch
from torch.testing import assert_close

from hw2.concepts.attention import CrossAttention, MapStore
from hw2.concepts.compose import (
    Composition,
    _held_maps,
    blend,
    check_boxes,
    fit_batch,
    kept_bytes,
    map_store,
    region_masks,
)
from hw2.concepts.generate import ConceptSampler
from hw2.concepts.stable_diffusion import StableDiffusion
from hw2.errors import InputError
from tests.walks import last_sample

PROMPT = "a <new1> and a <new2> on the beach"
WORDS = {"<new1>": "dog", "<new2>": "cat"}
BOXES = {"<new1>": (0, 0, 0.5, 1), "<new2>": (0.5, 0.25, 1, 1)}
EVERYWHERE, NOWHERE = (0.0, 0.0, 1.0, 1.0), (0.0, 0.0, 0.01, 0.01)


def model_with(tiny_model, learned):
    model = copy.deepcopy(tiny_model)
    model.add_words(learned)
    return model


def word(tiny_model, name):
    return tiny_model.words.weight[tiny_model.tokenizer(name, add_special_tokens=False).input_ids].clone()


@pytest.fixture
def sampler(tiny_model):
    g = torch.Generator().manual_seed(2)
    learned = {"<new1>": torch.randn(2, 32, generator=g), "<new2>": torch.randn(1, 32, generator=g)}
    return ConceptSampler(model_with(tiny_model, learned), num_inference_steps=2, guidance_scale=3.0)


def latents(sampler, prompt):
    return last_sample(sampler.states(["x", "y"], [prompt] * 2))


@pytest.mark.parametrize(
    ("hold", "boxes"),
    [(0.5, None), (0.0, BOXES), (1.0, BOXES)],
)
def test_words_that_learned_nothing_leave_the_layout_as_it_is(tiny_model, hold, boxes):
    model = model_with(tiny_model, {"<new1>": word(tiny_model, "dog"), "<new2>": word(tiny_model, "dog")})
    sampler = ConceptSampler(model, num_inference_steps=2, guidance_scale=3.0)
    words = {"<new1>": "dog", "<new2>": "dog"}
    blended = last_sample(blend(sampler, Composition(PROMPT, words, boxes, hold), ["x", "y"]))
    assert_close(blended, latents(sampler, "a dog and a dog on the beach"), rtol=0, atol=1e-3)


def test_the_layouts_attention_is_shared_among_a_tokens_vectors_as_its_own_prompt_does(sampler):
    """Checked place by place: "a dog and a cat on the beach" held for "a <new1> <new1>_1 and a <new1> <new1>_1 .."."""
    composition = Composition(PROMPT, WORDS)
    g = torch.Generator().manual_seed(3)
    length = sampler.model.tokenizer.model_max_length
    layout, own = (torch.rand(2, 1, 4, length, generator=g) for _ in range(2))
    found = _held_maps(sampler, composition, "<new1>")(layout, own)
    # start 0, a 1, dog 2, and 3, a 4, cat 5, on 6 .. against start 0, a 1, <new1> 2 3, and 4, a 5, <new1> 6 7, on 8 ..
    assert_close(found[..., :2], layout[..., :2])
    assert_close(found[..., 2:4].sum(-1), layout[..., 2])
    assert_close(found[..., 2] / found[..., 3], own[..., 2] / own[..., 3])
    assert_close(found[..., 4:6], layout[..., 3:5])
    assert_close(found[..., 6:8].sum(-1), layout[..., 5])
    assert_close(found[..., 6] / found[..., 7], own[..., 6] / own[..., 7])
    assert_close(found[..., 8:], layout[..., 6 : length - 2])


def test_a_box_over_everything_is_that_concepts_own_picture(sampler):
    composition = Composition(PROMPT, WORDS, {"<new1>": EVERYWHERE, "<new2>": NOWHERE}, hold=0)
    blended = last_sample(blend(sampler, composition, ["x", "y"]))
    assert_close(blended, latents(sampler, "a <new1> and a <new1> on the beach"), rtol=0, atol=1e-3)
    assert not torch.allclose(blended, latents(sampler, PROMPT), atol=0.1)


def test_boxes_that_cover_nothing_leave_the_layout(sampler):
    composition = Composition(PROMPT, WORDS, {"<new1>": NOWHERE, "<new2>": NOWHERE}, hold=0)
    blended = last_sample(blend(sampler, composition, ["x", "y"]))
    assert_close(blended, latents(sampler, "a dog and a cat on the beach"), rtol=0, atol=1e-3)


def test_holding_the_layout_changes_the_picture(sampler):
    none, half = (last_sample(blend(sampler, Composition(PROMPT, WORDS, None, h), ["x"])) for h in (0.0, 0.5))
    assert not torch.allclose(none, half, atol=1e-3)


def test_regions_are_the_boxes_and_the_first_wins_where_they_overlap(sampler):
    boxes = {"<new1>": (0.0, 0.0, 0.5, 1.0), "<new2>": (0.25, 0.5, 1.0, 1.0)}
    masks = region_masks(sampler, Composition(PROMPT, WORDS, boxes), MapStore(1))
    assert masks.shape == (1, 2, 8, 8)
    assert masks[0, 0].sum() == 4 * 8
    assert masks[0, 1].sum() == 4 * 4  # what the first one leaves of 6 columns by 4 rows
    assert masks.sum(1).max() == 1


@pytest.mark.parametrize(
    ("boxes", "token"),
    [
        ({"<new1>": EVERYWHERE, "<new2>": NOWHERE}, "<new2>"),
        ({"<new1>": NOWHERE, "<new2>": EVERYWHERE}, "<new1>"),
        ({"<new1>": EVERYWHERE, "<new2>": EVERYWHERE}, "<new2>"),
    ],
)
def test_a_box_without_room_of_its_own_is_refused(sampler, boxes, token):
    with pytest.raises(InputError, match=f"the box of {token} has none of the picture's 8x8 cells for itself"):
        check_boxes(sampler, Composition(PROMPT, WORDS, boxes))
    check_boxes(sampler, Composition(PROMPT, WORDS, {"<new1>": (0, 0, 0.5, 1), "<new2>": EVERYWHERE}))
    check_boxes(sampler, Composition(PROMPT, WORDS))


def test_regions_follow_the_words_that_pixels_listen_to(sampler):
    composition = Composition(PROMPT, WORDS)
    store = map_store(sampler, composition, rows=1)
    weights = torch.full((1, 2, 64, 77), 1e-3)
    left = torch.arange(64) % 8 < 4
    weights[0, :, left, 2] = 0.9  # <s> a dog and a cat: 2 and 5
    weights[0, :, ~left, 5] = 0.7
    store.keep("layer", weights)
    masks = region_masks(sampler, composition, store)[0]
    assert masks[0, :, :3].all()
    assert masks[1, :, 5:].all()
    assert not masks[0, :, 5:].any()
    assert not masks[1, :, :3].any()


def test_watching_attention_changes_nothing_and_maps_are_shares(tiny_model):
    sampler = ConceptSampler(copy.deepcopy(tiny_model), num_inference_steps=3)
    plain, store = latents(sampler, "a red dog"), MapStore(rows=2, kept=3)
    with sampler.model.attention(store.keep):
        watched = latents(sampler, "a red dog")
    assert_close(watched, plain, rtol=1e-3, atol=1e-3)
    for weights in (weights for call in store.calls for weights in call.values()):
        assert weights.shape[::3] == (2, 77)
        assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert not any(isinstance(p, CrossAttention) for p in sampler.model.unet.attn_processors.values())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_only_the_maps_that_are_used_are_kept_and_no_others_memory_with_them(tiny_model, dtype):
    """Equal to a store of every map, from which words' maps are worked out at the end."""
    sampler = ConceptSampler(copy.deepcopy(tiny_model), num_inference_steps=3)
    store, everything = MapStore(rows=2, places=[[1], [2, 3]], kept=2, dtype=dtype), []

    def keep(name, weights):
        everything.append((name, weights[:2].clone()))
        return store.keep(name, weights)

    with sampler.model.attention(keep):
        latents(sampler, "a red dog")
    layers = len(everything) // 3
    for number, call in enumerate(store.calls):
        own = dict(everything[number * layers : (number + 1) * layers])
        assert list(call) == list(own)
        for name, weights in call.items():
            assert torch.equal(weights, own[name].to(dtype))
            assert weights.untyped_storage().nbytes() == weights.nbytes
    assert len(store.calls) == 2
    for word, places in enumerate([[1], [2, 3]]):
        grids = []
        for _, weights in everything:
            edge = round(weights.shape[2] ** 0.5)
            seen = weights[..., places].sum(-1).mean(1).view(2, 1, edge, edge)
            grids.append(torch.nn.functional.interpolate(seen, (8, 8), mode="bilinear")[:, 0])
        assert_close(store.word_maps(side=8)[:, word], torch.stack(grids).mean(0))


def test_without_a_map_there_is_no_words_map():
    with pytest.raises(ValueError, match="no map"):
        MapStore(rows=1, places=[[1]]).word_maps(side=8)


def test_a_composition_counts_what_its_pictures_need_of_a_gpu(sampler, monkeypatch):
    """The maps that are held until the second walk, and four rows a picture for two concepts."""
    with sampler.model.attention((store := MapStore(rows=1, kept=2)).keep):
        latents(sampler, PROMPT)
    whole = sum(weights.nbytes for call in store.calls for weights in call.values())
    assert [kept_bytes(sampler, Composition(PROMPT, WORDS, None, hold)) for hold in (0.0, 0.5, 1.0)] == [
        0, whole // 2, whole
    ]  # fmt: skip
    assert fit_batch(sampler, Composition(PROMPT, WORDS)).images == 25  # on a CPU
    asked = []
    monkeypatch.setattr("hw2.concepts.generate.fit_batch", lambda model, rows, kept: asked.append((rows, kept)))
    monkeypatch.setattr("hw2.concepts.compose.kept_bytes", lambda sampler, composition: 7)
    monkeypatch.setattr(StableDiffusion, "device", torch.device("cuda"))
    fit_batch(sampler, Composition(PROMPT, WORDS))
    assert asked == [(4, 7)]


@pytest.mark.parametrize(
    ("prompt", "words", "options", "match"),
    [
        ("a <new1> on the beach", {"<new1>": "dog"}, {}, "expected two or more"),
        ("a <new1> and a <new1>", {"<new1>": "dog"}, {}, "each once"),
        (PROMPT, {"<new1>": "dog"}, {}, "a word for each"),
        (PROMPT, WORDS, {"boxes": {"<new1>": EVERYWHERE}}, "for every token or for none"),
        (PROMPT, WORDS, {"boxes": {"<new1>": (0.5, 0, 0.5, 1), "<new2>": EVERYWHERE}}, "left < right"),
        (PROMPT, WORDS, {"boxes": {"<new1>": (0, 0, 2, 1), "<new2>": EVERYWHERE}}, "from 0 to 1"),
        (PROMPT, WORDS, {"hold": 1.5}, "hold is 1.5"),
    ],
)
def test_compositions_that_make_no_sense_are_refused(prompt, words, options, match):
    with pytest.raises(InputError, match=match):
        Composition(prompt, words, **options)
