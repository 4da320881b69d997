"""Reference implementation of the diffusion homework DLCV Fall 2024 HW2.

`from hw2 import ..` gives the names of `__all__`; docs/library.md shows them. A name's module is imported when the name
is first used, so that importing this package takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hw2.concepts.embeddings import read_embeddings, save_embeddings
    from hw2.concepts.recipe import InversionConfig
    from hw2.concepts.stable_diffusion import load_stable_diffusion
    from hw2.concepts.training import learn_word
    from hw2.concepts.words import load_words
    from hw2.diffusion.interpolate import lerp, slerp
    from hw2.diffusion.samplers import (
        StepOutput,
        classifier_free_guidance,
        ddim,
        ddpm,
        dpm_solver_pp_2m,
        draw,
        randn,
        walk,
        with_guidance,
    )
    from hw2.diffusion.schedule import NoiseSchedule, cosine_betas, homework_schedule, linear_betas, scaled_linear_betas
    from hw2.diffusion.seeding import image_generator, image_generators
    from hw2.digits.checkpoint import load_digit_model
    from hw2.digits.folder import load_digit_folder, save_digit_folder
    from hw2.digits.network import DigitUNet
    from hw2.digits.sample import digit_to_u8
    from hw2.errors import InputError
    from hw2.faces.checkpoint import load_face_unet
    from hw2.faces.folder import load_face_folder, save_face_folder
    from hw2.faces.network import FaceUNet
    from hw2.faces.sample import face_to_u8
    from hw2.files.bundled import DIGIT_STUDENT, DIGIT_UNET, FACE_UNET, SMALL_SD
    from hw2.files.pictures import read_images

    __version__: str

__all__ = [
    "DIGIT_STUDENT",
    "DIGIT_UNET",
    "FACE_UNET",
    "SMALL_SD",
    "DigitUNet",
    "FaceUNet",
    "InputError",
    "InversionConfig",
    "NoiseSchedule",
    "StepOutput",
    "classifier_free_guidance",
    "cosine_betas",
    "ddim",
    "ddpm",
    "digit_to_u8",
    "dpm_solver_pp_2m",
    "draw",
    "face_to_u8",
    "homework_schedule",
    "image_generator",
    "image_generators",
    "learn_word",
    "lerp",
    "linear_betas",
    "load_digit_folder",
    "load_digit_model",
    "load_face_folder",
    "load_face_unet",
    "load_stable_diffusion",
    "load_words",
    "randn",
    "read_embeddings",
    "read_images",
    "save_digit_folder",
    "save_embeddings",
    "save_face_folder",
    "scaled_linear_betas",
    "slerp",
    "walk",
    "with_guidance",
]

_MODULES = {
    "concepts.embeddings": "read_embeddings save_embeddings",
    "concepts.recipe": "InversionConfig",
    "concepts.stable_diffusion": "load_stable_diffusion",
    "concepts.training": "learn_word",
    "concepts.words": "load_words",
    "diffusion.interpolate": "lerp slerp",
    "diffusion.samplers": "StepOutput classifier_free_guidance ddim ddpm dpm_solver_pp_2m draw randn walk "
    "with_guidance",
    "diffusion.schedule": "NoiseSchedule cosine_betas homework_schedule linear_betas scaled_linear_betas",
    "diffusion.seeding": "image_generator image_generators",
    "digits.checkpoint": "load_digit_model",
    "digits.folder": "load_digit_folder save_digit_folder",
    "digits.network": "DigitUNet",
    "digits.sample": "digit_to_u8",
    "errors": "InputError",
    "faces.checkpoint": "load_face_unet",
    "faces.folder": "load_face_folder save_face_folder",
    "faces.network": "FaceUNet",
    "faces.sample": "face_to_u8",
    "files.bundled": "DIGIT_STUDENT DIGIT_UNET FACE_UNET SMALL_SD",
    "files.pictures": "read_images",
}
"""Module -> its names in `__all__`."""

if not TYPE_CHECKING:  # for mypy, this package has the names above and no others

    def __getattr__(name):
        """The object that a name of `__all__` stands for, and the version."""
        if name == "__version__":
            from importlib.metadata import version  # it takes longer to import than --help takes

            return version("dlcv-hw2")
        for module, names in _MODULES.items():
            if name in names.split():
                globals()[name] = found = getattr(import_module(f"hw2.{module}"), name)
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__():
        return sorted({*globals(), *__all__, "__version__"})
