"""The SAM2 judge, against transformers called by hand; what it takes, and what it refuses."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch.nn import functional as F
from transformers import Sam2Model, Sam2VideoConfig, Sam2VideoModel

from grading.core.errors import GradingError
from grading.judges import JUDGES, Judges
from grading.judges.sam import SAM_MODEL, load_sam
from tests.models.tiny_sam import SIZE, save_tiny_sam, tiny_processor, tiny_sam

MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def shared_folder(tmp_path_factory):
    return save_tiny_sam(tmp_path_factory.mktemp("sam"), seed=1)


@pytest.fixture
def folder(tmp_path, shared_folder):
    """A model of the test's own."""
    return shutil.copytree(shared_folder, tmp_path / "sam")


def shapes(count, seed=0):
    """Pictures of several sizes: a rectangle on a ground, and noise, in turn."""
    rng = np.random.default_rng(seed)
    for i in range(count):
        height, width = rng.integers(30, 90, 2)
        image = np.full((height, width, 3), rng.integers(0, 256, 3), np.uint8)
        image[height // 4 : height // 2 + i, width // 4 : width // 2 + i] = rng.integers(0, 256, 3)
        image.setflags(write=False)  # as images come from their reader
        yield rng.integers(0, 256, image.shape, dtype=np.uint8) if i % 2 else image


def by_hand(model, image):
    """(three masks, their scores): no processor, resized by PIL, the middle scaled to the network's 64 pixels."""
    height, width = image.shape[:2]
    small = np.array(Image.fromarray(image).resize((SIZE, SIZE), Image.Resampling.BILINEAR))
    pixels = ((torch.from_numpy(small).float() / 255 - MEAN) / STD).permute(2, 0, 1)[None]
    point = torch.tensor([[[[width // 2 * SIZE / width, height // 2 * SIZE / height]]]], dtype=torch.float32)
    with torch.inference_mode():
        found = model(pixel_values=pixels, input_points=point, input_labels=torch.ones(1, 1, 1, dtype=torch.int64))
    masks = F.interpolate(found.pred_masks[0], (height, width), mode="bilinear", align_corners=False)[0] > 0
    return masks.numpy(), found.iou_scores[0, 0].numpy()


def test_the_mask_is_the_best_of_three_of_transformers_called_by_hand(shared_folder):
    judge = load_sam(str(shared_folder))
    model = Sam2Model.from_pretrained(shared_folder).eval()
    taken = set()
    for image in shapes(8):
        masks, scores = by_hand(model, image)
        best = int(scores.argmax())
        found = judge.mask(image)
        assert found.dtype == np.bool_
        assert found.shape == image.shape[:2]
        assert (found != masks[best]).mean() < 0.02  # PIL and torchvision may round one level apart
        others = [mask for i, mask in enumerate(masks) if i != best]
        assert all((found != mask).mean() > 0.02 for mask in others)
        taken.add(best)
    assert len(taken) > 1


def test_the_mask_is_that_of_the_models_own_processor(shared_folder):
    judge, model, processor = load_sam(str(shared_folder)), tiny_sam(1), tiny_processor()
    for image in shapes(3, seed=1):
        height, width = image.shape[:2]
        inputs = processor(images=image.copy(), input_points=[[[[width // 2, height // 2]]]], return_tensors="pt")
        sizes = inputs.pop("original_sizes")
        with torch.inference_mode():
            found = model(**inputs)
        masks = processor.post_process_masks(found.pred_masks, sizes)[0][0]
        np.testing.assert_array_equal(judge.mask(image), masks[found.iou_scores[0, 0].argmax()].numpy())


def test_a_mask_does_not_depend_on_the_images_before(shared_folder):
    judge = load_sam(str(shared_folder))
    images = list(shapes(3))
    first = [judge.mask(image) for image in images]
    for image, mask in zip(reversed(images), reversed(first), strict=True):
        np.testing.assert_array_equal(judge.mask(image), mask)


def test_a_checkpoint_for_videos_as_the_official_one_is_has_the_same_masks(shared_folder, tmp_path):
    config = tiny_sam().config
    video = Sam2VideoConfig(
        vision_config=config.vision_config, prompt_encoder_config=config.prompt_encoder_config.to_dict(),
        mask_decoder_config=config.mask_decoder_config.to_dict(), image_size=SIZE, memory_attention_hidden_size=32,
        memory_encoder_hidden_size=32, memory_encoder_output_channels=16, mask_downsampler_embed_dim=32,
        memory_fuser_embed_dim=32, memory_fuser_intermediate_dim=32, memory_attention_feed_forward_hidden_size=32,
        memory_attention_rope_feat_sizes=[4, 4],
    )  # fmt: skip
    model = Sam2VideoModel(video)
    assert model.load_state_dict(tiny_sam(1).state_dict(), strict=False).unexpected_keys == []
    model.save_pretrained(tmp_path)
    tiny_processor().save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "sam2_video"
    image = next(shapes(1))
    np.testing.assert_array_equal(load_sam(str(tmp_path)).mask(image), load_sam(str(shared_folder)).mask(image))


def test_it_is_among_the_judges_by_name(shared_folder):
    assert JUDGES["sam"].option == "sam"
    judges = Judges({"sam": str(shared_folder)}, device="cpu")
    assert judges["sam"] is judges["sam"]
    assert judges["sam"].identity.name == "sam"


def test_the_model_is_known_by_its_weights(shared_folder, folder):
    first = load_sam(str(shared_folder)).identity
    assert (first.kind, first.file) == ("custom", str(shared_folder))
    assert load_sam(str(folder)).identity.sha256 == first.sha256
    save_tiny_sam(folder, seed=2)
    assert load_sam(str(folder)).identity.sha256 != first.sha256


def test_only_what_comes_from_the_hub_is_the_official_judge(shared_folder, tmp_path, monkeypatch):
    shutil.copytree(shared_folder, tmp_path / SAM_MODEL)
    monkeypatch.chdir(tmp_path)
    assert load_sam(SAM_MODEL).identity.kind == "custom"


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_that_runs_code_does_not(tmp_path, folder):
    torch.save({"x": Evil(tmp_path / "ran")}, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(GradingError, match="nothing else is unpickled"):
        load_sam(str(folder))
    assert not (tmp_path / "ran").exists()


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_code_in_a_folder_is_not_run(tmp_path, folder, shared_folder):
    for name in ("modeling_evil", "processing_evil"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Evil: pass\n")
    change(folder / "config.json", auto_map={"AutoModel": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Evil"})
    images = json.loads((folder / "processor_config.json").read_text())["image_processor"]
    evil = {"auto_map": {"AutoImageProcessor": "processing_evil.Evil", "AutoProcessor": "processing_evil.Evil"}}
    change(folder / "processor_config.json", image_processor=images | evil, **evil)
    image = next(shapes(1))
    np.testing.assert_array_equal(load_sam(str(folder)).mask(image), load_sam(str(shared_folder)).mask(image))
    assert not (tmp_path / "ran").exists()


def set_weight(name, value):
    def spoil(folder):
        weights = load_file(folder / "model.safetensors")
        weights[name] = torch.full_like(weights[name], value)
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})

    return spoil


def lose_a_weight(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["no_memory_embedding"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda folder: (folder / "config.json").unlink(), "is not a SAM2 model; expected a folder with config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "cannot be loaded as a SAM2 model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "cannot be loaded as a SAM2 model"),
        (lambda folder: (folder / "processor_config.json").unlink(), "cannot be loaded as a SAM2 model"),
        (lose_a_weight, "no weights of the right shape for no_memory_embedding"),
        (set_weight("no_memory_embedding", float("nan")), "not finite, no_memory_embedding among them"),
        (set_weight("no_memory_embedding", 3e38), "computes masks that are not finite"),
        (
            lambda folder: change(
                folder / "processor_config.json",
                image_processor={
                    "image_processor_type": "Sam2ImageProcessor", "size": {"height": 96, "width": 96},
                    "do_resize": True,
                },
            ),
            "do not fit together",
        ),
    ],
)  # fmt: skip
def test_broken_folders_are_refused_in_one_sentence(folder, spoil, match):
    spoil(folder)
    with pytest.raises(GradingError, match=match) as caught:
        load_sam(str(folder))
    assert str(caught.value).isprintable()
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("name", ["none", "no/such/folder", "embedded", "a/b\n"])
def test_names_that_are_neither_folder_nor_hub_name_are_refused(name):
    with pytest.raises(GradingError, match="is not a SAM2 model; expected a folder"):
        load_sam(name)


def test_a_model_that_the_hub_does_not_give_is_refused_with_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(GradingError, match=r"nobody/nothing cannot be loaded .* check the name and the network"):
        load_sam("nobody/nothing")
