"""isr_jax: unrolled single-image super-resolution in JAX."""
