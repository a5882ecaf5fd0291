"""Small seeded inputs on which the original implementations were run once; `golden.json` keeps their numbers.

Only inputs and numbers are here: the code that made the numbers is named in `golden.json` by repository and commit.
Inputs come from NumPy's legacy generator, whose stream does not change between versions.
"""

import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

IGNORED = -100
NUMBERS = json.loads((Path(__file__).parent / "golden.json").read_text())
"""The numbers, by what they are of."""


def normal(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    """Standard normal numbers times `scale`, float64."""
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape) * scale)


def integers(seed: int, high: int, *shape: int) -> Tensor:
    """Whole numbers below `high`."""
    return torch.from_numpy(np.random.RandomState(seed).randint(0, high, shape)).long()


def labels_of(ids: Tensor, starts: list[int], lengths: list[int]) -> Tensor:
    """`[B, S]` the next token at the positions that predict an answer token, −100 elsewhere."""
    labels = torch.full_like(ids, IGNORED)
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        labels[row, start : start + length] = ids[row, start + 1 : start + length + 1]
    return labels


class CrossModelCase:
    """Two models' padded batches for cross-model attention; states at padding are smaller than those of text.

    Args:
        padding: length S that both sides are padded to, at most 512; the text is the same at any.
    """

    width, teacher_width, columns, teacher_columns = 6, 10, 5, 9
    starts, lengths = [4, 6], [7, 12]
    teacher_starts, teacher_lengths = [5, 3], [6, 10]

    def __init__(self, padding: int) -> None:
        self.ids = integers(1, self.columns, 2, 512)[:, :padding]
        self.teacher_ids = integers(2, self.teacher_columns, 2, 512)[:, :padding]
        self.labels = labels_of(self.ids, self.starts, self.lengths)
        self.teacher_labels = labels_of(self.teacher_ids, self.teacher_starts, self.teacher_lengths)
        self.states = self._states(3, padding, self.width, self.starts, self.lengths)
        self.teacher_states = self._states(5, padding, self.teacher_width, self.teacher_starts, self.teacher_lengths)
        self.embedding = normal(7, self.columns, self.width)
        self.teacher_embedding = normal(8, self.teacher_columns, self.teacher_width, scale=0.5)
        self.head = normal(9, self.columns, self.width)
        self.teacher_head = normal(10, self.teacher_columns, self.teacher_width)
        self.query = normal(11, 2 * self.teacher_width, 2 * self.width, scale=0.3)
        self.to_student = normal(12, self.width, self.teacher_width, scale=0.3)
        self.to_teacher = normal(13, self.teacher_width, self.width, scale=0.3)

    @staticmethod
    def _states(seed: int, padding: int, width: int, starts: list[int], lengths: list[int]) -> Tensor:
        states = normal(seed, 2, 512, width)[:, :padding]
        for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
            states[row, start + length + 1 :] *= 0.2
        return states


class ExactAlignmentCase:
    """Three answers that two vocabularies cut differently, for DSKDv2 with exact token alignment.

    Args:
        unshared: let the teacher prefer, at one aligned token, one that the student lacks.
    """

    student_tokens = ("<pad>", "ab", "c", "de", "f", "</s>", "g", "h", "ij", "x")
    teacher_tokens = ("</s>", "<pad>", "ab", "cd", "e", "f", "g", "hi", "j", "h", "ij", "y")
    answers = (
        (("ab", "c", "de", "f", "</s>"), ("ab", "cd", "e", "f", "</s>")),
        (("g", "h", "ij", "</s>"), ("g", "hi", "j", "</s>")),
        (("g", "ab", "h", "</s>"), ("g", "ab", "h", "</s>")),
    )
    preferred = ("ab", "g", "f", "f", "</s>", "g", "ab", "h", "</s>", "f", "ab", "h", "g")
    prompt, padding, width, teacher_width = 2, 9, 5, 4

    def __init__(self, *, unshared: bool = False) -> None:
        self.head = normal(21, len(self.student_tokens), self.width)
        self.teacher_head = normal(22, len(self.teacher_tokens), self.teacher_width)
        # Rows of one length, so that a state along a row prefers its token.
        self.teacher_head /= self.teacher_head.norm(dim=1, keepdim=True)
        self.states = normal(23, 3, self.padding, self.width)
        self.teacher_states = normal(24, 3, self.padding, self.teacher_width, scale=0.1)
        shared = [token for token in self.student_tokens if token in self.teacher_tokens]
        sides = (self.student_tokens, self.teacher_tokens)
        self.columns = torch.tensor([[side.index(token) for token in shared] for side in sides])
        self.labels = self._labels(0, self.student_tokens)
        self.teacher_labels = self._labels(1, self.teacher_tokens)
        preferred = ["y", *self.preferred[1:]] if unshared else self.preferred
        for place, token in zip((self.teacher_labels >= 0).nonzero().tolist(), preferred, strict=True):
            self.teacher_states[place[0], place[1]] += 6 * self.teacher_head[self.teacher_tokens.index(token)]

    def _labels(self, side: int, tokens: tuple[str, ...]) -> Tensor:
        labels = torch.full((3, self.padding), IGNORED)
        for row, answer in enumerate(self.answers):
            ids = torch.tensor([tokens.index(token) for token in answer[side]])
            labels[row, self.prompt : self.prompt + len(ids)] = ids
        return labels


class MinEditCase:
    """Answers that two vocabularies cut differently, for minimum edit distance; ids are places in the lists.

    `nearest` sends two of the teacher's ids to the student's `net`, of which the second has the larger logit.
    """

    student_tokens = ("<a>", "</s>", "net", "t", "work", "s", "lice", "x")
    teacher_tokens = ("</s>", "<a>", "network", "net", "nets", "work", "s", "li", "ce", "lice")
    nearest = (1, 0, 4, 2, 2, 4, 5, 6, 6, 6)
    answers = (
        (("net", "t", "work", "</s>"), ("net", "work", "</s>")),
        (("net", "work", "s", "lice", "</s>"), ("network", "s", "li", "ce", "</s>")),
        (("s", "lice", "net", "</s>"), ("s", "lice", "net", "</s>")),
    )

    def __init__(self) -> None:
        self.ids = [
            tuple(
                torch.tensor([tokens.index(token) for token in side])
                for side, tokens in zip(answer, (self.student_tokens, self.teacher_tokens), strict=True)
            )
            for answer in self.answers
        ]
        self.logits = [normal(30 + n, len(ids[0]), len(self.student_tokens)) for n, ids in enumerate(self.ids)]
        self.teacher_logits = [normal(40 + n, len(ids[1]), len(self.teacher_tokens)) for n, ids in enumerate(self.ids)]
        for logits in self.teacher_logits:
            logits[:, 4] = logits[:, 3] + 1.0


class SpansCase:
    """One answer of eight letters behind a prompt of two tokens, for groups of tokens by bytes (GOLD) and for ULD.

    Args:
        sharpness: what the logits are multiplied by.
    """

    student_tokens = ("p", "q", "net", "work", "s", "lice", "x", "e", "slice")
    teacher_tokens = ("q", "p", "network", "s", "li", "ce", "net", "y", "z", "e", "w")
    answer = (("net", "work", "s", "lice"), ("network", "s", "li", "ce"))
    prompt = 2

    def __init__(self, sharpness: float = 1.0) -> None:
        sides = (self.student_tokens, self.teacher_tokens)
        self.ids = [
            torch.tensor([tokens.index(token) for token in ("p", "q", *answer)])
            for tokens, answer in zip(sides, self.answer, strict=True)
        ]
        self.labels = [torch.cat([torch.full((2,), IGNORED), ids[2:]]) for ids in self.ids]
        self.offsets = [self._offsets(answer) for answer in self.answer]
        self.logits = [
            sharpness * normal(50 + n, len(ids), len(tokens))
            for n, (ids, tokens) in enumerate(zip(self.ids, sides, strict=True))
        ]
        shared = [token for token in self.teacher_tokens if token in self.student_tokens]
        self.columns = torch.tensor([[side.index(token) for token in shared] for side in sides])

    def _offsets(self, answer: tuple[str, ...]) -> Tensor:
        ends = np.cumsum([0, *map(len, answer)])
        return torch.tensor([[0, 0], [0, 0], *zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)])


def logits_pair() -> tuple[Tensor, Tensor]:
    """`[6, 20]` logits of student and teacher, from flat to sharp."""
    factors = torch.tensor([0.5, 1.0, 2.0, 3.0, 5.0, 8.0], dtype=torch.float64)[:, None]
    return normal(61, 6, 20) * factors, normal(62, 6, 20) * factors


THESAURUS = (("car", "auto", "motor_car"), ("start", "begin", "commenc"), ("fast", "quick", "swift"), ("hous", "home"))
"""An invented WordNet: sets of words (stems, as METEOR looks them up) that mean the same."""

SENTENCES = (
    ("the car begins quickly", "the auto starts swiftly"),
    ("a fast car at home", "at home a quick auto"),
    ("she begins at the house", "she starts at the home"),
    ("cars start", "commence the motor car"),
    ("quick quick fast", "swift fast quick swift"),
    ("nothing of this", "in no way alike"),
)
"""Predictions and references whose third stage pairs synonyms."""

CONVERSATION = (
    {"role": "system", "content": "Answer in one sentence."},
    {"role": "user", "content": "What does the AMF do?"},
    {"role": "assistant", "content": "It registers devices and follows where they are."},
)
"""One conversation, of which the answer is learned."""
