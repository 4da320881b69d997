"""Problem 1: one diffusion model that draws MNIST-M and SVHN digits."""
