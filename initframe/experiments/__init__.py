"""A small training loop and what it is run on: the only room that trains."""
