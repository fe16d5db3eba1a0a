"""What the user has: a model, read as slots."""
