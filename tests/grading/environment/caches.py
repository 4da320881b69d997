"""Caches of the Hub with models of random weights, in the layout that huggingface_hub gives them."""

from __future__ import annotations

from pathlib import Path

from tests.models.tiny_clip import save_tiny_clip

CLIP = "openai/clip-vit-large-patch14"


def save_model(hub: Path, repository: str = CLIP, revision: str = "a1b2c3") -> Path:
    """Save a tiny CLIP as a model of the Hub: blobs, links to them in a snapshot, and main. Returns the model."""
    model = save_place(hub, repository)
    (model / "blobs").mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(revision)
    snapshot = save_tiny_clip(model / "snapshots" / revision)
    for number, file in enumerate(sorted(path for path in snapshot.iterdir() if path.is_file())):
        file.rename(model / "blobs" / str(number))
        file.symlink_to(f"../../blobs/{number}")
        file.chmod(0o644)  # safetensors closes its files to others
    return model


def save_place(hub: Path, repository: str = CLIP) -> Path:
    """The folder of a model in a cache of the Hub."""
    return hub / f"models--{repository.replace('/', '--')}"
