"""What the vocabulary doctor finds out about a recipe's two tokenizers, by the very functions that `run` uses.

Only tokenizers, templates, configs and rows are read; no weights, but those a server is compared with.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from understudy import build
from understudy.data.load import load_splits
from understudy.errors import ConfigError, DataError, ModelError, listed
from understudy.inspection.doctor_report import (
    DoctorReport,
    MethodReport,
    RenderedConversation,
    SideReport,
    VocabularyReport,
)
from understudy.inspection.server_report import Check, ServerReport
from understudy.models.load import head_columns, load_template
from understudy.models.row_lengths import check_positions
from understudy.recipe import METHODS, Recipe
from understudy.teachers.remote import RemoteTeacher
from understudy.tokens.align import CrossTokenizer, by_position
from understudy.tokens.collate import ExampleTokenizer
from understudy.tokens.compatibility import (
    MAX_EXTRA_TOKENS,
    AlignmentShares,
    Judgement,
    TokenizerPair,
    Vocabularies,
    assess_method,
)
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.misfits import split_misfits
from understudy.tokens.prompts import answer_text
from understudy.tokens.template import Template
from understudy.tokens.template_checks import altered, control_notes, lost, thinking
from understudy.tokens.unseen import sees
from understudy.types import Example, Splits

MAX_ROWS = 200
MAX_NAMED = 8
_SIDES = ("student", "teacher")

Encoded = tuple[TokenizedExample, TokenizedExample]


def examine(recipe: Recipe, *, max_rows: int = MAX_ROWS, against: str | None = None) -> DoctorReport:
    """Examine the pair of a recipe on rows of its own data, drawn by its seed; a teacher on a server is asked too.

    Args:
        recipe: of the pair.
        max_rows: how many rows are looked at.
        against: the weights that a server is said to serve, to compute the loss in this process too.

    Raises:
        DataError: there are no training rows with an answer, or one of them is too long.
        ModelError: a tokenizer cannot be loaded.
        TeacherError: the server cannot be reached.
    """
    student, teacher = load_template(recipe.student), load_template(recipe.local_teacher)
    build.check_writes("doctor", student, teacher)
    pair = TokenizerPair.of(student, teacher, (head_columns(recipe.student), head_columns(recipe.local_teacher)))
    build.check_lengths(recipe)
    tokenizers = (
        ExampleTokenizer(student, recipe.data, sees=sees(recipe.student)),
        ExampleTokenizer(teacher, recipe.data, sees=sees(recipe.local_teacher)),
    )
    splits = load_splits(recipe.data)
    gold, misfit_notes = split_misfits(splits.train, tokenizers)
    if not gold:
        raise DataError("there are no training rows with an answer", hint="check data.source and data.gold_share")
    examples = random.Random(recipe.seed).sample(gold, min(max_rows, len(gold)))
    rows = [tuple(side.encode(example, token_ends=not pair.slow) for side in tokenizers) for example in examples]
    shares = alignment_shares(student, teacher, examples, rows, slow=bool(pair.slow))  # pyright: ignore
    answers = [answer_text(example) for example in examples]
    altered_answers = [
        sum(altered(side, row[n], answer) is not None for row, answer in zip(rows, answers, strict=True))
        for n, side in enumerate((student, teacher))
    ]
    templates: dict[str, Template] = dict(zip(_SIDES, (student, teacher), strict=True))
    refused, length_notes = None, []
    try:
        length_notes = check_positions(recipe, splits.by_role, *tokenizers)
        if recipe.served_teacher and recipe.signal_arms:
            build.check_signal(recipe.distil, RemoteTeacher.can_give)
    except (ModelError, ConfigError) as error:
        refused = error
    server = _examine_server(recipe, tokenizers, examples, [row[1] for row in rows], against)
    return DoctorReport(
        method=recipe.distil.method,
        methods={method: _method(method, assess_method(method, pair, shares), shares) for method in METHODS},
        student=_side(pair, "student", recipe.student.model, student, altered_answers[0], splits.rows),
        teacher=_side(pair, "teacher", recipe.local_teacher.model, teacher, altered_answers[1], splits.rows),
        vocabularies=_vocabularies(pair.vocabularies),
        templates=rendered(dict(zip(_SIDES, tokenizers, strict=True)), examples[0], rows[0]),  # pyright: ignore
        shares=shares,
        gold_rows=len(gold),
        notes=[
            *(*extras(pair), *_notes(pair, templates), *misfit_notes, *length_notes, *_data_notes(splits)),
            *_served_notes(recipe),
            *_of_other_teachers(recipe, max_rows),
        ],
        refused=refused.message if refused else "",
        refused_hint=refused.hint if refused else "",
        server=server,
    )


def _examine_server(
    recipe: Recipe,
    tokenizers: tuple[ExampleTokenizer, ExampleTokenizer],
    examples: Sequence[Example],
    rows: Sequence[TokenizedExample],
    against: str | None,
) -> ServerReport | None:
    """The conformance test of a teacher on a server, the loss among it where its weights are here too."""
    config = recipe.served_teacher
    if config is None:
        return None
    # Only now, for they load what trains: a pair of tokenizers needs none of it.
    from understudy.inspection.conformance import examine_server
    from understudy.inspection.server_loss import compare_losses

    report, interface = examine_server(config, tokenizers[1].template, examples, rows, recipe.data.system)
    loss = Check(
        "loss", "not measured", "--against MODEL, the weights that are served, computes it in this process too"
    )
    if against is not None and interface is not None:
        loss = compare_losses(recipe, interface, *tokenizers, examples, against)
    return replace(report, checks=[*report.checks, loss]) if interface is not None else report


def _served_notes(recipe: Recipe) -> list[str]:
    """Which methods can learn from a server at all, whatever the vocabularies."""
    if recipe.served_teacher is None:
        return []
    methods = [name for name, method in METHODS.items() if method.reads in RemoteTeacher.can_give]
    return [f"a server gives {RemoteTeacher.can_give.words}: of the methods below, {listed(methods)} can learn from it"]


def _of_other_teachers(recipe: Recipe, max_rows: int) -> list[str]:
    """What is to be known of the further teachers: of each whose loss is added, whether its method suits it."""
    if recipe.teachers is None or not recipe.teachers.others:
        return []
    notes = [
        f"{name} is part of a mean with `teacher`, whose vocabulary it must have and whose tokens it reads; the run "
        "compares them before it loads a weight"
        for name in recipe.teachers.averaged
    ]
    for name in recipe.teachers.added:
        alone = examine(recipe.taught_by(name), max_rows=max_rows)
        own = alone.methods[alone.method]
        notes.append(f"{name}: {alone.method} is {own.verdict}: {own.why}" + (f" ({own.hint})" if own.hint else ""))
        notes += [f"{name}: {alone.refused}"] if alone.refused else []
    return notes


def _data_notes(splits: Splits) -> list[str]:
    """What has to be known of the splits to judge figures."""
    grouped = [f"rows are kept together by {splits.notes['group_by']}"] if "group_by" in splits.notes else []
    return grouped + list(splits.notes.get("remarks", ()))


def alignment_shares(
    student: Template, teacher: Template, examples: Sequence[Example], rows: Sequence[Encoded], *, slow: bool = False
) -> AlignmentShares:
    """Align rows in every way there is.

    Args:
        student: the student's template.
        teacher: the teacher's.
        examples: the rows.
        rows: the same, encoded for student and teacher, each with the places where its tokens end.
        slow: a tokenizer does not tell where tokens stand, so nothing is aligned.
    """
    same = float(np.mean([student_row.answer_ids == teacher_row.answer_ids for student_row, teacher_row in rows]))
    if slow:
        return AlignmentShares(len(rows), same, 0.0, 0.0, 0.0, 0.0)
    tokens = sum(len(student_row.answer_ids) for student_row, _ in rows)
    counts = dict.fromkeys(("exact", "min_edit", "groups", "by_position"), 0)
    teacher_ids = {i for _, teacher_row in rows for i in teacher_row.answer_ids}
    for kind in ("exact", "min_edit", "groups"):
        cross_tokenizer = CrossTokenizer.between(kind, student, teacher, only=teacher_ids)
        for example, (student_row, teacher_row) in zip(examples, rows, strict=True):
            alignment = cross_tokenizer.align(student_row, teacher_row, answer_text(example))
            counts[kind] += int(((alignment.student_groups if kind == "groups" else alignment.partners) >= 0).sum())
            if kind == "exact":
                beside = by_position(len(student_row.answer_ids), len(teacher_row.answer_ids)).partners
                counts["by_position"] += int(((beside >= 0) & (beside == alignment.partners)).sum())
    return AlignmentShares(len(rows), same, **{name: count / max(1, tokens) for name, count in counts.items()})


def _method(method: str, judgement: Judgement, shares: AlignmentShares) -> MethodReport:
    name = METHODS[method].share
    share = None if name is None else getattr(shares, name)
    return MethodReport(judgement.verdict, judgement.why, judgement.hint, share)


def _side(
    pair: TokenizerPair, side: str, name: str, template: Template, num_altered: int, rows: Sequence[Example]
) -> SideReport:
    number = _SIDES.index(side)
    columns, size = pair.columns[number], pair.vocabularies.tokens[number]
    tokenizer: Any = template.tokenizer
    return SideReport(
        model=name,
        tokens=size,
        columns=columns,
        padding_rows=None if columns is None else max(0, columns - size),
        special={role: getattr(tokenizer, f"{role}_token") for role in ("bos", "eos", "pad", "unk")},
        end=pair.ends[number][1],
        end_id=pair.ends[number][0],
        thinking=thinking(template),
        lost=lost(template),
        answers_altered=num_altered,
        notes=[*template.notes, *control_notes(template, rows)],
    )


def _vocabularies(vocabularies: Vocabularies) -> VocabularyReport:
    return VocabularyReport(
        difference=vocabularies.difference,
        same=vocabularies.same,
        moved=len(vocabularies.moved),
        student_only=len(vocabularies.student_only),
        teacher_only=len(vocabularies.teacher_only),
        clashing=vocabularies.clashing[:MAX_NAMED],
        renamed=vocabularies.renamed[:MAX_NAMED],
        cut_alike=vocabularies.cut_alike,
    )


def rendered(tokenizers: dict[str, ExampleTokenizer], example: Example, row: Encoded) -> RenderedConversation:
    """One conversation as both render it, and where its answer begins and ends."""
    templates = {side: tokenizer.template for side, tokenizer in tokenizers.items()}
    prompts = {side: templates[side].prompt(tokenizers[side].turns(example)) for side in _SIDES}
    answers = {}
    for side, encoded in zip(_SIDES, row, strict=True):
        answers[side] = templates[side].tokenizer.convert_ids_to_tokens(encoded.answer_ids)
    return RenderedConversation(
        id=example.id,
        same_prompt=prompts["student"] == prompts["teacher"],
        same_lead=row[0].answer_prefix == row[1].answer_prefix,
        prompt=prompts,
        lead={side: encoded.answer_prefix for side, encoded in zip(_SIDES, row, strict=True)},
        answer_tokens=answers,
    )


def extras(pair: TokenizerPair) -> list[str]:
    """What is said of tokens that only one side has, where the two otherwise are one vocabulary."""
    vocabularies = pair.vocabularies
    if vocabularies.difference:
        return []
    notes = []
    both = (
        ("student", vocabularies.student_only, pair.columns[1]),
        ("teacher", vocabularies.teacher_only, pair.columns[0]),
    )
    for side, tokens, columns in both:
        tokens = [entry for entry in tokens if entry not in _renamed(vocabularies, side)]
        other = "teacher" if side == "student" else "student"
        beyond = [entry for entry in tokens if columns is not None and entry[0] >= columns]
        padded = [entry for entry in tokens if entry not in beyond]
        if beyond:
            notes.append(
                f"{_named(beyond)}: only the {side}'s, beyond the {other}'s head; "
                "they carry no probability in the comparison"
            )
        if padded:
            notes.append(
                f"{_named(padded)}: only the {side}'s; the {other}'s columns there stand for nothing, "
                "and carry no more probability than padding does"
            )
    if notes:
        notes.append(
            f"up to {MAX_EXTRA_TOKENS:.0%} of such tokens are let pass by kd and dskd; no answer may hold them"
        )
    return notes


def _renamed(vocabularies: Vocabularies, side: str) -> list[tuple[int, str]]:
    return [(i, name if side == "student" else teacher_name) for i, name, teacher_name in vocabularies.renamed]


def _named(tokens: Sequence[tuple[int, str]]) -> str:
    names = ", ".join(f"{name!r} ({i})" for i, name in tokens[:MAX_NAMED])
    more = f" and {len(tokens) - MAX_NAMED} more" if len(tokens) > MAX_NAMED else ""
    return f"{len(tokens)} token{'s' * (len(tokens) > 1)}: {names}{more}"


def _notes(pair: TokenizerPair, templates: dict[str, Template]) -> list[str]:
    notes = []
    for i, student_name, teacher_name in pair.vocabularies.renamed[:MAX_NAMED]:
        notes.append(f"special token {i} is called {student_name!r} by the student and {teacher_name!r} by the teacher")
    for side, columns, size in zip(_SIDES, pair.columns, pair.vocabularies.tokens, strict=True):
        if columns is not None and columns < size:
            notes.append(
                f"the {side}'s tokenizer knows {size:,} tokens and its head {columns:,}: it cannot write the rest"
            )
    thoughts = [thinking(templates[side]) for side in _SIDES]
    if thoughts[0].prompt != thoughts[1].prompt:
        notes.append(
            f"thinking: the student's template {_does(thoughts[0].prompt)}, the teacher's {_does(thoughts[1].prompt)}"
        )
    for side, thought in zip(_SIDES, thoughts, strict=True):
        if thought.strips:
            notes.append(
                f"the {side}'s template strips thoughts from answers: rationales in <think> would not be learned"
            )
    return notes


def _does(prompt: str) -> str:
    return {"no": "puts no thought", "closed": "puts an empty thought", "open": "opens a thought"}[prompt] + (
        " before the answer"
    )
