"""The SAM2 judge. It segments the object in the middle of an image.

The official script uses the package sam2. This judge uses the same network in transformers, with two differences.
Images are resized as 8-bit values by the model's own processor, while sam2 resizes floats. Masks are computed in
float32, while the script computes in bfloat16 on a GPU. A mask can therefore differ at its edge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from transformers import Sam2ImageProcessor, Sam2Model, Sam2Processor

from grading.core.arrays import ImageU8
from grading.core.errors import GradingError
from grading.core.results import Judge
from grading.judges.exact import exact
from grading.judges.pretrained import find_model, ready
from grading.judges.protocols import SAM_MODEL, Mask


@dataclass(frozen=True)
class TransformersSam:
    """A SAM2 of transformers, in float32. Each image is judged alone."""

    model: Any
    processor: Any
    identity: Judge
    device: str = "cpu"

    def mask(self, image: ImageU8) -> Mask:
        """See `MaskJudge`. From one positive point SAM2 finds three masks; the best predicted IoU is taken."""
        height, width = image.shape[:2]
        with exact():
            inputs = self.processor(
                images=Image.fromarray(image),
                input_points=[[[[width // 2, height // 2]]]],
                input_labels=[[[1]]],
                return_tensors="pt",
            )
            sizes = inputs.pop("original_sizes")
            found = self.model(**{name: value.to(self.device) for name, value in inputs.items()}, multimask_output=True)
            scores = found.iou_scores[0, 0].cpu().numpy()  # (3,)
            best = int(np.argsort(scores, kind="stable")[-1])
            chosen = found.pred_masks[:, :, [best]].cpu()  # (1, 1, 1, h, w), positive inside
            if not (np.isfinite(scores).all() and chosen.isfinite().all()):
                raise GradingError(f"{self.identity.file} computes masks that are not finite; download it again")
            mask: Mask = self.processor.post_process_masks(chosen, sizes)[0][0, 0].numpy()
        return mask


def load_sam(name: str, device: str = "cpu") -> TransformersSam:
    """The SAM2 in a transformers folder or with a hub name. A folder needs no download.

    Raises GradingError if the model cannot be loaded or is broken. No code in it is ever run.
    """
    source = find_model(name, "SAM2 model", SAM_MODEL)
    model, sha256, images = source.load(Sam2Model, Sam2ImageProcessor)
    ready(model, device)
    kind: Any = "official" if name == SAM_MODEL and not source.folder else "custom"
    judge = TransformersSam(model, Sam2Processor(images), Judge("sam", kind, name, sha256), device)
    with source.trial():
        judge.mask(np.zeros((2, 3, 3), np.uint8))
    return judge
