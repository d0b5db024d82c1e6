"""Work on untrusted files in child processes, which may hang, crash or be killed without harm."""
