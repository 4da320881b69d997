"""What a report says of its origin: right, and sensitive to whatever could change a number."""

import hashlib
import os

import numpy as np
import pytest
import torch

from grading.core.errors import GradingError
from grading.submission.provenance import data_hashes, hardware, listing_hash, versions


def test_versions_are_those_that_are_imported():
    found = versions()
    assert found["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert found["numpy"] == np.__version__
    assert found["dlcv-hw2"] != "unknown"


def test_hardware_is_what_we_may_use():
    found = hardware()
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert found["memory_gib"] == pytest.approx(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, abs=2)
    assert found["processor"]


def test_a_file_has_its_sha256_and_a_folder_that_of_all_its_files(tmp_path):
    (tmp_path / "GT").mkdir()
    (tmp_path / "GT" / "00.png").write_bytes(b"face")
    first = data_hashes({"file": tmp_path / "GT" / "00.png", "folder": tmp_path / "GT"})
    assert first["file"] == hashlib.sha256(b"face").hexdigest()
    (tmp_path / "GT" / "00.png").rename(tmp_path / "GT" / "01.png")
    assert data_hashes({"folder": tmp_path / "GT"})["folder"] != first["folder"]
    (tmp_path / "GT" / "01.png").rename(tmp_path / "GT" / "00.png")
    assert data_hashes({"folder": tmp_path / "GT"})["folder"] == first["folder"]
    (tmp_path / "GT" / "00.png").write_bytes(b"Face")
    os.utime(tmp_path / "GT" / "00.png", (0, 0))
    assert data_hashes({"folder": tmp_path / "GT"})["folder"] != first["folder"]
    with pytest.raises(GradingError, match="none cannot be read"):
        data_hashes({"none": tmp_path / "none"})


def test_a_listing_changes_with_names_sizes_times_and_rights_and_follows_no_link(tmp_path):
    folder = tmp_path / "b01"
    folder.mkdir()
    script = folder / "hw2_1.sh"
    script.write_text("exit 0")
    (folder / "link").symlink_to(tmp_path)
    seen = {listing_hash(folder)}
    (tmp_path / "outside").touch()
    assert listing_hash(folder) in seen
    for change in (
        lambda: os.utime(script, (1, 1)),
        lambda: script.chmod(0o700),
        lambda: script.rename(folder / "hw2_2.sh"),
        lambda: (folder / "empty").mkdir(),
    ):
        change()
        seen.add(listing_hash(folder))
    assert len(seen) == 5
    with pytest.raises(GradingError, match="cannot be listed"):
        listing_hash(tmp_path / "none")
