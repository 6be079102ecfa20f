"""Use a trained student: write, serve and export it."""
