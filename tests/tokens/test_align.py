"""Alignment of answers that two tokenizers cut differently: worked by hand, and on any text by real vocabularies."""

import functools
import itertools

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from support import SHARED
from support.tiny import FACTS
from understudy.recipe import DataConfig
from understudy.tokens.align import CrossTokenizer, by_groups, by_position, by_span, warp
from understudy.tokens.boundaries import UNKNOWN
from understudy.tokens.collate import Collator, EncodedRow, ExampleTokenizer, encode_rows
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.template import Template
from understudy.types import Example

ASKED = [{"role": "user", "content": "What then?"}]
CORPUS = [f"{question} {answer}" for question, answer in FACTS] * 3


def word_piece():
    """An uncased WordPiece with the normaliser of BERT: lower case, no accents, spaces in no token."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[SEP]"]
    core.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=200, special_tokens=special, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]", sep_token="[SEP]")


def characters():
    """One token a character, anything unseen unknown."""
    letters = sorted({c for text in CORPUS for c in text})
    core = Tokenizer(models.WordLevel({c: n for n, c in enumerate(["<end>", "<unk>", *letters])}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>", unk_token="<unk>")


@functools.cache
def template(name):
    if name == "wordpiece":
        return Template(word_piece())
    if name == "characters":
        return Template(characters())
    if name in ("stories260k", "babyllama-char105"):
        return Template(AutoTokenizer.from_pretrained(SHARED / "models" / name))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(SHARED / "tokenizers" / name / "tokenizer.json"))
    tokenizer.eos_token = "</s>" if name == "tinyllama" else "<|endoftext|>"
    return Template(tokenizer)


LARGE = ["gpt2", "tinyllama", "pythia"]
SMALL = ["wordpiece", "characters", "stories260k", "babyllama-char105"]
KINDS = ["exact", "groups", "min_edit", "start"]


@functools.cache
def cross_tokenizer(kind, student, teacher, last=False):
    return CrossTokenizer.between(kind, template(student), template(teacher), last=last)


def aligned(kind, student, teacher, answer, last=False):
    """(tokens of the student, tokens of the teacher, alignment) of one answer."""
    ours, theirs = (template(name).encode(ASKED, answer, token_ends=True) for name in (student, teacher))
    return ours, theirs, cross_tokenizer(kind, student, teacher, last).align(ours, theirs, answer)


def names(name, encoded):
    return template(name).tokenizer.convert_ids_to_tokens(encoded.answer_ids)


def pairs(kind, student, teacher, answer):
    ours, theirs, alignment = aligned(kind, student, teacher, answer)
    left, right = names(student, ours), names(teacher, theirs)
    return [(left[n], right[t]) for n, t in enumerate(alignment.partners) if t >= 0]


# -- worked by hand ----------------------------------------------------------------------------------------------------

A, B = np.array([-1, 3, 5, 9, 10]), np.array([-1, 2, 3, 9, 9, 10])


def test_equal_spans_by_hand():
    assert by_span(A, B).partners.tolist() == [-1, -1, -1, 4]
    assert by_span(A, A).partners.tolist() == [0, 1, 2, 3]


def test_groups_by_hand():
    found = by_groups(A, B)
    assert found.partners.tolist() == [0, 2, -1, 4]
    assert found.student_groups.tolist() == [0, 1, 1, 3]
    assert found.teacher_groups.tolist() == [0, 0, 1, -1, 3]
    last = by_groups(A, B, last=True)
    assert last.partners.tolist() == [1, -1, 2, 4]
    assert last.student_groups.tolist() == [0, 2, 2, 3]
    assert last.teacher_groups.tolist() == [0, 0, 2, -1, 3]


def test_a_character_in_pieces_is_one_group():
    pieces = np.array([0, UNKNOWN, UNKNOWN, 4, 5])
    found = by_groups(pieces, np.array([0, 4, 5]))
    assert found.student_groups.tolist() == [0, 0, 0, 3]
    assert found.teacher_groups.tolist() == [0, 3]
    assert by_span(pieces, np.array([0, 4, 5])).partners.tolist() == [-1, -1, -1, 1]


def test_different_beginnings_leave_the_first_run_out():
    found = by_groups(np.array([-1, 3, 5]), np.array([0, 1, 3, 5]))
    assert found.partners.tolist() == [-1, 2]
    assert found.student_groups.tolist() == [-1, 1]
    assert found.teacher_groups.tolist() == [-1, -1, 1]


def test_by_position_ends_with_the_shorter():
    assert by_position(4, 2).partners.tolist() == [0, 1, -1, -1]
    assert by_position(2, 4).partners.tolist() == [0, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7), st.integers(1, 7), st.integers(0, 10_000))
def test_warping_is_the_cheapest_path(rows, columns, seed):
    """Against every path there is, by recursion over cells."""
    cost = np.random.default_rng(seed).integers(0, 4, (rows, columns))

    @functools.cache
    def cheapest(i, j):
        before = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
        found = [cheapest(*cell) for cell in before if min(cell) >= 0]
        return int(cost[i, j]) + (min(found) if found else 0)

    path = list(zip(*warp(cost), strict=True))
    assert path[0] == (0, 0)
    assert path[-1] == (rows - 1, columns - 1)
    assert all((b[0] - a[0], b[1] - a[1]) in {(0, 1), (1, 0), (1, 1)} for a, b in itertools.pairwise(path))
    assert sum(int(cost[cell]) for cell in path) == cheapest(rows - 1, columns - 1)


# -- real vocabularies -------------------------------------------------------------------------------------------------


def test_the_is_the_whatever_marks_the_space(shared):
    answer = "in the core"
    for kind in ("exact", "min_edit", "groups"):
        found = pairs(kind, "tinyllama", "gpt2", answer)
        assert ("▁the", "Ġthe") in found
        assert ("▁core", "Ġcore") in found
    ids = [
        template(name).tokenizer.convert_tokens_to_ids(token)
        for name, token in (("tinyllama", "▁the"), ("gpt2", "Ġthe"))
    ]
    vocabulary = cross_tokenizer("min_edit", "tinyllama", "gpt2").vocabulary
    assert vocabulary.nearest[ids[1]] == vocabulary.exact[ids[1]] == ids[0]


def test_a_lossy_normaliser_changes_pieces_and_no_places(shared):
    found = pairs("exact", "wordpiece", "gpt2", "The AMF")
    assert ("the", "ĠThe") in found
    assert [a for a, b in pairs("groups", "wordpiece", "gpt2", "naïve Café")]


def test_letters_stand_for_the_word_that_they_write(shared):
    ours, theirs, found = aligned("groups", "characters", "gpt2", "the core")
    assert len(ours.answer_ids) == 10
    assert found.student_groups.tolist() == [0, 0, 0, 0, 4, 4, 4, 4, 4, 9]
    assert found.partners.tolist()[-1] == len(theirs.answer_ids) - 1


@pytest.mark.parametrize("name", [*LARGE, *SMALL])
@pytest.mark.parametrize("answer", ["the SMF and the UPF (N4)", "", "漢字 🙂 naïve e\u0301", "\n  if x:\n\treturn 1  "])
def test_a_tokenizer_and_itself_are_aligned_throughout(shared, name, answer):
    for kind in KINDS:
        ours, _, found = aligned(kind, name, name, answer)
        whole = list(range(len(ours.answer_ids)))
        if kind == "start" or UNKNOWN not in ours.token_ends:
            # Tokens that cover nothing of the text (a spare space of SentencePiece) have no span to compare.
            covering = [
                n for n in whole if kind in ("start", "min_edit") or ours.token_ends[n + 1] > ours.token_ends[n]
            ]
            assert [n for n in whole if found.partners[n] == n][: len(covering)] == covering
    vocabulary = cross_tokenizer("min_edit", name, name).vocabulary
    assert (vocabulary.exact == np.arange(len(vocabulary.exact))).all()


TEXT = st.text(max_size=40) | st.sampled_from(
    [
        "",
        " ",
        "🙂👩‍👩‍👧‍👦 ok",
        "def f(x):\n\treturn x**2  # ²",
        "Ünïcödé ﬁne e\u0301",
        "ノード 漢字。",
        "\u200b\ufeff",
        "a\r\nb\x00c",
        "▁the Ġthe",
        "<0x41>",
    ]
)
WORDS = st.lists(st.sampled_from(["the", "UPF", "N4", "🙂", "é", "=", "return", "\n", "漢"]), max_size=8).map(" ".join)


@pytest.mark.parametrize("teacher", [*LARGE, "wordpiece", "characters", "stories260k"])
@pytest.mark.parametrize("student", [*LARGE, "wordpiece", "characters", "babyllama-char105"])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=TEXT | WORDS)
def test_any_text_through_any_two_vocabularies(shared, student, teacher, answer):
    kinds = ["exact", "groups", "start"] + ["min_edit"] * (
        (student in LARGE) == (teacher in LARGE) == (student == teacher)
    )
    for kind in kinds:
        ours, theirs, found = aligned(kind, student, teacher, answer)
        partners = found.partners[found.partners >= 0]
        assert len(found.partners) == len(ours.answer_ids)
        assert (np.diff(partners) > 0).all()  # one to one, and never backwards
        assert partners.max(initial=-1) < len(theirs.answer_ids)
        if kind == "exact":
            for n, t in enumerate(found.partners):
                assert t < 0 or ours.token_ends[n : n + 2] == theirs.token_ends[t : t + 2]
        if kind == "groups":
            check_groups(ours, theirs, found)


def check_groups(ours, theirs, found):
    """Every group covers the same bytes on both sides, and exactly one of its tokens stands for it."""
    for anchor in np.flatnonzero(found.partners >= 0):
        mine, its = (np.flatnonzero(groups == anchor) for groups in (found.student_groups, found.teacher_groups))
        assert anchor == mine[0]
        assert found.partners[anchor] == its[0]
        ends = [
            [side.token_ends[rows[0]], side.token_ends[rows[-1] + 1]] for side, rows in ((ours, mine), (theirs, its))
        ]
        assert ends[0] == ends[1]
    assert set(found.student_groups) - {-1} == set(np.flatnonzero(found.partners >= 0))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(answer=TEXT | WORDS, name=st.sampled_from([*LARGE, *SMALL]))
def test_cuts_run_through_the_answer(shared, name, answer):
    encoded = template(name).encode(ASKED, answer, token_ends=True)
    plain = template(name).encode(ASKED, answer)
    assert (plain.prompt_ids, plain.answer_ids) == (encoded.prompt_ids, encoded.answer_ids)
    if not encoded.token_ends:  # the answer holds the stop token, or the template rewrote it
        return
    known = [cut for cut in encoded.token_ends if cut != UNKNOWN]
    assert len(encoded.token_ends) == len(encoded.answer_ids) + 1
    assert known == sorted(known)
    assert known[0] == -len(encoded.answer_prefix.encode())
    assert known[-1] == len(answer.strip().encode()) + 1


def fresh_gpt2():
    path = SHARED / "tokenizers" / "gpt2" / "tokenizer.json"
    return PreTrainedTokenizerFast(tokenizer_file=str(path), eos_token="<|endoftext|>")


def test_templates_that_begin_an_answer_differently(shared):
    """Then the first token, which holds the space on one side alone, has no partner."""
    other = Template(fresh_gpt2())
    other.tokenizer.chat_template = "{% for m in messages %}[{{ m['role'] }}]\n{{ m['content'] }}\n{% endfor %}"
    ours = template("tinyllama").encode(ASKED, "the core network", token_ends=True)
    theirs = other.encode(ASKED, "the core network", token_ends=True)
    found = cross_tokenizer("exact", "tinyllama", "gpt2").align(ours, theirs, "the core network")
    left = names("tinyllama", ours)
    assert [left[n] for n in np.flatnonzero(found.partners >= 0)] == ["▁core", "▁network", "</s>"]


def test_a_template_that_rewrites_the_answer_aligns_nothing(shared):
    other = fresh_gpt2()
    other.chat_template = "{% for m in messages %}{{ m['content'] | upper }} {% endfor %}"
    encoder = ExampleTokenizer(Template(other), DataConfig(max_length=128, max_answer_tokens=16))
    encoded = encoder.encode(Example("a", "why?", ("because",)), token_ends=True)
    assert encoded.token_ends == []
    assert sum(encoder.notes.values()) == 1
    ours = template("gpt2").encode(ASKED, "because", token_ends=True)
    for kind in ("exact", "groups", "min_edit"):
        assert (cross_tokenizer(kind, "gpt2", "gpt2").align(ours, encoded, "because").partners < 0).all()


# -- in rows and batches -----------------------------------------------------------------------------------------------

EXAMPLES = [
    Example(f"e{n}", "Which?", (text,)) for n, text in enumerate(["the UPF", "", "N4 and the SMF 🙂", "x" * 40])
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_holds_the_alignments_of_its_rows(shared, kind):
    data = DataConfig(max_length=128, max_answer_tokens=16)
    encoders = [ExampleTokenizer(template(name), data) for name in ("characters", "gpt2")]
    rows = encode_rows(EXAMPLES, *encoders, cross_tokenizer(kind, "characters", "gpt2"))
    assert len(rows[3].student.answer_ids) == 16
    batch = Collator(0, 0, same_targets=False)(rows)
    partners, start, other = batch["alignment"]["partners"], 0, 0
    for row in rows:
        n, t = len(row.student.answer_ids), len(row.teacher.answer_ids)
        piece = partners[start : start + n]
        assert torch.where(piece < 0, -1, piece - other).tolist() == row.alignment.partners.tolist()
        start, other = start + n, other + t
    assert start == len(partners)
    assert ("student_groups" in batch["alignment"]) == (kind == "groups")
    if kind == "groups":
        held = batch["alignment"]["teacher_groups"]
        assert len(held) == other
        assert partners[held[held >= 0]].min() >= 0


def test_rows_that_nobody_aligned_have_no_alignment():
    rows = [EncodedRow("a", TokenizedExample([1], [2]), TokenizedExample([3], [4]), True)]
    assert "alignment" not in Collator(0, 0, same_targets=False)(rows)
