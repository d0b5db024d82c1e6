"""The studio: a Gradio app over the simct library. It keeps no state of its own: runs are what run folders say."""
