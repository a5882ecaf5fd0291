"""Search for the settings of a recipe on its development split; the test split is looked at once, at the end."""
