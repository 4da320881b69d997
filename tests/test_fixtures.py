"""What makes the fixtures gives the same in every run."""

from __future__ import annotations

from fixtures.making.small_world import world_tokenizer

CAPTIONS = [
    ["a striped red ball on the grass", "snow under water", "long ears and a green belly in the style of a sketch"],
    ["a hatched print of a mushroom", "a dotted pink critter with pointed ears at night", "a mosaic of an orange boat"],
]


def test_the_worlds_tokenizer_numbers_its_words_alike_every_time() -> None:
    # trained models know words by these numbers; the trainer's hash tables are seeded anew each time
    vocabularies = [world_tokenizer(CAPTIONS).get_vocab() for _ in range(40)]
    assert all(vocabulary == vocabularies[0] for vocabulary in vocabularies)
    assert {"grass</w>", "sketch</w>", "ball</w>"} <= vocabularies[0].keys()
