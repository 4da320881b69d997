"""Problem 3: personalization of Stable Diffusion by textual inversion, and CLIP as a classifier."""
