"""What a log says of a failed download, and where code downloads from."""

from __future__ import annotations

import re

NO_NETWORK = re.compile(
    r"name resolution|Name or service not known|Could not resolve|unable to resolve|Network is unreachable|"
    r"Max retries exceeded|Failed to establish a new connection|urlopen error|Connection (?:refused|timed out|reset)|"
    r"timed out|No route to host|HTTP Error (?:429|5\d\d)|(?:429|50[0234]) [A-Z]",
)
LINK = re.compile(r"https?://(?P<host>[A-Za-z0-9][A-Za-z0-9-]*(?:\.[A-Za-z0-9-]+)+)[^\s\"'`)<>\\]*")

CALLS = {
    r"\bgdown\b": "drive.google.com",
    r"\bpip3? install\b": "pypi.org",
    r"\bclip\.load\(": "openaipublic.azureedge.net",
    r"torch\.hub\.load|model_zoo|weights=\S*Weights|pretrained=True": "download.pytorch.org",
    r"open_clip|timm\.create_model|detectors": "huggingface.co",
}
"""Calls that download, and where from."""

HUB_CALLS = r"from_pretrained|snapshot_download|hf_hub_download|huggingface-cli|\bhf download\b"
"""Calls that download from the Hugging Face Hub. While a script runs, a cache takes its place."""
