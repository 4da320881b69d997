import json
import os

import pytest

from hw2.concepts.prompts import ConceptPrompts, read_prompts
from hw2.errors import InputError

GOOD = {"0": {"src_image": "dog", "token_name": "<new1>", "prompt": ["A <new1> here.", "A <new1>."], "baseline": []}}


def test_prompts_and_tokens_are_read_in_order(tmp_path):
    content = {"7": GOOD["0"], "0": {**GOOD["0"], "token_name": "<x>", "prompt": ["in the style of <x>"]}}
    (tmp_path / "input.json").write_text(json.dumps(content))
    assert list(read_prompts(tmp_path / "input.json").items()) == [
        ("7", ConceptPrompts("<new1>", ["A <new1> here.", "A <new1>."])),
        ("0", ConceptPrompts("<x>", ["in the style of <x>"])),
    ]


def test_the_official_file_is_read(shared_data):
    found = read_prompts(shared_data / "hw2_data" / "textual_inversion" / "input.json")
    assert {key: (c.token_name, len(c.prompts)) for key, c in found.items()} == {"0": ("<new1>", 2), "1": ("<new2>", 2)}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("", "is empty"),
        ("[" * 100_000, "not valid JSON"),
        ("[]", "not a JSON object"),
        ("{}", "not a JSON object"),
        ('{"0": {}, "0": {}}', "is there twice"),
        ('{"../x": {}}', "names a folder"),
        ('{"0": []}', "no token_name for concept 0"),
        ('{"0": {"token_name": 5}}', "no token_name"),
        ('{"0": {"token_name": "new1", "prompt": ["a new1"]}}', "is 'new1'; expected a word in angle brackets"),
        ('{"0": {"token_name": "<a b>", "prompt": ["a <a b>"]}}', "expected a word in angle brackets"),
        ('{"0": {"token_name": "<a>", "prompt": ["a <a> \\ud800"]}}', "not valid JSON"),
        ('{"0": {"token_name": "<a>"}}', "no list of prompts"),
        ('{"0": {"token_name": "<a>", "prompt": "a <a>"}}', "no list of prompts"),
        ('{"0": {"token_name": "<a>", "prompt": []}}', "no list of prompts"),
        ('{"0": {"token_name": "<a>", "prompt": ["a dog"]}}', "without its token <a>: 'a dog'"),
    ],
)
def test_other_files_are_refused_in_a_sentence(tmp_path, content, match):
    (tmp_path / "input.json").write_text(content)
    with pytest.raises(InputError, match=match) as caught:
        read_prompts(tmp_path / "input.json")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="cannot be read"):
        read_prompts(tmp_path / "none.json")


def test_a_pipe_or_a_large_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "large.json").write_bytes(bytes(2**20 + 1))
    for name, match in (
        ("pipe", "is not a file; expected the homework's input.json"),
        ("large", "larger than 1048576 bytes"),
    ):
        with pytest.raises(InputError, match=match):
            read_prompts(tmp_path / f"{name}.json")
