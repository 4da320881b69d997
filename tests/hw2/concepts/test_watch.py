import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from hw2.concepts.clip import load_clip
from hw2.concepts.inversion import Inversion, InversionConfig, Progress
from hw2.concepts.stable_diffusion import load_stable_diffusion
from hw2.concepts.watch import Watcher, clip_scores
from tests.models.tiny_clip import save_tiny_clip


def test_curves_pictures_and_scores_are_logged(tiny_sd, tmp_path):
    model = load_stable_diffusion(tiny_sd)
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


def test_a_concepts_own_images_score_as_near_as_they_are_to_each_other(tmp_path):
    clip = load_clip(str(save_tiny_clip(tmp_path)))
    g = torch.Generator().manual_seed(0)
    (image,) = torch.randint(256, (1, 32, 32, 3), generator=g, dtype=torch.uint8).numpy()
    score, text = clip_scores(clip, [image, image], [image], ["a dog", "a cat"])
    assert abs(score - 100) < 1e-4
    assert abs(text - clip_scores(clip, [image, image], [image], ["a cat", "a dog"])[1]) < 1e-6
    assert abs(text) < clip.logit_scale
