"""Pipeline: the stages of a run, who needs whom, and the scheduler that runs what is missing."""
