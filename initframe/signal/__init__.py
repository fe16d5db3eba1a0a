"""What an initialization does to activations and gradients: measured, predicted, calibrated, compared."""
