"""The teacher of a recipe that stands on a server: whoever asks it, and what it is asked with."""

from __future__ import annotations

from understudy.completers.capabilities import scorer
from understudy.completers.openai_completer import ApiCompleter
from understudy.completers.token_texts import TokenTexts
from understudy.files import cache_folder
from understudy.recipe import OtherTeacherConfig, TeacherConfig
from understudy.teachers.remote import RemoteTeacher
from understudy.tokens.template import Template

CACHE = "teacher"
"""The folder of what teachers behind endpoints have said, texts of `generate.teacher` among it."""


def prompt_scorer(config: TeacherConfig | OtherTeacherConfig, template: Template, *, account: str = "") -> ApiCompleter:
    """Whoever scores prompts of the recipe's server; what it has said is kept, whichever run it was for.

    Args:
        config: the section.
        template: the teacher's tokenizer, made ready.
        account: what the budget is for: the name of the run.

    Raises:
        TeacherError: the server scores no prompts, gives fewer than `k` tokens, or cannot be reached.
    """
    texts = TokenTexts(template)
    return scorer(config.endpoint, texts, trial_ids(template), config.k, cache_folder(CACHE), account=account)


def remote_teacher(
    config: TeacherConfig | OtherTeacherConfig, template: Template, *, temperature: float = 1.0, account: str = ""
) -> RemoteTeacher:
    """The teacher that says what the recipe's server says; arguments as `prompt_scorer` has them.

    Args:
        config: the section.
        template: the teacher's tokenizer, made ready.
        temperature: τ of whoever reads it.
        account: what the budget is for.
    """
    asked = prompt_scorer(config, template, account=account)
    return RemoteTeacher(asked, config.k, tail=config.tail, temperature=temperature)


def trial_ids(template: Template) -> list[int]:
    """A prompt that a server is tried on: the same for all who ask, so that it is asked once."""
    return template.prompt_ids([{"role": "user", "content": "Say yes."}])
