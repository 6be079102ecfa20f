"""Inputs: literals, the task file, the teacher's texts and the verdicts on file."""
