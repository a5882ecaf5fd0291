"""`understudy plan`: what a recipe will cost, before it is run – memory by part, disk, tokens, time and energy.

What can be measured here is: a probe trains each kind of stage for a few steps, in processes as a run starts them, and
reads their peaks and seconds off. For hardware that is not here all follows from the configs, the rows and published
figures. Each line says which of the two it is.
"""
