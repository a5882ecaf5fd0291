"""One judgement of a pair: real tokenizers, moved ids, tokens that only one side has, thoughts, narrow heads."""

import itertools
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from support.tiny import pair as tiny_pair
from support.tiny import tokenizer
from understudy import build
from understudy.errors import ModelError, VocabularyMismatch
from understudy.recipe import METHODS, parse_recipe
from understudy.tokens.compatibility import AlignmentShares, TokenizerPair, assess_method, compare_vocabularies
from understudy.tokens.template import Template

ALL_ALIGNED = AlignmentShares(rows=10, same_targets=1.0, exact=1.0, min_edit=1.0, groups=1.0, by_position=1.0)
THINK = (
    "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<think>\n{% endif %}"
)


def swapped(*pairs):
    """The tokenizer of the tests with some ids exchanged: as wide, and not the same."""
    made = tokenizer()
    parts = json.loads(made.backend_tokenizer.to_str())
    vocabulary = parts["model"]["vocab"]
    for one, other in pairs:
        vocabulary[one], vocabulary[other] = vocabulary[other], vocabulary[one]
    core = Tokenizer.from_str(json.dumps(parts))
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="<pad>", bos_token="<s>")


def verdicts(pair, shares=None):
    return {method: assess_method(method, pair, shares).verdict for method in METHODS}


def where_one_vocabulary_is_needed(verdict):
    """Verdicts of a pair that only the methods for one vocabulary mind."""
    return {method: verdict if kind.one_vocabulary else "sound" for method, kind in METHODS.items()}


def test_one_vocabulary_suits_every_method():
    made = TokenizerPair.of(Template(tokenizer()), Template(tokenizer()))
    assert set(verdicts(made, ALL_ALIGNED).values()) == {"sound"}
    assert made.vocabularies.same == len(tokenizer())


def test_equal_width_with_moved_ids_is_refused_by_doctor_and_run():
    """Two of 300 ids, far below a hundredth, and neither in a text that could betray them."""
    theirs = swapped(("~", "}"))
    made = TokenizerPair.of(Template(tokenizer()), Template(theirs))
    assert made.vocabularies.tokens == (len(theirs), len(theirs))
    assert made.vocabularies.cut_alike
    assert sorted(made.vocabularies.moved) == ["}", "~"]
    assert verdicts(made) == where_one_vocabulary_is_needed("unsound")
    assert "2 under another id" in assess_method("kd", made).why
    with pytest.raises(VocabularyMismatch, match="needs one vocabulary") as caught:
        build.check_pair(parse_recipe({}), Template(tokenizer()), Template(theirs))
    assert assess_method("kd", made).hint == caught.value.hint


def test_one_id_that_writes_two_things_is_refused_however_few_there_are():
    """Each side adds one token at the same id: not moved, under a hundredth, and still a lie."""
    ours, theirs = tokenizer(), tokenizer()
    ours.add_tokens(["AAAA"])
    theirs.add_tokens(["BBBB"])
    found = compare_vocabularies(ours, theirs)
    assert list(found.clashing) == [(len(tokenizer()), "AAAA", "BBBB")]
    assert not found.moved
    assert "'AAAA' to the student and 'BBBB' to the teacher" in found.difference


def test_a_special_token_only_one_side_has_is_let_pass_and_named():
    theirs = tokenizer()
    theirs.add_special_tokens({"additional_special_tokens": ["<|extra|>"]})
    found = compare_vocabularies(tokenizer(), theirs)
    assert found.difference == ""
    assert list(found.teacher_only) == [(len(tokenizer()), "<|extra|>")]
    build.check_pair(parse_recipe({}), Template(tokenizer()), Template(theirs))


def test_special_tokens_may_be_called_differently_but_not_the_one_that_ends_an_answer():
    ours, theirs = tokenizer(bos="<s>"), tokenizer(bos="<bos>")
    found = compare_vocabularies(ours, theirs)
    assert [(one, other) for _, one, other in found.renamed] == [("<s>", "<bos>")]
    assert found.difference == ""
    theirs = tokenizer()
    theirs.eos_token = "<pad>"
    made = TokenizerPair.of(Template(tokenizer()), Template(theirs))
    assert verdicts(made) == where_one_vocabulary_is_needed("unsound")
    assert "answers end differently: '</s>' and '<pad>'" in assess_method("kd", made).why
    with pytest.raises(ModelError, match="answers end differently"):
        build.check_pair(parse_recipe({}), Template(tokenizer()), Template(theirs))
    only_texts = parse_recipe({"evaluate": {"arms": ["sft", "seqkd"]}})
    build.check_pair(only_texts, Template(tokenizer()), Template(theirs))


def test_ids_are_compared_by_the_bytes_they_write_not_by_their_spelling():
    """`▁the` of a SentencePiece and `Ġthe` of a byte-level vocabulary are one entry."""
    made = []
    for space, decoder in (("▁", decoders.Metaspace()), ("Ġ", decoders.ByteLevel())):
        core = Tokenizer(models.WordLevel({"</s>": 0, f"{space}the": 1, f"{space}AMF": 2}, unk_token="</s>"))
        core.decoder = decoder
        made.append(PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>"))
    found = compare_vocabularies(*made)
    assert found.same == 3
    assert found.difference == ""


@pytest.mark.parametrize("thinks", ["student", "teacher"])
def test_one_side_that_thinks_where_the_other_answers_is_refused(thinks):
    thinking = tokenizer()
    thinking.chat_template = THINK
    sides = (thinking, tokenizer()) if thinks == "student" else (tokenizer(), thinking)
    made = TokenizerPair.of(*map(Template, sides))
    assert set(verdicts(made).values()) == {"unsound"}
    assert f"the {thinks}'s prompt ends inside a thought" in assess_method("dskd_cma", made).why
    with pytest.raises(ModelError, match="inside a thought"):
        build.check_pair(parse_recipe({"distil": {"method": "dskd_cma"}}), *map(Template, sides))


def test_a_head_too_narrow_for_the_end_of_an_answer_is_refused():
    ours, theirs = Template(tokenizer()), Template(tokenizer())
    assert ours.end_id == 0
    made = TokenizerPair.of(ours, theirs, (len(tokenizer()), 0))
    assert set(verdicts(made).values()) == {"unsound"}
    assert "the teacher's answers end with '</s>', id 0, and its head has 0 columns" in assess_method("uld", made).why
    with pytest.raises(ModelError, match="0 columns"):
        build.check_pair(parse_recipe({}), ours, theirs, (0, None))
    build.check_pair(parse_recipe({}), ours, theirs, (len(tokenizer()), 512))


def test_rows_have_the_last_word():
    made = TokenizerPair.of(Template(tokenizer()), Template(tokenizer()))
    some = AlignmentShares(rows=10, same_targets=0.9, exact=0.3, min_edit=0.0, groups=0.8, by_position=0.0)
    assert verdicts(made, some) == {
        "kd": "unsound",
        "dskd": "unsound",
        "dskd_cma": "sound",
        "dskd_v2": "weak",
        "min_edit": "unsound",
        "uld": "weak",
        "byte_aligned": "sound",
    }
    assert "10.0% of 10 answers" in assess_method("kd", made, some).why


def real(folder: Path) -> Template:
    made = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    made.eos_token = "</s>" if "</s>" in made.get_vocab() else "<|endoftext|>"
    return Template(made)


def test_real_tokenizers_in_all_pairs(shared):
    names = ("gpt2", "tinyllama", "pythia")
    templates = {name: real(shared / "tokenizers" / name) for name in names}
    for ours, theirs in itertools.combinations_with_replacement(names, 2):
        made = TokenizerPair.of(templates[ours], templates[theirs])
        expected = "sound" if ours == theirs else "unsound"
        assert verdicts(made) == where_one_vocabulary_is_needed(expected), (ours, theirs)
        if ours != theirs:
            assert made.vocabularies.same < 1000


def test_real_models_of_two_kinds(shared):
    """BPE of 512 pieces and 105 characters."""
    stories, letters = (
        Template(AutoTokenizer.from_pretrained(shared / "models" / name))
        for name in ("stories260k", "babyllama-char105")
    )
    made = TokenizerPair.of(letters, stories, (105, 512))
    assert made.vocabularies.tokens == (105, 512)
    assert assess_method("kd", made).cause == "vocabulary"
    assert assess_method("byte_aligned", made).verdict == "sound"


def test_the_pairs_of_the_tests_themselves():
    two, one = tiny_pair("dskd_cma"), tiny_pair("kd")
    assert assess_method("kd", TokenizerPair.of(two.template, two.teacher_template)).verdict == "unsound"
    assert assess_method("kd", TokenizerPair.of(one.template, one.teacher_template)).verdict == "sound"
