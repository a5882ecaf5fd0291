"""The contract of teachers: what contains what, what is refused before a weight is loaded, what a top-k leaves out."""

import pytest
import torch

from support.tiny import pair
from understudy import build
from understudy.errors import ConfigError
from understudy.recipe import METHODS, parse_recipe
from understudy.teachers.local import LocalTeacher
from understudy.teachers.signals import Teacher, TopK
from understudy.training.objectives import OBJECTIVES
from understudy.types import Gives


def test_states_give_log_probabilities_and_these_the_likeliest_tokens():
    assert Gives.TOP_K in Gives.LOGPS
    assert Gives.LOGPS in Gives.STATES
    assert Gives.STATES not in Gives.LOGPS
    assert Gives.LOGPS not in Gives.TOP_K
    assert Gives.EMBEDDINGS not in Gives.STATES
    assert Gives.STATES not in Gives.EMBEDDINGS


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("gives", [Gives.TOP_K, Gives.LOGPS, Gives.STATES, Gives.STATES | Gives.EMBEDDINGS])
def test_a_method_is_refused_where_the_teacher_says_less_than_it_reads(method, gives):
    made = pair(method)
    recipe = parse_recipe({"distil": {"method": method}})
    able = {
        Gives.TOP_K: {"kd", "min_edit", "uld"},
        Gives.LOGPS: {"kd", "min_edit", "uld", "byte_aligned"},
        Gives.STATES: set(METHODS) - {"dskd_cma"},
    }
    templates = made.template, made.teacher_template
    if method in able.get(gives, set(METHODS)):
        build.check_pair(recipe, *templates, gives=gives)
        return
    with pytest.raises(ConfigError, match=f"distil.method {method} reads") as caught:
        build.check_pair(recipe, *templates, gives=gives)
    assert "\n" not in caught.value.message
    assert caught.value.hint == f"methods that work with it: {', '.join(m for m in METHODS if m in able[gives])}"


def test_the_refusal_names_both_sides():
    made = pair("dskd_cma")
    recipe = parse_recipe({"distil": {"method": "dskd_cma"}})
    with pytest.raises(ConfigError) as caught:
        build.check_pair(recipe, made.template, made.teacher_template, gives=Gives.TOP_K)
    assert caught.value.message == (
        "distil.method dskd_cma reads hidden states with their head and token embeddings; "
        "this teacher gives log-probabilities of the likeliest tokens"
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_teacher_of_this_process_gives_what_the_objective_of_each_method_takes(method):
    teacher: Teacher = LocalTeacher(pair(method).teacher, embeddings=OBJECTIVES[method].embeddings)
    assert METHODS[method].reads in teacher.gives
    assert OBJECTIVES[method].embeddings == (Gives.EMBEDDINGS in METHODS[method].reads)


def test_every_method_has_an_objective():
    assert OBJECTIVES.keys() == METHODS.keys()


@pytest.mark.parametrize("k", [1, 5, 31])
def test_the_tail_is_what_the_likeliest_leave(k):
    logp = (3 * torch.randn(7, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).log_softmax(-1)
    top = logp.topk(k)
    signal = TopK(top.indices, top.values, torch.zeros(7), (7,))
    rest = logp.scatter(1, top.indices, -torch.inf).logsumexp(-1)
    torch.testing.assert_close(signal.log_tail, rest, rtol=1e-6, atol=1e-9)


def test_likeliest_that_carry_everything_leave_no_tail():
    logp = torch.tensor([[0.0, -torch.inf], [-0.6931472, -0.6931472]])
    signal = TopK(torch.tensor([[0, 1], [0, 1]]), logp, torch.zeros(2), (2,))
    assert signal.log_tail[0] == -torch.inf
    assert signal.log_tail[1] < -14


def test_joined_signals_keep_what_each_contains():
    both = Gives.STATES | Gives.EMBEDDINGS
    assert Gives.STATES in both
    assert Gives.EMBEDDINGS in both
    assert both ^ Gives.EMBEDDINGS == Gives.STATES
    assert both & ~Gives.EMBEDDINGS == Gives.STATES
