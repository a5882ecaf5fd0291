"""A human-grounded study: explanations of several methods, rated blindly by people.

`folder` makes a study out of runs and opens it again; `web/` is what raters and whoever runs the study see; `export`
writes down what was answered.
"""
