"""Limits on the files and images that are read. The limits are ours, not official numbers of the homework."""

MAX_FILE_BYTES = 16 * 2**20
"""All output files of the homework are much smaller. The largest, 512x512 RGB, has 0.75 MiB before compression."""

MAX_PIXELS = 4096 * 4096
"""Ground truth and references may be larger than outputs, up to this limit."""
