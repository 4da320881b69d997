import copy
import math

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hw2.concepts.clip import load_clip
from hw2.concepts.inversion import Inversion
from hw2.concepts.recipe import InversionConfig
from hw2.concepts.training import Progress
from hw2.concepts.watch import Watcher, clip_scores
from tests.models.tiny_clip import save_tiny_clip


def test_curves_pictures_and_scores_are_logged(tiny_model, tmp_path):
    model = copy.deepcopy(tiny_model)
    config = InversionConfig("<new1>", "dog", validate_every=10)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    Inversion(model, images, config)
    clip = load_clip(str(save_tiny_clip(tmp_path / "clip")))
    watch = Watcher(tmp_path, model, config, 2, images, clip)
    for step in (10, 20, 30):
        watch(Progress(step, 1.0 / step, 0.5, model.words.vectors.detach()))
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, round(event.value, 4)) for event in found.Scalars("loss")] == [
        (10, 0.1),
        (20, 0.05),
        (30, 0.0333),
    ]
    assert len(found.Scalars("validation loss")) == len(found.Scalars("length")) == 3
    assert [event.step for event in found.Images("<new1>")] == [20]
    assert [event.step for event in found.Scalars("CLIP image score")] == [20]
    assert found.Images("<new1>")[0].width == 4 * 16
    assert b"dog 1.00" in found.Tensors("nearest words/text_summary")[0].tensor_proto.string_val[0]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / math.hypot(*a) / math.hypot(*b)


def test_clip_scores_are_means_of_cosines_of_all_image_pairs_and_of_each_image_and_its_own_sentence(tmp_path):
    clip = load_clip(str(save_tiny_clip(tmp_path)))
    g = torch.Generator().manual_seed(0)
    pictures = torch.randint(256, (5, 32, 32, 3), generator=g, dtype=torch.uint8)
    pictures[1::2] = pictures[1::2] // 8  # dark ones: random features differ little otherwise
    drawn, images, sentences = list(pictures[:2].numpy()), list(pictures[2:].numpy()), ["a dog", "the red cat"]

    def features(picture):
        return clip.image_features(clip.preprocess(Image.fromarray(picture))[None])[0].tolist()

    pairs = [100 * cosine(features(d), features(i)) for d in drawn for i in images]
    own = [
        clip.logit_scale * cosine(features(d), clip.text_features([sentence])[0].tolist())
        for d, sentence in zip(drawn, sentences, strict=True)
    ]
    image_score, text_score = clip_scores(clip, drawn, images, sentences)
    assert image_score == pytest.approx(sum(pairs) / 6, rel=1e-5)
    assert text_score == pytest.approx(sum(own) / 2, rel=1e-4)
    assert max(pairs) - min(pairs) > 0.01
    assert clip_scores(clip, drawn, images, sentences[::-1])[1] != pytest.approx(text_score, rel=1e-3)
