"""Fakes for tests, ours and those of plug-in authors: tiny models, servers that fail, ready-made summaries."""
