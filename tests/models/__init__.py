"""Models of random weights: networks of the real kinds that need no training and no download."""
