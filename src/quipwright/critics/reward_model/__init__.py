"""The reward model: a small network that scores one response at a time, trained on verdicts."""
