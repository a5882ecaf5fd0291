"""A student for others to ask: engines that write, a gateway before them, a cascade to the teacher, and pages."""
