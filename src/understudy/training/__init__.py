"""Training: objectives, the one module that holds student and objective, and the one loop that trains it."""
