from tests.grading.sandboxed import TRUSTED, run


def test_a_log_shows_what_a_terminal_would_and_cannot_steer_one(folder):
    script = r"""printf 'a\r50%%\r100%%\nb\033[31mred\tend\r\n\xff'"""
    assert run(script, folder, sandbox=TRUSTED).log == "100%\nb\\x1b[31mred       end\n\ufffd"


def test_a_long_log_keeps_its_beginning_and_its_end(folder):
    log = run("seq 100000", folder, sandbox=TRUSTED).log.splitlines()
    assert log[:3] == ["1", "2", "3"]
    assert log[-2:] == ["99999", "100000"]
    cut = [line for line in log if line.endswith("bytes left out ..]")]
    assert int(cut[0].split()[1]) == sum(len(f"{i}\n") for i in range(1, 100_001)) - 16 * 2**10
