"""Blind ratings by people: the page, the votes, their file formats."""
