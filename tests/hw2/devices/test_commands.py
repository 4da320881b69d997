"""Every command chooses its device before it loads anything, and every training works on the device that was asked for.

The device is "meta" here, which any machine has, in place of the second of two GPUs.
"""

import pytest
import torch

from hw2 import __main__ as program
from hw2.devices import choose
from tests.commands import ROOT
from tests.hw2.devices.gpus import pretend_gpus

FIXTURES = ROOT / "fixtures" / "hw2_data"
FACES = ("--noise", FIXTURES / "face" / "noise", "--checkpoint", ROOT / "hw2" / "models" / "face_unet.safetensors")
WORDS = ROOT / "fixtures" / "submissions" / "reference" / "learned"
PROMPTS = FIXTURES / "textual_inversion"
COMMANDS = {
    "digits sample": (),
    "digits grid": (),
    "digits reverse": (),
    "faces sample": FACES,
    "faces eta-grid": FACES,
    "faces interpolate": FACES,
    "concepts generate": ("--json", PROMPTS / "input.json", "--embeddings", WORDS / "new1.safetensors"),
    "concepts compose": (
        *("--prompt", "a <new1> and a <new2>", "--word", "<new1>=dog", "--word", "<new2>=cat"),
        *("--embeddings", WORDS / "new1.safetensors", "--embeddings", WORDS / "new2.safetensors"),
    ),
    "concepts learn": ("--images", PROMPTS / "0", "--token", "<new9>", "--initializer", "dog"),
    "concepts zero-shot": (
        *("--images", FIXTURES / "clip_zeroshot" / "val", "--labels", FIXTURES / "clip_zeroshot" / "id2label.json"),
    ),
}
LOADERS = (
    "hw2.digits.checkpoint.load_digit_model",
    "hw2.faces.checkpoint.load_face_unet",
    "hw2.concepts.stable_diffusion.load_stable_diffusion",
    "hw2.concepts.clip.load_clip",
)


class LoadedError(Exception):
    pass


@pytest.fixture
def events(monkeypatch):
    """What happens, in order: "cuda:1" when the processes join, and the device that something is loaded to."""
    pretend_gpus(monkeypatch, 2)
    happened = []

    class Processes:
        is_main_process, process_index, num_processes = True, 1, 2

        def __init__(self, cpu):
            happened.append("joined")
            self.device = torch.device("cuda:1")  # as accelerate gives it to the second process

    def load(name, device="cpu", **_):
        happened.append(str(device))
        raise LoadedError

    monkeypatch.setattr(choose, "PartialState", Processes)
    for loader in LOADERS:
        monkeypatch.setattr(loader, load)
    return happened


def outputs(name, folder):
    return folder / {"learn": "word.safetensors", "sample": "out", "generate": "out", "zero-shot": "out"}.get(
        name.split()[1], "out.png"
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_model_is_loaded_to_the_device_of_its_own_process(events, tmp_path, name):
    arguments = [*name.split(), *map(str, COMMANDS[name]), "--output", str(outputs(name, tmp_path))]
    with pytest.raises(LoadedError):
        program.app(arguments, standalone_mode=False)
    assert events == ["joined", "cuda:1"]


@pytest.mark.parametrize("name", ["digits", "faces"])
def test_a_training_runs_on_the_gpu_that_was_asked_for(monkeypatch, tmp_path, name, digits_folder):
    """Fault found by rehearsal: the number of the GPU was dropped, and cuda:0 trained."""
    pretend_gpus(monkeypatch, 2)
    current, asked = [], []

    class Processes:
        is_main_process = False
        device = torch.device("cuda")

        def __init__(self, cpu):
            assert current == [torch.device("cuda:1")]

    class Accelerated(Exception):  # noqa: N818
        pass

    class Accelerator:
        def __init__(self, cpu, mixed_precision):
            asked.append(choose.start_processes("cuda:1").device)
            raise Accelerated

    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.__setitem__(slice(None), [device]))
    monkeypatch.setattr(choose, "PartialState", Processes)
    monkeypatch.setattr(choose, "Accelerator", Accelerator)
    given = {
        "digits": ("--data", digits_folder, "--cache", tmp_path / "cache"),
        "faces": ("--images", FIXTURES / "textual_inversion" / "0", "--preset", "bundled"),
    }[name]
    with pytest.raises(Accelerated):
        program.app(
            [name, "train", *map(str, given), "--output", str(tmp_path / "run"), "--device", "cuda:1"],
            standalone_mode=False,
        )
    assert asked == [torch.device("cuda:1")]
