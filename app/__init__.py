"""The studio: a Gradio app over the simct library.

It keeps no state of its own: everything about a run is in its run folder.
"""
