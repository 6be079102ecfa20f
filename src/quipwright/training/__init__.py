"""Rows of texts become a checkpoint: objectives, the loop, early stopping."""
