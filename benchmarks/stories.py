"""Stories of a teacher's own, real ones, both cut into passages, and what a model makes of a passage in bits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from understudy.files import read_text
from understudy.models.forward import forward
from understudy.models.load import load_model, load_template
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.collate import Collator, ExampleTokenizer, encode_rows
from understudy.tokens.template import Template
from understudy.types import Example

CONTEXT, PASSAGE = 40, 160  # characters
DATA = DataConfig(max_length=256, max_answer_tokens=208)
# The space between context and passage belongs to the passage, as both tokenizers have it.
CONTINUE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}"
    "{% else %}{{ m['content'] }}{% endif %}{% endfor %}"
)
CPU = torch.device("cpu")


@torch.no_grad()
def written(folder: str, count: int, *, tokens: int, seed: int = 0, batch_size: int = 100) -> list[str]:
    """Stories sampled from a model at temperature 1, from nothing but the mark that begins a text."""
    config = ModelConfig(model=folder)
    template, model = load_template(config), load_model(config, CPU)
    begin, end = template.tokenizer.bos_token_id, template.tokenizer.eos_token_id
    torch.manual_seed(seed)
    texts: list[str] = []
    while len(texts) < count:
        first = torch.full((min(batch_size, count - len(texts)), 1), begin)
        # This teacher ends a story with the mark that would begin the next.
        sampling = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "eos_token_id": [begin, end]}
        out = model.generate(  # pyright: ignore
            input_ids=first, attention_mask=torch.ones_like(first), max_new_tokens=tokens, pad_token_id=end, **sampling
        )
        for row in out[:, 1:].tolist():
            stop = next((i for i, token in enumerate(row) if token in (begin, end)), None)
            text = " ".join(template.decode(row[:stop]).split())
            # The last word of a story that was cut off may be half a word.
            texts.append(text if stop is not None else text.rpartition(" ")[0])
    return texts


def real(path: str) -> list[str]:
    """The stories of a file, with single spaces for line breaks."""
    return [" ".join(story.split()) for story in read_text(path).split("<|endoftext|>") if story.strip()]


def passages(stories: Sequence[str], name: str) -> list[Example]:
    """Every story as passages of at most `PASSAGE` characters, each behind at most `CONTEXT` characters before it.

    The words in the first `CONTEXT` characters of a story are read alone.
    """
    found = []
    for number, story in enumerate(stories):
        words, place = story.split(" "), 0
        while place < len(words) and len(" ".join(words[:place])) < CONTEXT:
            place += 1
        while place < len(words):
            end = place + 1
            while end < len(words) and len(" ".join(words[place : end + 1])) <= PASSAGE:
                end += 1
            start = place - 1
            while start and len(" ".join(words[start - 1 : place])) <= CONTEXT:
                start -= 1
            context, text = " ".join(words[start:place]), " ".join(words[place:end])
            # Unfinished: a passage does not end its story, so nobody learns, or is asked, to end there.
            told = {"story": number, "unfinished": True}
            found.append(Example(f"{name}-{number}-{place}", context, (text,), origin="teacher", meta=told))
            place = end
    return found


@torch.no_grad()
def bits(model: torch.nn.Module, template: Template, rows: Sequence[Example], batch_size: int = 64) -> list[float]:
    """Σ −log₂ q over the tokens of each passage."""
    encoder, collator = ExampleTokenizer(template, DATA), Collator(template.tokenizer.pad_token_id)  # pyright: ignore
    encoded = encode_rows(rows, encoder)
    assert not encoder.notes, f"a passage was cut: {encoder.notes}"
    model.eval()
    found = []
    for start in range(0, len(encoded), batch_size):
        output = forward(model, collator(encoded[start : start + batch_size])["student"])  # pyright: ignore
        logp = output.head.logits(output.hidden).double().log_softmax(dim=-1)
        each = -logp.gather(1, output.target_ids[:, None])[:, 0] / math.log(2)
        found += [part.sum().item() for part in each.split(output.lengths)]
    return found


def num_bytes(rows: Sequence[Example]) -> list[int]:
    """UTF-8 bytes of each passage and the space before it."""
    return [1 + len(row.answers[0].encode()) for row in rows]
