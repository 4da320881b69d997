"""Our sentences for textual inversion; the token replaces {}."""

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

PAIR = (
    "a {0} and a {0}",
    "a picture of a {0} and a {0}",
    "a photo of a {0} and a {0}",
    "a drawing of a {0} and a {0}",
    "a {0} beside a {0}",
)
"""Sentences with the token twice, for pictures of a thing beside itself."""

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
