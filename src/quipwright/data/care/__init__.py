"""Which sentences must not be joked about: a small classifier and a word list, and what trains and measures them."""
