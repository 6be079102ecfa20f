"""A grid of recipe variants and seeds, run in one folder."""
