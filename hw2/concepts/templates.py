"""Sentences around a placeholder for textual inversion, ours; {} is where the token goes."""

OBJECT = (
    "a picture of {}",
    "a photo of {}",
    "a drawing of {}",
    "a photo of a {}",
    "a picture of a {}",
    "a close view of {}",
    "{} in the middle",
    "a good photo of a {}",
    "a small {}",
    "a large {}",
    "one {}",
    "the {}",
    "a {} seen from the front",
    "a clear picture of the {}",
)

STYLE = (
    "a picture in the style of {}",
    "a painting in the style of {}",
    "a drawing in the style of {}",
    "a scene in the style of {}",
    "a landscape in the style of {}",
    "{} style",
    "art by {}",
    "something in the style of {}",
    "a good picture in the style of {}",
    "the style of {}",
)
