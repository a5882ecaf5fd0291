"""Knowledge in words: what a teacher writes about examples, step by step, and what of it is kept."""
