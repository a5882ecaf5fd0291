"""A teacher in the same process: frozen, and constant in everything it says."""

import pytest
import torch

from support.tiny import pair
from understudy.models.forward import forward
from understudy.teachers.local import LocalTeacher


@pytest.fixture
def case():
    made = pair("dskd_cma")
    return made, made.collator("dskd_cma")(made.rows("dskd_cma")[:4])


@pytest.mark.parametrize("embeddings", [True, False])
def test_it_says_what_the_model_says(case, embeddings):
    made, batch = case
    signal = LocalTeacher(made.teacher, embeddings=embeddings).signal(batch)
    tokens = batch["teacher"]
    with torch.no_grad():
        expected = made.teacher(**tokens["inputs"]).logits[tokens["target_mask"]]
    torch.testing.assert_close(signal.head.logits(signal.hidden), expected, atol=1e-5, rtol=1e-4)
    assert torch.equal(signal.target_ids, tokens["target_ids"])
    assert (signal.input_embeddings is not None) == embeddings


def test_it_is_frozen_and_constant(case):
    made, batch = case
    made.teacher.train()
    teacher = LocalTeacher(made.teacher, embeddings=True)
    assert not teacher.model.training
    signal = teacher.signal(batch)
    tensors = [signal.hidden, signal.head.weight, signal.input_embeddings, signal.target_embeddings]
    assert not any(tensor.requires_grad for tensor in tensors)
    again = forward(made.teacher, batch["teacher"])
    assert torch.equal(signal.hidden, again.hidden)


def test_it_reads_its_own_tokens(case):
    """Another vocabulary cuts the same answers into other numbers of tokens."""
    made, batch = case
    signal = LocalTeacher(made.teacher).signal(batch)
    student = forward(made.student, batch["student"])
    assert len(signal.lengths) == len(student.lengths) == 4
    assert signal.lengths != student.lengths
    texts = [made.teacher_template.decode(ids.tolist()) for ids in signal.target_ids.split(signal.lengths)]
    assert texts == [made.template.decode(ids.tolist()) for ids in student.target_ids.split(student.lengths)]
