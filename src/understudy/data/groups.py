"""What rows share – a context, a document, a field – so that they are split and resampled together.

Questions about one paragraph are no independent evidence, and a test question whose paragraph stands in training does
not show what a student does with a new one. Two rules hold for a cut by groups: no group stands in two splits, and no
question does. Groups that share a question therefore go together.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from understudy.data.pictures import image_name
from understudy.data.split import OF_THE_ANSWER, cut, normalised, question_key
from understudy.errors import DataError, listed, unknown
from understudy.files import fingerprint
from understudy.types import Example

DOCUMENTS = (
    *("document", "document_id", "doc_id", "docid", "doc", "article", "article_id", "title", "document_title"),
    *("specification", "spec", "url", "source"),
)
"""What a document may be called in `meta`, the likeliest first: `data.group_by: document` takes the first it finds."""
_LONGEST_NAME = 80
_OFF_BY = 2.0  # a split with twice or half of its share is said

Kind = Literal["question", "context", "picture", "field"]


@dataclass(frozen=True, slots=True)
class Grouping:
    """What makes rows one group.

    Attributes:
        kind: `question`, `context`, `picture`, or a `field` of `meta`.
        field: which field.
        by_default: whether the recipe left it open (`auto`).
        named: whether rows carry the name of their group (`Example.group`); else the evaluation finds it itself.
        preamble: a context, normalised, that stands beside most of the rows and so is none of their own.
    """

    kind: Kind
    field: str = ""
    by_default: bool = False
    named: bool = True
    preamble: str = ""

    @property
    def noun(self) -> str:
        """What one is called in a sentence."""
        return self.field or self.kind

    def name_of(self, example: Example) -> str | None:
        """What the row shares with others; None where it has nothing of the kind."""
        if self.kind == "question":
            return question_key(example)
        if self.kind == "context":
            context = normalised(example.context) if example.context else ""
            return context if context and context != self.preamble else None
        if self.kind == "picture":
            return " ".join(map(image_name, example.images)) or None
        value = example.meta.get(self.field)
        if value in (None, "", [], {}):
            return None
        return value.strip() if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)

    def with_name(self, example: Example) -> Example:
        """The row with its group's name, by which it is resampled; long names as their fingerprint."""
        # By default, rows about a fact go by that.
        if not self.named or (self.by_default and example.meta.get("fact")):
            return example
        name = self.name_of(example)
        if name is None and self.preamble:
            name = question_key(example)  # The evaluation, left alone, would go by the context.
        if name is not None and (self.kind != "field" or len(name) > _LONGEST_NAME):
            name = fingerprint(name)
        return replace(example, group=name)


def grouping_of(wanted: str, examples: Sequence[Example]) -> Grouping:
    """What `data.group_by` means for these rows.

    `auto` goes by context where two questions share one, as long as there is more than one context. One that more than
    half of the rows share – an instruction, a mark that says that there is none – is no group but a preamble. Rows with
    pictures go by these where two questions share one.

    Raises:
        ConfigError: no row has such a field in `meta`.
        DataError: `context` or `document`, and no row has one.
    """
    if wanted == "none":
        return Grouping("question")
    if wanted == "auto" and any(example.images for example in examples):
        repeats = _asked_again(examples)
        return Grouping("picture" if repeats else "question", by_default=True, named=repeats)
    if wanted == "auto":
        questions = _questions_by_context(examples)
        if len(questions) > 1:
            preamble = next((name for name, keys in questions.items() if 2 * len(keys) > len(examples)), "")
            repeats = any(len(keys) > 1 for name, keys in questions.items() if name != preamble)
            kind = "context" if repeats else "question"
            return Grouping(kind, by_default=True, named=bool(preamble), preamble=preamble)
        return Grouping("question", by_default=True, named=bool(questions))
    if wanted == "context":
        if not any(example.context for example in examples):
            raise DataError("data.group_by: no row has a context", hint="name a field of your rows, or leave it out")
        return Grouping("context")
    fields = list(dict.fromkeys(name for row in examples for name in row.meta if name not in OF_THE_ANSWER))
    plain = {_plain(name): name for name in reversed(fields)}
    if wanted in fields:
        return Grouping("field", wanted)
    candidates = DOCUMENTS if wanted == "document" else (_plain(wanted),)
    found = next((plain[name] for name in candidates if name in plain), None)
    if found is not None:
        return Grouping("field", found)
    if wanted == "document":
        has = f"; the rows have: {listed(fields)}" if fields else ""
        raise DataError(
            f"data.group_by: no row names its document{has}", hint="name the field that does: data.group_by=FIELD"
        )
    raise unknown("field", wanted, ("auto", "none", "context", "document", *fields), where="data.group_by")


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _asked_again(examples: Sequence[Example]) -> bool:
    """Whether two questions are about the same pictures."""
    questions: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for example in examples:
        if example.images:
            questions[tuple(map(image_name, example.images))].add(question_key(example))
    return any(len(keys) > 1 for keys in questions.values())


def _questions_by_context(examples: Sequence[Example]) -> dict[str, set[str]]:
    questions: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        if example.context:
            questions[normalised(example.context)].add(question_key(example))
    return questions


def cut_keys(examples: Sequence[Example], grouping: Grouping) -> list[str]:
    """What each row is drawn by: one key for all rows that have to stay together.

    Of groups that share a question it is the first by name. By default a group of one question goes by that question,
    so that it stands where it stood without groups.
    """
    questions = [question_key(example) for example in examples]
    if grouping.kind == "question":
        return questions
    groups = [grouping.name_of(example) for example in examples]
    links = _Links()
    for question, group in zip(questions, groups, strict=True):
        links.join(("question", question), ("question", question) if group is None else ("group", group))
    parts = [links.root(("question", question)) for question in questions]
    names: dict[tuple[str, str], set[str]] = defaultdict(set)
    asked: dict[tuple[str, str], set[str]] = defaultdict(set)
    for part, question, group in zip(parts, questions, groups, strict=True):
        asked[part].add(question)
        if group is not None:
            names[part].add(group)
    keys = {
        part: min(asked[part])
        if not names[part] or (grouping.by_default and len(asked[part]) == 1)
        else f"{grouping.noun}\x1e{min(names[part])}"
        for part in asked
    }
    return [keys[part] for part in parts]


class _Links:
    """Things that belong together because of what links them, directly or by way of others."""

    def __init__(self) -> None:
        self._above: dict[tuple[str, str], tuple[str, str]] = {}

    def root(self, node: tuple[str, str]) -> tuple[str, str]:
        path = []
        while (above := self._above.get(node, node)) != node:
            path.append(node)
            node = above
        self._above.update(dict.fromkeys(path, node))
        return node

    def join(self, one: tuple[str, str], other: tuple[str, str]) -> None:
        self._above[self.root(one)] = self.root(other)


class GroupedCut(NamedTuple):
    """A cut, and what is to be said of it.

    Attributes:
        splits: training, development and test rows.
        remarks: sentences; none where the shares came out as they were asked for.
    """

    splits: tuple[tuple[Example, ...], tuple[Example, ...], tuple[Example, ...]]
    remarks: tuple[str, ...] = ()


def cut_by_groups(examples: Sequence[Example], grouping: Grouping, *, dev: float, test: float, seed: int) -> GroupedCut:
    """`cut`, groups whole.

    By default, where there are fewer groups than splits, it goes by question; that is among the remarks.

    Raises:
        DataError: the shares leave nothing for training, or there are fewer groups than splits.
    """
    keys = cut_keys(examples, grouping)
    splits = 1 + (dev > 0) + (test > 0)
    if grouping.kind != "question" and grouping.by_default and len(set(keys)) < splits:
        remark = f"The rows have too few contexts ({len(set(keys))}) to be split by them: they are split by question."
        return GroupedCut(cut(examples, dev=dev, test=test, seed=seed), (remark,))
    parts = cut(examples, dev=dev, test=test, seed=seed, keys=keys, noun=grouping.noun)
    return GroupedCut(parts, () if grouping.kind == "question" else _shares_missed(keys, parts, dev, test, grouping))


def _shares_missed(
    keys: Sequence[str], parts: Sequence[Sequence[Example]], dev: float, test: float, grouping: Grouping
) -> tuple[str, ...]:
    """A sentence where a split is far from its share because groups stay whole."""
    wanted = {"test": test, "dev": dev}
    rows = {"test": len(parts[2]), "dev": len(parts[1])}
    missed = [
        f"{name} holds {rows[name] / len(keys):.0%} of the rows, not {share:.0%}"
        for name, share in wanted.items()
        if share and not share / _OFF_BY <= rows[name] / len(keys) <= share * _OFF_BY
    ]
    if not missed:
        return ()
    largest = max(Counter(keys).values())
    return (
        f"Rows of one {grouping.noun} stay in one split, so {' and '.join(missed)}: there are {len(set(keys)):,} to "
        f"draw from, the largest of {largest:,} rows. Another data.seed draws otherwise.",
    )


def shared_with(rows: Sequence[Example], learned: Sequence[Example], grouping: Grouping) -> int:
    """How many rows are of a group that also stands among the learned ones."""
    known = {name for example in learned if (name := grouping.name_of(example)) is not None}
    return sum(grouping.name_of(example) in known for example in rows)


def sharing_remarks(
    held_out: Mapping[str, Sequence[Example]], learned: Sequence[Example], grouping: Grouping
) -> tuple[str, ...]:
    """Sentences that count held-out questions whose context, or group, stands in training or is asked a teacher.

    Contexts are counted whatever the grouping is, unless there is but one for all.
    """
    contexts = {normalised(row.context) for rows in (learned, *held_out.values()) for row in rows if row.context}
    groupings = [Grouping("context")] if len(contexts) > 1 else []
    groupings += [grouping] if grouping.kind == "field" else []
    remarks = []
    for each in groupings:
        for role in ("test", "dev"):
            rows = held_out.get(role, ())
            if count := shared_with(rows, learned, each):
                verb = "shares its" if count == 1 else "share their"
                remarks.append(
                    f"{count:,} of {len(rows):,} {role} questions {verb} {each.noun} with a training question."
                )
    return tuple(remarks)


def group_notes(examples: Sequence[Example], grouping: Grouping) -> dict[str, Any]:
    """What the notes of a data set say of its groups; nothing where by default rows go by question."""
    if grouping.kind == "question":
        return {} if grouping.by_default else {"group_by": "none: rows of one question stay together, no others"}
    names = [grouping.name_of(example) for example in examples]
    sizes = Counter(name for name in names if name is not None)
    alone = names.count(None)
    text = f"{grouping.noun}: {len(sizes):,} groups of {sizes.total():,} rows, the largest of {max(sizes.values()):,}"
    return {"group_by": text + (f"; {alone:,} rows have none and go by their question" if alone else "")}
