"""`hw2 doctor`: each fault of a machine gives status 2 and its sentence; a sound machine gives 0, GPU or not."""

import json
import warnings

import pytest
import torch
from typer.testing import CliRunner

from hw2.__main__ import app
from hw2.devices import choose
from hw2.doctor import machine, operations, times
from hw2.doctor.examine import checks
from hw2.doctor.machine import Card, card, kernels
from hw2.doctor.operations import OPERATIONS, error
from hw2.doctor.rows import checked
from hw2.doctor.times import tasks
from tests.hw2.devices.gpus import OLD_DRIVER, pretend_failing_cuda, pretend_gpus
from tests.markdown import documented_fields

CPU = torch.device("cpu")
GIB = 2**30


@pytest.fixture(autouse=True)
def _nothing_is_known():
    choose.cuda_problem.cache_clear()
    yield
    choose.cuda_problem.cache_clear()


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(choose, "CONTROL_DEVICES", ())
    monkeypatch.setattr(choose, "has_nvidia_driver", lambda: False)
    pretend_failing_cuda(monkeypatch, "Found no NVIDIA driver on your system.")


@pytest.fixture
def gpu(monkeypatch):
    """A sound GPU that can be looked at; its operations are asked of the CPU. It returns a way to change the card."""

    def change(wheel=("sm_75", "sm_80", "sm_90"), **fields):
        values = {"name": "Tesla T4", "capability": (7, 5), "free": 15 * GIB, "total": int(15.8 * GIB)}
        found = Card(**{**values, "half": torch.float16, "mode": "Default", **fields})
        pretend_gpus(monkeypatch, 1, found.capability)
        monkeypatch.setattr(machine, "card", lambda index: found)
        monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: list(wheel))
        monkeypatch.setattr(machine, "driver_version", lambda: "580.65.06")
        monkeypatch.setattr(torch.version, "cuda", "13.0")

    return change


def examined(*options):
    """(exit status, rows by name, everything they say) of `hw2 doctor --json`, computing on the CPU."""
    run = CliRunner().invoke(app, ["doctor", "--device", "cpu", "--json", *options], catch_exceptions=False)
    rows = json.loads(run.stdout)
    return run.exit_code, {row["name"]: row for row in rows}, [(row["status"], row["found"]) for row in rows]


def test_a_machine_without_a_gpu_is_no_problem(no_gpu):
    status, rows, _ = examined()
    assert status == 0
    assert (rows["GPU"]["status"], rows["GPU"]["found"]) == ("ok", "no GPU; the CPU is used")
    assert {row["status"] for row in rows.values()} <= {"ok", "warning"}
    assert list(rows["GPU"]) == documented_fields("`doctor --json`, on stdout")
    assert {"float32 operations", "float16 operations", "bfloat16 operations", "TF32", "repeat", "rate"} <= set(rows)


def test_this_machine_is_sound_and_people_get_a_table():
    run = CliRunner().invoke(app, ["doctor", "--device", "cpu"], catch_exceptions=False)
    assert run.exit_code == 0, run.stdout
    assert run.stderr == ""
    assert all(word in run.stdout for word in ("versions", "P3 generate", "repeat"))
    assert "Traceback" not in run.stdout


def test_json_has_the_rows_and_every_warning_says_what_to_do(no_gpu):
    _, rows, _ = examined()
    assert all(row.keys() == {"name", "status", "found", "remedy"} for row in rows.values())
    assert all(bool(row["remedy"]) == (row["status"] != "ok") for row in rows.values())


def test_an_unknown_device_is_one_sentence(hw2):
    run = hw2("doctor", "--device", "gpu")
    assert run.returncode == 2
    assert run.stderr.count("\n") == 1
    assert "the device is 'gpu'; expected cpu, cuda, cuda:N or auto (--device)" in run.stderr


def test_an_old_driver_is_found(monkeypatch):
    pretend_failing_cuda(monkeypatch, OLD_DRIVER)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(choose, "has_nvidia_driver", lambda: True)
    monkeypatch.setattr(choose, "driver_version", lambda: "535.104.05")
    run = CliRunner().invoke(app, ["doctor", "--json"], catch_exceptions=False)
    row = next(row for row in json.loads(run.stdout) if row["name"] == "driver")
    assert run.exit_code == 2
    assert row["status"] == "problem"
    assert "the NVIDIA driver 535.104.05 supports CUDA 12.2" in row["found"]
    assert row["remedy"].startswith("install driver 580 or newer")
    assert "hw2:" not in run.stderr, "the row says it, and no other sentence"


def test_a_sound_gpu_has_no_problem(gpu):
    gpu()
    status, rows, _ = examined()
    assert status == 0
    assert rows["driver"]["found"] == "driver 580.65.06; CUDA 13.0 needs 580 or newer"
    assert rows["cuda:0"] == {
        "name": "cuda:0",
        "status": "ok",
        "found": "Tesla T4, compute capability 7.5, 15.0 of 15.8 GiB are free",
        "remedy": "",
    }
    assert rows["cuda:0 formats"]["found"] == "float32, float16 are native; --dtype auto takes float16"
    assert "cuda:0 mode" not in rows


def test_a_driver_that_is_too_old_and_starts_all_the_same_is_a_warning(gpu, monkeypatch):
    gpu()
    monkeypatch.setattr(machine, "driver_version", lambda: "579.99")
    assert [(row.status, row.remedy) for row in machine.driver()] == [("warning", "install driver 580 or newer")]
    monkeypatch.setattr(machine, "driver_version", lambda: "of unknown version")
    assert [row.status for row in machine.driver()] == ["ok"]


def test_a_wheel_without_kernels_for_the_card_is_found(gpu):
    gpu(capability=(6, 1), name="GeForce GTX 1080")
    status, rows, _ = examined()
    assert status == 2
    assert "and none for compute capability 6.1" in rows["cuda:0 kernels"]["found"]
    assert rows["cuda:0 kernels"]["remedy"] == "install a PyTorch for an older CUDA (pytorch.org/get-started)"


@pytest.mark.parametrize(
    ("capability", "wheel", "status"),
    [
        ((8, 6), ["sm_80"], "ok"),
        ((8, 0), ["sm_86"], "problem"),
        ((9, 0), ["sm_86"], "problem"),
        ((9, 0), ["sm_90a"], "ok"),
        ((10, 3), ["sm_100a"], "problem"),
        ((10, 3), ["sm_100f"], "ok"),
        ((12, 0), ["sm_90", "compute_90"], "warning"),
        ((12, 0), ["compute_90a"], "problem"),
        ((12, 1), ["sm_75", "sm_120"], "ok"),
        ((7, 5), ["compute_90"], "problem"),
    ],
)
def test_machine_code_runs_on_later_minor_versions_and_ptx_on_all_later_cards(capability, wheel, status):
    assert kernels("kernels", capability, wheel).status == status


def test_a_card_that_is_newer_than_the_wheel_needs_a_newer_wheel():
    assert kernels("kernels", (12, 0), ["sm_75", "sm_90"]).remedy.startswith("install a newer PyTorch")


@pytest.mark.parametrize(("free", "status"), [(15.0, "ok"), (9.0, "warning")])
def test_a_card_that_another_program_uses_is_a_warning(gpu, free, status):
    gpu(free=int(free * GIB))
    found, rows, _ = examined()
    assert (found, rows["cuda:0"]["status"]) == (0, status)


def test_an_exclusive_card_is_a_warning(gpu):
    gpu(mode="Exclusive_Process")
    status, rows, _ = examined()
    assert (status, rows["cuda:0 mode"]["status"]) == (0, "warning")
    assert "Exclusive_Process" in rows["cuda:0 mode"]["found"]


def test_a_card_that_cannot_be_opened_is_one_row_and_the_others_follow(gpu, monkeypatch):
    gpu()

    def busy(index):
        raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCUDA kernel errors might ..")

    monkeypatch.setattr(machine, "card", busy)
    status, rows, _ = examined()
    assert status == 2
    assert rows["cuda:0"]["found"] == "it failed: CUDA error: all CUDA-capable devices are busy or unavailable"
    assert rows["rate"]["status"] == "ok"


def test_nothing_of_a_check_is_lost_when_it_fails_in_the_middle():
    def half():
        yield from machine.versions()
        raise RuntimeError

    assert [(row.name, row.status) for row in checked("half", half)] == [("versions", "ok"), ("half", "problem")]


def _replaced(monkeypatch, name, wrong):
    """Replace an operation where it is computed in float32; the reference in float64 stays right."""
    right, shapes = OPERATIONS[name]
    monkeypatch.setitem(
        OPERATIONS,
        name,
        (lambda *x: wrong(right, *x) if x[0].dtype == torch.float32 else right(*x), shapes),
    )


def _cut(value):
    """A float32 as TF32 has it: with 10 bits after the point."""
    return ((value.view(torch.int32) + 0x1000) & ~0x1FFF).view(torch.float32)


@pytest.mark.parametrize("name", ["matrix product", "convolution"])
def test_tf32_is_found_although_it_is_off(monkeypatch, name):
    _replaced(monkeypatch, name, lambda right, a, b: right(_cut(a), _cut(b)))
    assert 1e-4 < error(name, CPU, torch.float32) < 1e-3
    status, rows, _ = examined()
    assert status == 2
    assert rows["TF32"]["status"] == "problem"
    assert "float32 is computed in TF32 or less, though it is off" in rows["TF32"]["found"]
    assert "NVIDIA_TF32_OVERRIDE" in rows["TF32"]["remedy"]


@pytest.mark.parametrize("name", list(OPERATIONS))
@pytest.mark.parametrize("factor", [1.001, 0.0, float("nan")])
def test_a_wrong_operation_is_found(monkeypatch, name, factor):
    _replaced(monkeypatch, name, lambda right, *x: right(*x) * factor)
    rows = list(operations.operations(CPU, torch.float32))
    assert [row.status for row in rows] == ["problem", "ok"]
    assert rows[0].found.startswith(f"the {name} in float32 differs from float64 on the CPU by ")
    assert name not in rows[1].found


def test_a_wrong_product_ends_with_status_2(monkeypatch):
    _replaced(monkeypatch, "matrix product", lambda right, a, b: right(a, b) + 1)
    status, rows, said = examined()
    assert status == 2
    assert any(state == "problem" and "the matrix product in float32 differs" in found for state, found in said)
    assert rows["TF32"]["found"].startswith("unknown, because float32 is wrong")


def test_an_operation_that_fails_is_a_row_and_the_others_are_examined(monkeypatch):
    def fails(right, *x):
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    _replaced(monkeypatch, "attention", fails)
    first, second = operations.operations(CPU, torch.float32)
    assert (first.status, second.status) == ("problem", "ok")
    assert first.found.startswith("the attention in float32 failed: CUDA error: no kernel image")
    assert first.remedy == "install a PyTorch that has kernels for this card; see the row kernels"


def test_half_precision_that_a_cpu_lacks_is_a_warning_and_on_a_gpu_a_problem(monkeypatch):
    monkeypatch.setitem(operations.LIMITS, torch.float16, 0.0)
    assert {row.status for row in operations.operations(CPU, torch.float16)} == {"warning"}
    monkeypatch.setattr(operations, "native_formats", lambda device: (torch.float32, torch.float16))
    assert {row.status for row in operations.operations(CPU, torch.float16)} == {"problem"}


def test_inputs_are_rounded_before_they_are_compared():
    assert 0 < error("matrix product", CPU, torch.bfloat16) < 2**-8, "the rounding of one result, and of no input"


@pytest.mark.parametrize("deterministic", [True, False])
def test_training_steps_that_differ_are_a_problem_only_if_they_are_deterministic(monkeypatch, deterministic):
    right, calls = operations.training_step, []

    def noisy(device, *, deterministic):
        calls.append(deterministic)
        gradients = right(device, deterministic=deterministic)
        if deterministic == changes and calls.count(deterministic) == 2:
            gradients[1][3, 7] = torch.nextafter(gradients[1][3, 7], torch.tensor(torch.inf))
        return gradients

    changes = deterministic
    monkeypatch.setattr(operations, "training_step", noisy)
    (row,) = operations.repeats(CPU)
    assert calls == [True, True, False, False]
    assert row.status == ("problem" if deterministic else "ok")
    assert ("differ, although" if deterministic else "without it they differ") in row.found


def test_a_training_step_has_gradients_of_both_layers():
    gradients = operations.training_step(CPU, deterministic=True)
    assert [gradient.shape for gradient in gradients] == [(32, 16, 3, 3), (10, 2048)]
    assert all(gradient.abs().max() > 0 for gradient in gradients)
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_machine_that_cannot_compile_is_a_warning_said_once(monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC environment variable.")

    monkeypatch.setattr(torch, "compile", broken)
    _, row = machine.compiler(CPU, tries=True)
    assert (row.status, row.found) == (
        "warning",
        "it does not work, and trainings are slower: Failed to find C compiler.",
    )
    assert capsys.readouterr().err == ""


def test_a_missing_compiler_is_a_warning(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    row, _ = machine.compiler(CPU, tries=False)
    assert (row.status, row.remedy) == ("warning", "install one: sudo apt-get install g++")


def test_several_gpus_are_told_with_what_connects_them(monkeypatch):
    pretend_gpus(monkeypatch, 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "can_device_access_peer", lambda i, j: (i, j) != (1, 0))
    (row,) = machine.several()
    assert row.found == (
        "2 GPUs; CUDA_VISIBLE_DEVICES is '2,3'; NCCL is there; some reach each other through the CPU only"
    )
    monkeypatch.setattr(torch.distributed, "is_nccl_available", lambda: False)
    (row,) = machine.several()
    assert row.status == "warning"


def test_times_are_operations_by_rate_and_hours_are_a_warning():
    rows = {row.name: row for row in tasks({torch.float32: 2e12}, free=None)}
    assert rows["P3 generate, 100 pictures"].found == "at least 36 minutes in float32"
    assert rows["P3 generate, 100 pictures"].status == "ok"
    assert rows["P3 learn, 2,000 steps"].found == "at least 2.0 hours in float32"
    assert (rows["P3 learn, 2,000 steps"].status, rows["P3 learn, 2,000 steps"].remedy) == (
        "warning",
        "use a GPU, or a faster one",
    )


def test_a_fast_half_precision_makes_a_slow_float32_no_warning():
    rows = {row.name: row for row in tasks({torch.float32: 1e12, torch.float16: 1e14}, free=None)}
    assert rows["P3 learn, 2,000 steps"].found == "at least 4.0 hours in float32 or 2 minutes in float16"
    assert rows["P3 learn, 2,000 steps"].status == "ok"


def test_what_does_not_fit_the_memory_is_a_warning_that_names_the_format():
    rows = {row.name: row for row in tasks({torch.float32: 1e13, torch.bfloat16: 1e14}, free=6 * GIB)}
    learn = rows["P3 learn, 2,000 steps"]
    assert learn.status == "warning"
    assert learn.found.endswith("; it takes 9.8 GiB in float32, and 6.0 GiB are free")
    assert "--dtype bfloat16" in learn.remedy
    assert rows["P2, 10 faces"].status == "ok"


def test_a_format_whose_rate_cannot_be_measured_is_told_and_the_others_count(monkeypatch):
    def rate(device, dtype):
        if dtype == torch.float16:
            raise RuntimeError("CUBLAS_STATUS_NOT_SUPPORTED")
        return 1e12

    monkeypatch.setattr(times, "rate", rate)
    found, (row,) = times.rates(CPU, (torch.float32, torch.float16))
    assert found == {torch.float32: 1e12}
    assert row.status == "problem"
    assert row.found == (
        "a large matrix product reaches float32 1 TFLOP/s, float16 failed: CUBLAS_STATUS_NOT_SUPPORTED"
    )


def test_each_check_fails_alone(no_gpu, monkeypatch):
    def fails(*_, **__):
        raise ValueError("this fails")

    monkeypatch.setattr(operations, "repeats", fails)
    monkeypatch.setattr(machine, "versions", fails)
    status, rows, _ = examined()
    assert status == 2
    assert rows["versions"]["found"] == rows["repeat"]["found"] == "it failed: this fails"
    assert rows["rate"]["status"] == "ok"
    assert len(rows) >= len(checks(CPU, False))


def test_warnings_of_pytorch_do_not_disturb_the_rows(no_gpu, monkeypatch):
    def warns(device):
        warnings.warn("the card is old", UserWarning, stacklevel=1)
        yield from ()

    monkeypatch.setattr(operations, "repeats", warns)
    assert examined()[0] == 0


@pytest.mark.gpu
def test_a_real_gpu_is_sound():
    run = CliRunner().invoke(app, ["doctor", "--json"], catch_exceptions=False)
    rows = {row["name"]: row for row in json.loads(run.stdout)}
    assert run.exit_code == 0, [row for row in rows.values() if row["status"] == "problem"]
    assert "bits" in rows["repeat"]["found"]
    assert card(0).total >= card(0).free > 0
