"""Parts of one's own for isr_jax: each module is all that its part needs."""
