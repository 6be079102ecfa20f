"""Quipwright teaches a small language model a creative skill from a large one: imitation, then critique.

The method is that of Ravi et al. 2024, "Small But Funny: A Feedback-Driven Approach to Humor Distillation" (ACL 2024).
"""

from quipwright.core.version import VERSION

__version__ = VERSION
