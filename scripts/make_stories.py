"""Write a data file of story openings, each continued by a teacher of stories.

The openings are composed here from word lists; the continuations are the teacher's own greedy text, so a student
that is measured against them is measured by how well it stands in for the teacher, and by nothing else.

    python scripts/make_stories.py --teacher FOLDER --out stories.jsonl
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch

from understudy.files import write_jsonl
from understudy.models.generate import generate
from understudy.models.load import load_model, load_template
from understudy.recipe import ModelConfig
from understudy.tokens.template import Template

GIRLS = ("Lily", "Mia", "Anna", "Sue", "Emma", "Lucy", "Amy", "Sara", "Jane", "Kim")
BOYS = ("Tim", "Tom", "Ben", "Max", "Sam", "Jack", "Bob", "Leo", "Joe", "Dan")
KINDS = ("little", "small", "happy", "kind", "brave", "shy", "young", "curious")
PLACES = ("in a small house", "near a big tree", "by the sea", "in a quiet town", "on a farm", "in a big city")
LIKES = (
    "play with a red ball",
    "read books",
    "run in the park",
    "look at the birds",
    "eat sweet apples",
    "help in the garden",
    "draw pictures",
    "sing songs",
    "play with the dog",
    "jump in the water",
)
CONTINUE = (
    "{{ bos_token }}{% for m in messages %}{{ m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% else %} {% endif %}{% endfor %}"
)


def openings(count: int, seed: int) -> list[str]:
    """Distinct openings of two sentences."""
    every = [
        f"Once upon a time, there was a {kind} {who} named {name}. {pronoun} lived {place} and loved to {like}."
        for names, who, pronoun in ((GIRLS, "girl", "She"), (BOYS, "boy", "He"))
        for name in names
        for kind in KINDS
        for place in PLACES
        for like in LIKES
    ]
    return random.Random(seed).sample(every, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", required=True, help="folder of the teacher")
    parser.add_argument("--out", type=Path, default=Path("stories.jsonl"))
    parser.add_argument("--count", type=int, default=2500)
    parser.add_argument("--tokens", type=int, default=64, help="length of a continuation")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    config = ModelConfig(model=args.teacher, chat_template=CONTINUE)
    template: Template = load_template(config)
    model = load_model(config, torch.device("cpu"))
    texts = openings(args.count, args.seed)
    prompts = [template.prompt_ids([{"role": "user", "content": text}]) for text in texts]
    answers = generate(model, template, prompts, max_new_tokens=args.tokens, batch_size=64)
    rows = [
        {"id": f"story-{number}", "prompt": text, "completion": answer.text}
        for number, (text, answer) in enumerate(zip(texts, answers, strict=True))
    ]
    write_jsonl(args.out, rows)
    print(f"wrote {len(rows)} stories to {args.out}")


if __name__ == "__main__":
    main()
