"""All rules of predicted operations, by the operation's name."""

from initframe.signal import (
    rules_attention,
    rules_complex,
    rules_drawn,
    rules_filled,
    rules_fourier,
    rules_linear,
    rules_lookup,
    rules_norms,
    rules_padding,
    rules_pointwise,
    rules_pooling,
    rules_resize,
    rules_sample,
    rules_scan,
    rules_scatter,
    rules_softmax,
    rules_spectral,
    rules_views,
)

RULES = {
    **rules_pointwise.RULES,
    **rules_filled.RULES,
    **rules_drawn.RULES,
    **rules_views.RULES,
    **rules_padding.RULES,
    **rules_lookup.RULES,
    **rules_scatter.RULES,
    **rules_linear.RULES,
    **rules_complex.RULES,
    **rules_fourier.RULES,
    **rules_softmax.RULES,
    **rules_attention.RULES,
    **rules_norms.RULES,
    **rules_pooling.RULES,
    **rules_resize.RULES,
    **rules_scan.RULES,
    **rules_sample.RULES,
    **rules_spectral.RULES,
}
"""What is not here and not elementwise ends the prediction of all that follows from it."""
