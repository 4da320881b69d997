"""Autograder of the diffusion homework DLCV Fall 2024 HW2: folders of images in, official scores out."""
