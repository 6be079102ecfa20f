"""Candidates become pairs, pairs with judgments become rankings, rankings become training rows."""
