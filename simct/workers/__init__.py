"""Work on files that nobody vouches for, in child processes that may hang, crash or be killed without harm."""
