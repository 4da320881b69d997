"""All judges compute in the same arithmetic, whatever was set before."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from grading.judges.classifiers import load_digit_judge
from grading.judges.clip import load_clip
from grading.judges.exact import exact
from grading.judges.sam import load_sam
from grading.judges.sources import EMBEDDED
from tests.models.tiny_sam import save_tiny_sam

PICTURE = np.arange(40 * 40 * 3, dtype=np.uint8).reshape(40, 40, 3)

EXACT = {"products": "highest", "tf32": False, "conv_tf32": False, "deterministic": True, "benchmark": False}
"""What must hold while a network runs."""

LOOSE = {"products": "high", "tf32": True, "conv_tf32": True, "deterministic": False, "benchmark": True}
"""The contrary of it, as a library or NVIDIA's containers could set it."""


def flags():
    return {
        "products": torch.get_float32_matmul_precision(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
        "conv_tf32": torch.backends.cudnn.allow_tf32,
        "deterministic": torch.backends.cudnn.deterministic,
        "benchmark": torch.backends.cudnn.benchmark,
    }


def set_flags(wanted):
    torch.set_float32_matmul_precision(wanted["products"])
    torch.backends.cudnn.allow_tf32 = wanted["conv_tf32"]
    torch.backends.cudnn.deterministic = wanted["deterministic"]
    torch.backends.cudnn.benchmark = wanted["benchmark"]


@pytest.fixture
def loose():
    """Everything that `exact` must switch off is on."""
    before = flags()
    set_flags(LOOSE)
    yield
    set_flags(before)


def mnistm(_folder):
    judge = load_digit_judge("mnistm", EMBEDDED / "judge_mnistm.safetensors", "embedded")
    return judge.network, lambda: judge.predict([PICTURE])


def svhn(_folder):
    judge = load_digit_judge("svhn", EMBEDDED / "judge_svhn.safetensors", "embedded")
    return judge.network, lambda: judge.predict([PICTURE])


def clip_images(_folder):
    judge = load_clip("embedded")
    return judge.model, lambda: judge.image_features([PICTURE])


def clip_texts(_folder):
    judge = load_clip("embedded")
    return judge.model, lambda: judge.text_features(["a circle"])


def sam(folder):
    judge = load_sam(str(save_tiny_sam(folder, seed=1)))
    return judge.model, lambda: judge.mask(PICTURE)


@pytest.mark.parametrize("load", [mnistm, svhn, clip_images, clip_texts, sam])
def test_every_layer_of_every_judge_runs_in_full_float32(load, loose, tmp_path):
    network, look = load(tmp_path / "model")
    seen = []
    for layer in network.modules():
        layer.register_forward_pre_hook(lambda *_: seen.append((flags(), torch.is_inference_mode_enabled())))
    look()
    assert len(seen) > 3
    assert all(each == (EXACT, True) for each in seen)
    assert flags() == LOOSE


def test_what_was_set_before_is_restored_after_an_error(loose):
    with pytest.raises(ZeroDivisionError), exact():
        raise ZeroDivisionError
    assert flags() == LOOSE


@pytest.mark.long  # the same as `loose` with its "products", which is what PyTorch makes of the switch
def test_a_containers_switch_does_not_change_the_judges():
    code = (
        "import torch; from grading.judges.exact import exact\n"
        "def tf32(): return torch.backends.cuda.matmul.allow_tf32\n"
        "before = tf32()\n"
        "with exact(): inside = tf32()\n"
        "print(before, inside, tf32())"
    )
    environment = {"TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "PYTHONPATH": ":".join(filter(None, sys.path))}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["True", "False", "True"]
