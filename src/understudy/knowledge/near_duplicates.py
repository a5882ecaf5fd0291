"""Texts that say nearly the same as an earlier one, found exactly and in the order they come.

Two texts are compared by the Jaccard index of their sets of word 3-grams, |A ∩ B| / |A ∪ B|. It is at least t only if
at least ⌈t·|A|⌉ grams of A are in B, so B has one of any |A| − ⌈t·|A|⌉ + 1 grams of A: only earlier texts with one of
A's *rarest* so many grams are looked at, and nothing is missed. That is the prefix filter of set-similarity joins
(Chaudhuri et al., 2006; Bayardo et al., 2007) on a stream: all grams of earlier texts are indexed, and which are rare
is read off the index.

Memory grows with the texts that are kept: about a hundred bytes a word.
"""

from __future__ import annotations

import hashlib
import math
import re
from array import array

from understudy.normal_form import plain_numbers

# A number with its sign, point and unit is one word.
_WORD = re.compile(r"(?:(?<!\w)-)?\d+(?:[.,]\d+)*\w*|\w+")


def grams(text: str, size: int = 3) -> frozenset[int]:
    """Hashes of the word n-grams of a text, case and spelling of numbers aside; of a shorter text, its one run."""
    words = _WORD.findall(plain_numbers(text.casefold()))
    if not words:
        return frozenset()
    runs = (words[place : place + size] for place in range(max(1, len(words) - size + 1)))
    return frozenset(_hash(" ".join(run)) for run in runs)


def _hash(text: str) -> int:
    # Python's own hash differs from one process to the next.
    digest = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=7).digest()
    return int.from_bytes(digest, "big")


class NearDuplicates:
    """The texts seen so far, without those that were near-duplicates themselves: the first of several stays."""

    def __init__(self, threshold: float) -> None:
        """Start without texts.

        Args:
            threshold: least Jaccard index of a near-duplicate, above 0 and at most 1.
        """
        if not 0 < threshold <= 1:
            raise ValueError(f"threshold {threshold} is not above 0 and at most 1")
        self.threshold = threshold
        self._names: list[str] = []
        self._grams: list[array[int]] = []
        self._places: dict[int, array[int]] = {}

    def __len__(self) -> int:
        return len(self._names)

    def add(self, name: str, text: str) -> str | None:
        """Whether an earlier text says nearly the same; if none does, the text is remembered.

        Args:
            name: the example's id; texts under the same id are not compared.
            text: without words it is nobody's duplicate.

        Returns:
            The id of the first such text, or None.
        """
        text_grams = grams(text)
        if (first := self._first(name, text_grams)) is not None:
            return first
        if text_grams:
            for gram in text_grams:
                self._places.setdefault(gram, array("I")).append(len(self._names))
            self._names.append(name)
            self._grams.append(array("q", text_grams))
        return None

    def near(self, name: str, text: str) -> str | None:
        """As `add`, and the text is not remembered."""
        return self._first(name, grams(text))

    def _first(self, name: str, text_grams: frozenset[int]) -> str | None:
        for place in self._candidates(text_grams):
            if self._names[place] != name and self._similar(text_grams, self._grams[place]):
                return self._names[place]
        return None

    def _candidates(self, text_grams: frozenset[int]) -> list[int]:
        """Earlier texts that can be similar, in their order."""
        # The product may come out a hair above a whole number.
        min_common = math.ceil(self.threshold * len(text_grams) - 1e-9)
        postings = sorted((self._places.get(gram, ()) for gram in text_grams), key=len)
        return sorted({place for places in postings[: len(text_grams) - min_common + 1] for place in places})

    def _similar(self, text_grams: frozenset[int], earlier_grams: array[int]) -> bool:
        if min(len(text_grams), len(earlier_grams)) < self.threshold * max(len(text_grams), len(earlier_grams)) - 1e-9:
            return False
        common = len(text_grams.intersection(earlier_grams))
        return common / (len(text_grams) + len(earlier_grams) - common) >= self.threshold
