"""Whether a completion is right: what it states as its answer, read as a number, a choice, a text, math or code."""
