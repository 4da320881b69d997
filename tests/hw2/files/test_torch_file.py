import os
import pickle
import re
import warnings
import zipfile

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hw2.errors import InputError
from hw2.files.torch_file import read_torch_file


class MakesFolder:
    """A pickle that creates a folder when it is loaded."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


def test_tensors_come_back(tmp_path):
    torch.save({"a": torch.arange(3)}, tmp_path / "x.pt")
    assert read_torch_file(tmp_path / "x.pt")["a"].tolist() == [0, 1, 2]


def test_a_zip_file_that_runs_code_does_not_run(tmp_path):
    torch.save({"a": MakesFolder(tmp_path / "trap")}, tmp_path / "x.pt")
    with pytest.raises(InputError, match="could run code"):
        read_torch_file(tmp_path / "x.pt")
    assert not (tmp_path / "trap").exists()
    torch.load(tmp_path / "x.pt", weights_only=False)
    assert (tmp_path / "trap").exists(), "the trap must work, or this test proves nothing"


def test_a_bare_pickle_that_runs_code_does_not_run(tmp_path):
    (tmp_path / "x.pt").write_bytes(pickle.dumps(MakesFolder(tmp_path / "trap")))
    with pytest.raises(InputError, match="could run code"):
        read_torch_file(tmp_path / "x.pt")
    assert not (tmp_path / "trap").exists()
    pickle.loads((tmp_path / "x.pt").read_bytes())
    assert (tmp_path / "trap").exists(), "the trap must work, or this test proves nothing"


@given(st.binary(max_size=200), st.sampled_from([b"", b"PK\x03\x04", b"\x80\x02", b"\x80\x04"]))
def test_foreign_bytes_are_refused_in_one_sentence(tmp_path_factory, content, start):
    path = tmp_path_factory.getbasetemp() / "foreign.pt"
    path.write_bytes(start + content)
    with pytest.raises(InputError, match=r"\A[^\n]*foreign\.pt (is not a readable|holds more than)[^\n]*\Z"):
        read_torch_file(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.99])
def test_a_download_that_broke_off_is_told(tmp_path, share):
    path = tmp_path / "x.pt"
    torch.save(torch.zeros(1000), path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(InputError, match=r"is not a readable PyTorch file .*; download it again"):
        read_torch_file(path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        read_torch_file(tmp_path / "x.pt")


def test_nobody_is_told_to_switch_the_protection_off(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "x.pt")
    with pytest.raises(InputError, match="a TorchScript archive") as error:
        read_torch_file(tmp_path / "x.pt")
    assert "weights_only" not in str(error.value)


def repacked(source, target, compression, **replaced):
    """A copy of a zip file whose entries end in other bytes."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.infolist():
            content = replaced.get(entry.filename.rpartition("/")[2], old.read(entry))
            new.writestr(entry.filename, content, compression)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_before_it_is_unpacked(tmp_path):
    torch.save({"a": torch.zeros(3)}, tmp_path / "x.pt")
    repacked(tmp_path / "x.pt", tmp_path / "bomb.pt", zipfile.ZIP_DEFLATED, byteorder=b"\0" * 2**22)
    with pytest.raises(InputError, match=r"bomb\.pt is compressed.*save it again with torch\.save"):
        read_torch_file(tmp_path / "bomb.pt")


def test_an_archive_that_only_pytorch_can_list_is_not_read_unchecked(tmp_path):
    torch.save({"a": torch.zeros(2**20)}, tmp_path / "x.pt")
    repacked(tmp_path / "x.pt", tmp_path / "bomb.pt", zipfile.ZIP_DEFLATED)
    # Python's zipfile refuses to list an archive of such a version; PyTorch reads it.
    later = re.sub(rb"(PK\x01\x02..)..", rb"\1" + b"\xff\0", (tmp_path / "bomb.pt").read_bytes(), flags=re.DOTALL)
    (tmp_path / "later.pt").write_bytes(later)
    assert torch.load(tmp_path / "later.pt")["a"].shape == (2**20,)
    with pytest.raises(InputError, match=r"later\.pt is not a readable PyTorch file"):
        read_torch_file(tmp_path / "later.pt")


def test_a_file_that_was_packed_again_without_compression_is_read(tmp_path):
    torch.save({"a": torch.arange(3)}, tmp_path / "x.pt")
    repacked(tmp_path / "x.pt", tmp_path / "again.pt", zipfile.ZIP_STORED)
    assert read_torch_file(tmp_path / "again.pt")["a"].tolist() == [0, 1, 2]
