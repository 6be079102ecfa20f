"""Pairs of texts become judgments."""
