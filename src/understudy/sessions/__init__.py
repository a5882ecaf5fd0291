"""What can be learned of sessions without a model that writes: patterns, samples, neighbours, baselines.

```text
itemsets.py         baskets -> itemsets that are frequent, however long a basket is
patterns.py         training sessions -> patterns of categories, items and words of intents, in sentences
title_clusters.py   categories for a catalogue that has none
vectors.py          a session or a title as a vector: by words, or by a sentence model
sampling.py         which training sessions to take, at any ratio, nested
neighbours.py       the training sessions that are nearest to one
baselines.py        bundles by chance, all in one, of the nearest session, by patterns alone
```

Whatever is fitted here is fitted on the sessions that are passed in: pass those of training.
"""
