"""Measures of completions; nothing else of the package imports this."""
