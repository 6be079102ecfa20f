"""Small models with a loss and a generator."""
