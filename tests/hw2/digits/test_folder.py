import json

import pytest
import torch
from safetensors.torch import load_file

from hw2.digits.folder import load_digit_folder, save_digit_folder
from hw2.errors import InputError


def test_a_folder_has_what_diffusers_folders_have_and_comes_back(tmp_path, tiny_digit_model):
    save_digit_folder(tiny_digit_model, tmp_path / "model")
    files = sorted(path.name for path in (tmp_path / "model").iterdir())
    assert files == ["config.json", "diffusion_pytorch_model.safetensors"]
    loaded = load_digit_folder(tmp_path / "model")
    assert loaded.network.config == tiny_digit_model.network.config
    assert (loaded.prediction_type, loaded.beta_schedule) == ("v_prediction", "cosine")
    for name, value in tiny_digit_model.network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value)


def test_any_program_can_read_the_folder(tmp_path, tiny_digit_model):
    save_digit_folder(tiny_digit_model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["_class_name"] == "DigitUNet"
    assert config["channels"] == [8, 16]
    assert config["prediction_type"] == "v_prediction"
    assert load_file(tmp_path / "diffusion_pytorch_model.safetensors")["stem.weight"].shape == (8, 147, 3, 3)


def test_the_model_is_loaded_in_the_asked_dtype(tmp_path, tiny_digit_model):
    save_digit_folder(tiny_digit_model, tmp_path)
    assert load_digit_folder(tmp_path, dtype=torch.float64).network.stem.weight.dtype == torch.float64


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"_class_name": "UNet2DModel"}, "describes the class 'UNet2DModel'; expected the config.json of a DigitUNet"),
        ({"channels": [8, 10]}, "divisible by num_groups"),
        ({"prediction_type": "sample"}, "unknown prediction_type 'sample'"),
        ({"beta_schedule": ...}, "describes no digit model .*'beta_schedule'"),
        ({"colour": 1}, "colour"),
        ({"num_res_blocks": [1, 2]}, "does not fit the digit network: .* missing: down.1.1"),
    ],
)
def test_another_configuration_is_refused(tmp_path, tiny_digit_model, change, match):
    save_digit_folder(tiny_digit_model, tmp_path)
    config = {**json.loads((tmp_path / "config.json").read_text()), **change}
    written = {name: value for name, value in config.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(written))
    with pytest.raises(InputError, match=match):
        load_digit_folder(tmp_path)
