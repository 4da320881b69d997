"""What the commands that tests start each import, imported once by multiprocessing's forkserver; see `commands`."""

import gc
import importlib

gc.disable()
for name in (
    "torch", "torchvision", "accelerate", "scipy.stats", "matplotlib.pyplot", "tensorboard.compat.proto",
    "typer._adapters", "pydantic", "rich.console", "rich.progress", "rich.table", "rich.markdown", "PIL.PngImagePlugin",
    "diffusers.models.unets.unet_2d_condition", "diffusers.models.autoencoders.autoencoder_kl",
    "transformers.models.clip.modeling_clip", "transformers.models.clip.tokenization_clip",
):  # fmt: skip
    importlib.import_module(name)

gc.enable()
gc.freeze()  # no command's garbage collection looks at it again, nor copies its memory
