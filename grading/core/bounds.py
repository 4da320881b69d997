"""The largest files and images that are read. They are ours; the homework's numbers are in `grading.homeworks`."""

MAX_FILE_BYTES = 16 * 2**20
"""No output file of the homework comes near; the largest, 512x512 RGB, has 0.75 MiB before compression."""

MAX_PIXELS = 4096 * 4096
"""Ground truth and references may be larger than outputs, but not by this much."""
