"""float32 is float32, a number format is one that the card has, and a training that must not differ does not."""

import pytest
import torch

from hw2.concepts.generate import ConceptSampler
from hw2.concepts.stable_diffusion import load_stable_diffusion
from hw2.devices import arithmetic
from hw2.devices.arithmetic import chosen_dtype, compiled, exact, training_arithmetic
from hw2.digits.recognizer import Recognizer
from hw2.digits.sample import DigitSampler, official_names
from hw2.errors import InputError
from hw2.faces.sample import FaceSampler, batch_invariant
from hw2.training import Recipe, supported
from tests.hw2.devices.gpus import pretend_gpus
from tests.models.tiny_sd import save_tiny_stable_diffusion

EXACT = ("ieee", False, True, False)


def flags():
    """(precision of products, TF32 in convolutions, deterministic convolutions, algorithms by trial)."""
    cudnn = torch.backends.cudnn
    return torch.backends.cuda.matmul.fp32_precision, cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark


@pytest.fixture
def loose():
    """A program that chose speed before it called us."""
    matmul = torch.backends.cuda.matmul
    before, matmul.fp32_precision = matmul.fp32_precision, "tf32"
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False, allow_tf32=True):
        yield flags()
    matmul.fp32_precision = before


def seen_by(module):
    """The flags at every call of a module and in its backward pass."""
    found = []
    module.register_forward_hook(lambda *_: found.append(flags()))
    return found


def test_exact_arithmetic_is_chosen_and_given_back(loose):
    with exact():
        assert flags() == EXACT
    assert flags() == loose
    with pytest.raises(KeyError), exact():
        raise KeyError
    assert flags() == loose


def test_digits_are_drawn_in_exact_arithmetic(loose, tiny_digit_model):
    found = seen_by(tiny_digit_model.network)
    list(DigitSampler(tiny_digit_model, num_inference_steps=2).sample(official_names(1)[:2]))
    assert found == [EXACT] * 2
    assert flags() == loose


def test_faces_are_drawn_in_exact_arithmetic(loose, tiny_network):
    found = seen_by(tiny_network)
    list(FaceSampler(batch_invariant(tiny_network), num_inference_steps=2).sample({"00": torch.zeros(1, 3, 8, 8)}))
    assert found == [EXACT] * 2


@pytest.mark.parametrize(("dtype", "cudnn"), [(torch.float32, False), (torch.bfloat16, True)])
def test_faces_in_float32_are_drawn_without_cudnn_which_takes_20_times_the_memory(tiny_network, dtype, cudnn):
    found = []
    tiny_network.register_forward_hook(lambda *_: found.append(torch.backends.cudnn.enabled))
    network = batch_invariant(tiny_network.to(dtype), dtype)
    list(FaceSampler(network, num_inference_steps=2).sample({"00": torch.zeros(1, 3, 8, 8)}))
    assert found == [cudnn] * 2
    assert torch.backends.cudnn.enabled


def test_concepts_are_encoded_drawn_and_decoded_in_exact_arithmetic(loose, tmp_path):
    model = load_stable_diffusion(save_tiny_stable_diffusion(tmp_path))
    parts = (model.text_encoder, model.unet, model.vae.decoder, model.vae.encoder)
    found = [seen_by(part) for part in parts]
    list(ConceptSampler(model, num_inference_steps=2).sample({"a": "a dog"}))
    model.latent_distribution(torch.zeros(1, 3, 16, 16))
    assert all(calls and set(calls) == {EXACT} for calls in found)
    assert flags() == loose


def test_the_recognizer_judges_in_exact_arithmetic(loose):
    recognizer = Recognizer().requires_grad_(False)
    found = seen_by(recognizer.layers)
    recognizer.accuracy(torch.zeros(2, 3, 28, 28), torch.zeros(2))
    assert found == [EXACT]


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_training_is_exact_and_deterministic_if_asked(loose, monkeypatch, deterministic):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with training_arithmetic(deterministic):
        assert flags() == ("ieee", False, deterministic, False)
        assert torch.are_deterministic_algorithms_enabled() == deterministic
        assert arithmetic.os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if deterministic else None)
    assert not torch.are_deterministic_algorithms_enabled()
    assert flags() == loose


@pytest.mark.parametrize(
    ("device", "capability", "dtype"),
    [
        ("cpu", (9, 0), "float32"),
        ("cuda", (9, 0), "bfloat16"),
        ("cuda:1", (8, 0), "bfloat16"),
        ("cuda", (7, 5), "float16"),
    ],
)
def test_a_format_that_is_chosen_by_itself_is_one_that_the_card_has(monkeypatch, device, capability, dtype):
    pretend_gpus(monkeypatch, 2, capability)
    assert chosen_dtype("auto", device) == getattr(torch, dtype)
    assert chosen_dtype("float16", device) == torch.float16


@pytest.mark.parametrize(("capability", "told"), [((7, 5), True), ((8, 6), False)])
def test_a_format_that_the_card_emulates_is_told(monkeypatch, capsys, capability, told):
    pretend_gpus(monkeypatch, 1, capability)
    assert chosen_dtype("bfloat16", "cuda") == torch.bfloat16
    said = "hw2: Tesla T4 emulates bfloat16, which is slow; float32 or float16 is faster\n"
    assert capsys.readouterr().err == (said if told else "")


def test_an_unknown_format_is_refused():
    with pytest.raises(InputError, match="is 'int8'; expected auto or one of float32, bfloat16, float16"):
        chosen_dtype("int8", "cpu")


@pytest.mark.parametrize(
    ("asked", "capability", "device", "used"),
    [
        ("bf16", (7, 5), "cuda", "fp16"),
        ("bf16", (8, 0), "cuda", "bf16"),
        ("no", (7, 5), "cuda", "no"),
    ],
)
def test_a_recipe_in_bfloat16_uses_float16_on_an_older_card(monkeypatch, capsys, asked, capability, device, used):
    pretend_gpus(monkeypatch, 1, capability)
    assert supported(Recipe(mixed_precision=asked), torch.device(device)).mixed_precision == used
    said = "hw2: Tesla T4 has no bfloat16; float16 with a gradient scaler is used\n" if used != asked else ""
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("line", "used"),
    [
        ("flags\t: fpu avx2 avx512bw", "no"),
        ("flags\t: avx512_bf16 avx2", "bf16"),
        ("flags\t: amx_bf16", "bf16"),
        ("Features\t: asimd bf16 i8mm", "bf16"),
        ("", "no"),
    ],
)
def test_a_recipe_in_bfloat16_uses_float32_on_a_cpu_that_only_emulates_it(monkeypatch, capsys, tmp_path, line, used):
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\n{line}\n")
    known = arithmetic.cpu_has_bfloat16(tmp_path / "cpuinfo")
    monkeypatch.setattr(arithmetic, "cpu_has_bfloat16", lambda: known)
    assert supported(Recipe(mixed_precision="bf16"), torch.device("cpu")).mixed_precision == used
    said = "" if used == "bf16" else "hw2: this CPU has no bfloat16; float32 is used\n"
    assert capsys.readouterr().err == said
    assert chosen_dtype("bfloat16", "cpu") == torch.bfloat16
    assert ("this CPU emulates bfloat16, which is slow; float32 is faster" in capsys.readouterr().err) == bool(said)


def test_without_a_compiler_a_network_runs_uncompiled(monkeypatch, capsys):
    def broken(network):
        def call(*_):
            raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    network = torch.nn.Linear(2, 2)
    assert compiled(network, "cpu") is network
    said = "torch.compile does not work here (Failed to find C compiler.); the network runs uncompiled, which is slower"
    assert capsys.readouterr().err == f"hw2: {said}\n"


def test_with_a_compiler_a_network_is_compiled(monkeypatch):
    tried = []
    monkeypatch.setattr(torch, "compile", lambda network: tried.append(network) or (lambda x: ("compiled", x)))
    network = torch.nn.Linear(2, 2)
    assert compiled(network, "cpu")(1) == ("compiled", 1)
    assert tried[-1] is network
