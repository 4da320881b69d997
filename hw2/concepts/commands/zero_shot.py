"""`hw2 concepts zero-shot`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hw2.cli import check_at_least
from hw2.errors import InputError
from hw2.files.bundled import SMALL_CLIP
from hw2.log import say
from hw2.options import BatchOption, DeviceOption
from hw2.wording import counted, shortened

if TYPE_CHECKING:
    from hw2.concepts.zero_shot import Prediction


def zero_shot(
    images: Annotated[Path, typer.Option(help="Folder of images {class id}_{image id}.png.")],
    labels: Annotated[Path, typer.Option(help="The homework's id2label.json: class ids and names.")],
    output: Annotated[Path, typer.Option(help="Folder for predictions.csv, results.json and cases.png.")],
    clip: Annotated[
        str,
        typer.Option(
            help="A transformers folder, or open_clip's ARCHITECTURE/TAG (ViT-B-32/openai) or ARCHITECTURE:FILE "
            "(ViT-B-32-quickgelu:FILE for OpenAI's weights), or a model of the Hugging Face hub.",
            show_default="the bundled model",
        ),
    ] = str(SMALL_CLIP),
    template: Annotated[
        str,
        typer.Option(
            help='Sentence about an image, with {object} for the name of a class; or "openai80", the mean of 80.'
        ),
    ] = "A photo of {object}.",
    device: DeviceOption = "auto",
    batch_size: BatchOption = 100,
) -> None:
    """Classify images by CLIP, which was never trained on their classes."""
    import json

    from hw2.concepts.zero_shot import OBJECT, list_images, predictions_csv, read_class_names, results
    from hw2.devices.choose import start_processes
    from hw2.files.output import OutputFolder

    check_at_least("--batch-size", batch_size)
    if template != "openai80" and OBJECT not in template:
        raise InputError(f"--template is {template!r}; expected a sentence with {OBJECT} in it, or openai80")
    processes = start_processes(device)
    if not processes.is_main_process:
        return
    names = read_class_names(labels)
    paths, others = list_images(images, names)
    folder = OutputFolder(output, ["predictions.csv", "results.json", "cases.png"], settings=None)
    try:
        from hw2.concepts.figures import cases_png

        predictions = _predictions(clip, str(processes.device), names, template, paths, batch_size)
        found = results(predictions, names)
        low, high = found["interval"]
        sentence = f"accuracy {found['accuracy']:.2%} ({found['correct']} of {found['total']} images)"
        summary = {"clip": clip, "template": template, "ignored_files": len(others), **found}
        folder.write("predictions.csv", predictions_csv(predictions, names))
        folder.write(
            "results.json", json.dumps(summary, indent=1, ensure_ascii=False).encode(errors="backslashreplace")
        )
        folder.write("cases.png", cases_png(predictions, names, f"{template}  {sentence}"))
        folder.finish()
    finally:
        folder.discard_if_empty()
    typer.echo(f"{sentence}, 95 % interval {low:.2%} to {high:.2%}")
    if others:
        were = "was" if len(others) == 1 else "were"
        ignored = f"{counted(len(others), 'other file')} in {images} {were} ignored ({shortened(others)})"
        say(ignored)


def _predictions(
    clip: str, device: str, names: dict[int, str], template: str, paths: list[Path], batch_size: int
) -> list[Prediction]:
    """A prediction for each image, with progress bars."""
    from hw2.concepts.clip import load_clip, openai_templates
    from hw2.concepts.zero_shot import class_features, classify
    from hw2.progress import progress_bar

    model = load_clip(clip, device)
    templates = openai_templates() if template == "openai80" else [template]
    with progress_bar("sentences", len(names) * len(templates)) as advance:
        features = class_features(model, list(names.values()), templates, advance)
    predictions = []
    with progress_bar("images", len(paths)) as advance:
        for prediction in classify(model, paths, names, features, batch_size):
            predictions.append(prediction)
            advance("")
    return predictions
