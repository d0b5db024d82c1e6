"""SimCT Studio: on-policy distillation between language models that tokenize text differently (arXiv 2605.07711)."""

__version__ = "0.1.0"
