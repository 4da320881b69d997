"""Limits on the files and images that are read. They are our own; `grading.homeworks` has the homework's numbers."""

MAX_FILE_BYTES = 16 * 2**20
"""Every output file of the homework is much smaller: the largest, 512x512 RGB, has 0.75 MiB before compression."""

MAX_PIXELS = 4096 * 4096
"""Ground truth and references may be larger than outputs, up to this limit."""
