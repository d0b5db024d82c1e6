"""Reading strangers' files: functions that a child process runs, and the plain records that they return.

Each takes the child's Worker first. Nothing here imports Gradio: the children share what is imported once.
"""
