"""Reading untrusted files: functions that run in a child process, and the plain records that they return.

Each takes the child's Worker as its first argument. Nothing here imports Gradio, because all children share what is
imported once.
"""
