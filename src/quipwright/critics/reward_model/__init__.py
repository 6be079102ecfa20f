"""A small critic with weights of its own, trained on the verdicts of a large one."""
