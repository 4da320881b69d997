"""The homework's official constants, each with its source. "slides" are the 47 pages of hw2_intro.pdf."""

FACES_THRESHOLD = 20.0
"""Problem 2 passes with a mean squared error below this, on 0-255 values (slides p12)."""

MAX_FILE_BYTES = 16 * 2**20
"""Ours: no output file of the homework comes near; the largest, 512x512 RGB, has 0.75 MiB before compression."""

MAX_PIXELS = 4096 * 4096
"""Ours: ground truth and references may be larger than outputs, but not by this much."""

DIGITS_SIMPLE, DIGITS_STRONG = 0.90, 0.95
"""Problem 1's baselines for the mean of the two accuracies (slides p8)."""

DIGITS_PER_CLASS = 50
"""Images of each digit in each data set, `{digit}_{001..050}.png` (slides p35)."""

DIGITS_SIZE = 28
"""Both classifiers look at 28x28 pixels; other sizes are resized (digit_classifier.py)."""

DATASETS = ("mnistm", "svhn")

MNISTM_CLASSIFIER_SHA256 = "53aa64047bfdccf59362a74d52ce668d9c61982d02d4feb4d676bad4f90eff2c"
"""Of the official Classifier.pth in the course's template."""

CLIP_MODEL = "openai/clip-vit-base-patch32"
"""The hub model that scores Problem 3 (clip_image_score.py)."""

CLIP_EXTENSIONS = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
"""What counts as an image, in any case of letters; other files are ignored (clip_image_score.py)."""

IMAGES_PER_PROMPT = 25
"""Exactly so many in each prompt's folder (slides p37, clip_image_score.py)."""

SELECTED, TEXT_WEIGHT = 5, 2.5
"""The five images with the largest image + 2.5 * text score are averaged (grade_hw2_3.py)."""

DIGITS_SIMPLE_POINTS, DIGITS_STRONG_POINTS = 10.0, 5.0
"""Of Problem 1 (slides p8)."""

FACES_POINTS = 10.0
"""Of Problem 2, for the public noises, and again for the private ones (slides p12)."""

PROMPT_POINTS, CONCEPTS_POINTS = 2.5, 20.0
"""Of Problem 3: for each public prompt, and in all; what is left over is shared by the private prompts."""

REPORT_POINTS = 15.0
"""At most, for each problem's part of the written report."""

STAFF_FIXED_SHARE, LATE_SHARE_PER_DAY = 0.30, 0.30
"""Taken off the performance points if staff had to mend the code, and off all points for each day late beyond the three
free days of a term (slides p44-45)."""
