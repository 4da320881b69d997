"""The homework's official constants, each with its source. "slides" are the 47 pages of hw2_intro.pdf."""

FACES_THRESHOLD = 20.0
"""Problem 2 passes with a mean squared error below this, on 0-255 values (slides p12)."""

MAX_FILE_BYTES = 16 * 2**20
"""Ours: no output file of the homework comes near; the largest, 512x512 RGB, has 0.75 MiB before compression."""

MAX_PIXELS = 4096 * 4096
"""Ours: ground truth and references may be larger than outputs, but not by this much."""
