import os
import textwrap
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

import grading.sandbox.run
from grading.sandbox.limits import Watch
from tests.grading.sandboxed import SMALL, needs_sandbox, run


@needs_sandbox
def test_the_kernel_holds_the_limit_on_processes_even_without_a_watch(folder, monkeypatch):
    monkeypatch.setattr(grading.sandbox.run, "TICK", 5)
    (folder / "bomb.py").write_text(
        textwrap.dedent("""
        import os, time
        for n in range(200):
            try:
                if os.fork() == 0:
                    time.sleep(0.5)
                    os._exit(0)
            except BlockingIOError:
                break
        print(n)
        """)
    )
    assert 50 < int(run("python3 bomb.py", folder).log) < 64


@needs_sandbox
def test_memory_is_that_of_all_processes_together(folder):
    each = "python3 -c 'x = b\"x\" * (100 << 20); import time; time.sleep(2)' &"
    assert run(f"{each * 4} wait", folder).limit == "memory"


@needs_sandbox
def test_memory_that_processes_share_counts_once(folder):
    (folder / "fork.py").write_text(
        textwrap.dedent("""
        import os, time
        x = b"x" * (100 << 20)
        for _ in range(4):
            if os.fork() == 0:
                time.sleep(0.5)
                os._exit(0)
        for _ in range(4):
            os.wait()
        """)
    )
    assert run("python3 fork.py", folder).limit == ""


@needs_sandbox
def test_files_in_memory_count_as_memory(folder):
    limits = replace(SMALL, file_bytes=2**30)
    fill = "head -c 30M /dev/zero > /tmp/a; head -c 30M /dev/zero > /dev/shm/a; sleep 2"
    assert run(fill, folder, replace(limits, memory_bytes=50 * 2**20)).limit == "memory"
    assert run("head -c 40M /dev/zero > /tmp/a", folder, limits).limit == "space"


@needs_sandbox
def test_every_sandbox_has_its_own_count_of_processes(folder):
    script = "for _ in $(seq 40); do sleep 0.5 & done; wait"
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: run(script, folder), range(3)))
    assert [result.limit for result in results] == ["", "", ""]


@pytest.mark.parametrize(("pages", "limit"), [(SMALL.memory_bytes // 4096 - 1, ""), (SMALL.memory_bytes, "memory")])
def test_a_program_whose_memory_cannot_be_read_counts_as_a_whole(tmp_path, pages, limit):
    """Of a program of mode 0111, the kernel shows smaps_rollup to root only."""
    fields = ["0"] * 40
    fields[17], fields[21] = "1", str(pages)
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(f"7 (hidden) {' '.join(fields)}")
    processes = os.open(tmp_path, os.O_RDONLY)
    try:
        assert Watch(SMALL, processes, [], [], []).exceeded() == limit
    finally:
        os.close(processes)
