"""Where numbers come from: a stateless, element-addressed stream."""
