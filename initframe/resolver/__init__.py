"""Recipe × model → plan: which rule wins each tensor, the fill that follows, and every error at once."""
