"""The studio: a Gradio app over the simct library.

It keeps no state: the run folders are the truth about runs.
"""
