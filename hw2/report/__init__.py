"""The homework's report: every figure with its numbers, and one page that explains them."""
