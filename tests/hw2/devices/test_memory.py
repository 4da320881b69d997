"""Memory that runs out is recognized, halves the batch, and is nothing else."""

import pytest
import torch

from hw2.devices import memory
from hw2.devices.memory import in_batches, is_out_of_memory, remedies
from hw2.errors import InputError

NAMES = list("abcdefgh")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_memory_that_ran_out_is_recognized(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: misaligned address"),
        RuntimeError("Expected all tensors to be in the same memory format"),
        ValueError("CUDA out of memory"),
        KeyError("memory"),
    ],
)
def test_other_errors_are_no_matter_of_memory(error):
    assert not is_out_of_memory(error)
    with pytest.raises(type(error)), remedies("use less", "batch_size"):
        raise error


def test_a_training_that_does_not_fit_names_its_own_remedies():
    with pytest.raises(InputError) as refused, remedies("divide a step into more parts", "accumulation"):
        raise torch.OutOfMemoryError("CUDA out of memory.")
    assert str(refused.value) == "there is not enough memory; divide a step into more parts"
    assert refused.value.parameters == ("accumulation",)


@pytest.fixture
def collected(monkeypatch):
    """Counts the collections of unused objects, which take half a second in the process of the tests."""
    calls = []
    monkeypatch.setattr(memory.gc, "collect", lambda: calls.append(""))
    return calls


class Work:
    """Draws batches; more than `fits` names at once are too many, from the second of its two steps on."""

    def __init__(self, fits):
        self.fits, self.tried, self.steps = fits, [], []

    def draw(self, names, on_step):
        self.tried.append("".join(names))
        on_step("first", len(names))
        if len(names) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        on_step("second", len(names))
        return [name.upper() for name in names]

    def run(self, batch_size, names=NAMES):
        return list(in_batches(names, batch_size, self.draw, lambda note, count: self.steps.append(count)))


def test_a_batch_that_does_not_fit_is_drawn_in_halves(capsys, collected):
    work = Work(fits=2)
    assert work.run(8) == [name.upper() for name in NAMES]
    assert work.tried == ["abcdefgh", "abcd", "ab", "cd", "ef", "gh"]
    assert len(collected) == 2, "what the failed batches left is freed before the next is drawn"
    assert sum(work.steps) == 2 * len(NAMES)  # what was counted for a batch that failed is taken back
    assert capsys.readouterr().err.splitlines() == [
        "hw2: memory ran out with 8 images at once; going on with 4 images at once",
        "hw2: memory ran out with 4 images at once; going on with 2 images at once",
    ]


@pytest.mark.usefixtures("collected")
def test_what_is_drawn_is_kept_when_a_later_batch_does_not_fit():
    work = Work(fits=8)
    found = in_batches(NAMES, 4, work.draw, lambda note, count: None)
    first = [next(found) for _ in range(4)]
    work.fits = 1
    assert first + list(found) == [name.upper() for name in NAMES]
    assert work.tried == ["abcd", "efgh", "ef", "e", "f", "g", "h"]


@pytest.mark.usefixtures("collected")
def test_one_image_that_does_not_fit_is_told():
    with pytest.raises(InputError, match="there is not enough memory for one image; free some, use half precision"):
        Work(fits=0).run(2)


def test_another_error_is_not_taken_for_memory():
    def broken(names, on_step):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal"):
        list(in_batches(NAMES, 4, broken, lambda note, count: None))


def test_no_batch_is_drawn_for_no_names():
    assert Work(fits=1).run(4, names=[]) == []
