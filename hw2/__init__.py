"""Reference implementation of the diffusion homework DLCV Fall 2024 HW2."""
