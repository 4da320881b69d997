"""Places of the bundled weights: this package's own folder `models`, in a checkout and in an installed wheel."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

MODELS = Path(str(files("hw2"))) / "models"
DIGIT_UNET = MODELS / "digit_unet.safetensors"
DIGIT_STUDENT = MODELS / "digit_unet_distilled.safetensors"
DIGIT_RECOGNIZER = MODELS / "digit_recognizer.safetensors"
FACE_UNET = MODELS / "face_unet.safetensors"
SMALL_SD = MODELS / "small_sd"
SMALL_CLIP = MODELS / "small_clip"
