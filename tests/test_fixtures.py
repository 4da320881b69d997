"""The bundled data and models, and the programs that make them."""

from __future__ import annotations

from fixtures.making.small_world import world_tokenizer
from tests.commands import ROOT

CAPTIONS = [
    ["a striped red ball on the grass", "snow under water", "long ears and a green belly in the style of a sketch"],
    ["a hatched print of a mushroom", "a dotted pink critter with pointed ears at night", "a mosaic of an orange boat"],
]


def test_the_worlds_tokenizer_numbers_its_words_alike_every_time() -> None:
    # Trained models know words by these numbers; the trainer's hash tables have a new seed each time.
    vocabularies = [world_tokenizer(CAPTIONS).get_vocab() for _ in range(40)]
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)
    assert {"grass</w>", "sketch</w>", "ball</w>"} <= vocabularies[0].keys()


def test_hw2_and_grading_ship_the_same_clip() -> None:
    folders = (ROOT / "hw2" / "models" / "small_clip", ROOT / "grading" / "judges" / "models" / "small_clip")
    ours, judges = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in folders
    )
    assert len(ours) == 5
    assert {path: judges.get(path) == content for path, content in ours.items()} == dict.fromkeys(judges, True)
