"""What the user wrote: recipes, patterns and expressions. Knows no model and no torch."""
