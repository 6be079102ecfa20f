"""A recipe becomes a run: the stages of the method, in order, each kept on disk."""
