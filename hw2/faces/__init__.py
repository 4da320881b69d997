"""Problem 2: faces from given noises with given weights, by DDIM."""
