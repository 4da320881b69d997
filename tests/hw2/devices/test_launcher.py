"""What other programs leave in the environment starts no processes, and changes no arithmetic."""

import pytest

from hw2.devices.launcher import KEPT, LAUNCHED, forget_other_launchers
from tests.commands import run_command


@pytest.mark.parametrize(
    "left",
    [
        {"RANK": "1", "WORLD_SIZE": "4"},
        {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"},
        {"PMI_RANK": "3", "PMI_SIZE": "8"},
        {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "1"},
        {"MV2_COMM_WORLD_SIZE": "2"},
    ],
)
def test_ranks_that_no_launcher_set_are_forgotten_and_told(capsys, left):
    variables = {"PATH": "/bin", **left}
    forget_other_launchers(variables)
    assert variables == {"PATH": "/bin"}
    said = capsys.readouterr().err
    assert "SIZE is set, but no launcher started this process; it runs alone" in said


def test_the_processes_of_a_launcher_keep_their_ranks(capsys):
    variables = dict.fromkeys(LAUNCHED, "1") | {"PMI_SIZE": "2"}
    before = dict(variables)
    forget_other_launchers(variables)
    assert variables == before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("launched", [True, False])
def test_accelerates_own_configuration_changes_no_arithmetic(launched):
    kept = {KEPT: "true"} | (dict.fromkeys(LAUNCHED, "1") if launched else {})
    variables = {**kept, "ACCELERATE_MIXED_PRECISION": "fp16", "ACCELERATE_USE_DEEPSPEED": "true"}
    forget_other_launchers(variables)
    assert variables == kept


def test_an_empty_environment_says_nothing(capsys):
    forget_other_launchers({})
    assert capsys.readouterr().err == ""


def test_stale_ranks_and_a_foreign_configuration_hang_nothing_and_join_nobody(tmp_path):
    """The master of these variables does not exist: joining it would wait for half an hour."""
    config = tmp_path / "home" / ".cache" / "huggingface" / "accelerate"
    config.mkdir(parents=True)
    (config / "default_config.yaml").write_text("distributed_type: MULTI_GPU\nmixed_precision: fp16\n")
    left = {
        "RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1",
        "ACCELERATE_MIXED_PRECISION": "fp16", "ACCELERATE_USE_FSDP": "true", "HOME": str(tmp_path / "home"),
        "HF_HOME": str(tmp_path / "elsewhere"), "SLURM_NTASKS": "4", "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    code = (
        "from hw2.devices.choose import start_accelerator\n"
        "made = start_accelerator('cpu')\n"
        "print(made.num_processes, made.mixed_precision, made.device, made.distributed_type.value)"
    )
    run = run_command("tests.hw2.typed", code, variables=left)
    assert (run.returncode, run.stdout) == (0, "1 no cpu NO\n"), run.stderr
    assert run.stderr.startswith("hw2: WORLD_SIZE is set, but no launcher started this process")
