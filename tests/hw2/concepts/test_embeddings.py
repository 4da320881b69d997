import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.testing import assert_close

from hw2.concepts.embeddings import check_token, read_embeddings, save_embeddings
from hw2.errors import InputError

TOKENS = st.text("abcxyz0123-", min_size=1, max_size=8).map(lambda name: f"<{name}>")


@settings(max_examples=40)
@given(shapes=st.dictionaries(TOKENS, st.integers(1, 5), min_size=1, max_size=3), width=st.integers(1, 9))
def test_what_is_saved_is_read(tmp_path_factory, shapes, width):
    path = tmp_path_factory.mktemp("e") / "learned_embeds.safetensors"
    learned = {token: torch.randn(n, width) for token, n in shapes.items()}
    save_embeddings(path, learned)
    found = read_embeddings(path)
    assert set(found) == set(learned)
    assert all(torch.equal(found[token], learned[token]) for token in learned)
    assert set(load_file(path)) == set(learned)  # the ecosystem's form: the token is the key


@pytest.mark.parametrize(
    ("content", "token", "expected"),
    [
        (torch.arange(6.0).view(2, 3), "<a>", {"<a>": [[0, 1, 2], [3, 4, 5]]}),
        (torch.arange(3.0), "<a>", {"<a>": [[0, 1, 2]]}),
        (torch.nn.Parameter(torch.ones(1, 2)), "<a>", {"<a>": [[1, 1]]}),
        ({"<b>": torch.ones(2)}, None, {"<b>": [[1, 1]]}),
        ({"<b>": torch.ones(1, 2, dtype=torch.float16)}, "<a>", {"<a>": [[1, 1]]}),
        ({"plain": torch.ones(1, 2)}, None, {"<plain>": [[1, 1]]}),
        ({"string_to_param": {"*": torch.ones(1, 2)}, "name": "my-cat", "step": 5}, None, {"<my-cat>": [[1, 1]]}),
        ({"string_to_param": {"*": torch.ones(1, 2)}}, "<a>", {"<a>": [[1, 1]]}),
        ({"string_to_param": torch.nn.ParameterDict({"*": torch.ones(1, 2)})}, "<a>", {"<a>": [[1, 1]]}),
        ({"emb_params": torch.ones(1, 2)}, "<a>", {"<a>": [[1, 1]]}),
        ({"<a>": torch.ones(1, 1, 2)}, None, {"<a>": [[1, 1]]}),
        (
            {"<a>": torch.ones(2), "<a>_2": torch.zeros(2), "<a>_1": torch.ones(2)},
            None,
            {"<a>": [[1, 1], [1, 1], [0, 0]]},
        ),
    ],
)
@pytest.mark.parametrize("suffix", [".pt", ".bin", ".ckpt"])
def test_every_shape_that_people_save_is_read(tmp_path, content, token, expected, suffix):
    torch.save(content, tmp_path / f"e{suffix}")
    found = read_embeddings(tmp_path / f"e{suffix}", token)
    assert {name: vectors.tolist() for name, vectors in found.items()} == expected
    assert all(vectors.dtype == torch.float32 and not vectors.requires_grad for vectors in found.values())


@pytest.mark.parametrize(
    ("name", "token", "shape"),
    [("tensor_1x768.pt", "<a>", (1, 768)), ("tensor_4x768.pt", "<a>", (4, 768)), ("token_dict.ckpt", None, (1, 768))],
)
def test_real_files_of_three_shapes_are_read(shared_data, name, token, shape):
    ((found, vectors),) = read_embeddings(shared_data / "peer_embeddings" / name, token).items()
    assert vectors.shape == shape
    assert found.startswith("<")
    assert 0.1 < vectors.norm(dim=1).mean() < 100


@pytest.mark.parametrize(
    ("content", "token", "match"),
    [
        (torch.ones(1, 2), None, "names no token; give it as"),
        ({"<a>": torch.ones(1), "<b>": torch.ones(1)}, "<c>", "holds several tokens"),
        ({"<a>": torch.tensor([[1.0, float("nan")]])}, None, "not finite"),
        ({"<a>": torch.ones(2, 2, 3)}, None, r"shape \(2, 2, 3\)"),
        (
            {"string_to_param": {"*": torch.ones(1, 2), "cat": torch.ones(1, 2)}},
            "<a>",
            r"holds the terms \*, cat for one",
        ),
        ({"emb_params": torch.ones(1, 2)}, None, "names no token; give it as"),
        ({"<a>": torch.ones(1, 3), "<a>_1": torch.ones(1, 2)}, None, "vectors of different widths for <a>"),
        ({"<a>": torch.ones(0, 3)}, None, "shape"),
        ({"<a>": torch.ones(1, 3, dtype=torch.int64)}, None, "no tensor of floating-point numbers"),
        ({"<a>": "text"}, None, "no tensor of floating-point numbers"),
        ({"<a>": torch.empty(1, 3, device="meta")}, None, "no tensor of floating-point numbers"),
        ({"<a>": torch.ones(1).expand(60, 50_000_000)}, None, r"shape \(60, 50000000\)"),
        ({"<a b>": torch.ones(1, 3)}, None, "token '<a b>', which cannot be part of a prompt; give it as"),
        ({"a\x1b[31m": torch.ones(1, 3)}, None, "which cannot be part of a prompt"),
        ({"a": torch.ones(1, 3), "<a>": torch.ones(1, 3)}, None, "has <a> twice"),
        ([1, 2], None, "holds a list"),
        ({}, None, "holds a dict"),
    ],
)
def test_other_contents_are_refused_in_a_sentence(tmp_path, content, token, match):
    torch.save(content, tmp_path / "e.pt")
    with pytest.raises(InputError, match=match) as caught:
        read_embeddings(tmp_path / "e.pt", token)
    assert "\n" not in str(caught.value)


def test_code_in_a_file_does_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"<a>": Evil()}, tmp_path / "e.pt")
    with pytest.raises(InputError, match="could run code"):
        read_embeddings(tmp_path / "e.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"PK\x03\x04"])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_broken_files_are_refused(tmp_path, content, suffix):
    (tmp_path / f"e{suffix}").write_bytes(content)
    with pytest.raises(InputError, match=r"e\.(safetensors|pt)"):
        read_embeddings(tmp_path / f"e{suffix}")
    with pytest.raises(InputError, match="is not a file"):
        read_embeddings(tmp_path)


def test_a_file_that_is_or_becomes_too_large_is_not_read(tmp_path):
    with (tmp_path / "e.safetensors").open("wb") as file:
        file.truncate(200 * 2**30)  # takes no room on the disk
    with pytest.raises(InputError, match="has 214748364800 bytes; expected a learned embedding of at most"):
        read_embeddings(tmp_path / "e.safetensors")
    torch.save({"<a>": torch.zeros(1, 2**24 + 1)}, tmp_path / "whole.pt")
    with (
        zipfile.ZipFile(tmp_path / "whole.pt") as whole,
        zipfile.ZipFile(tmp_path / "e.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))
    assert (tmp_path / "e.pt").stat().st_size < 2**20
    with pytest.raises(InputError, match="is compressed, which torch"):
        read_embeddings(tmp_path / "e.pt")


def test_a_kind_of_numbers_that_nobody_reads_is_refused(tmp_path):
    header = b'{"<a>":{"dtype":"F4","shape":[1,2],"data_offsets":[0,1]}}'
    (tmp_path / "e.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(InputError, match="is not a readable safetensors file"):
        read_embeddings(tmp_path / "e.safetensors")


@pytest.mark.parametrize("token", ["new1", "<new 1>", "", "<>", "<a", "<a><b>"])
def test_a_token_needs_its_brackets(token):
    check_token("<new1>", "--token")
    with pytest.raises(InputError, match="--token is"):
        check_token(token, "--token")


def test_a_token_may_be_renamed_and_nothing_else_changes(tmp_path):
    save_embeddings(tmp_path / "e.safetensors", {"<a>": torch.ones(2, 3)})
    assert_close(read_embeddings(tmp_path / "e.safetensors", "<b>"), {"<b>": torch.ones(2, 3)})
