"""Answers of the student by a server, such as vLLM, which is given the student's weights every so many steps.

The weights are written as a model folder where the server reads its own, and it is asked to read them again. The server
answers in text, so the rows are that text in the student's tokens; what it drew them with is not known, and their age
is counted from the weights that it was given.
"""

from __future__ import annotations

import copy
import json
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from understudy.completers.capabilities import writer
from understudy.errors import ConfigError, TeacherError
from understudy.files import whole_folder
from understudy.models.adapters import merged
from understudy.models.kinds import kind_of
from understudy.models.rollout import Drawing, Rollout
from understudy.recipe import EndpointConfig
from understudy.recipe.on_policy import EngineConfig
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.training.onpolicy import Drawn
from understudy.training.remote import trial_ids
from understudy.types import Example, Request, TokenPrompt

RELOAD = (("/collective_rpc", {"method": "reload_weights"}), ("/reset_prefix_cache", {}))
"""What vLLM is asked for, in this order; it takes these with VLLM_SERVER_DEV_MODE=1."""


class Engine:
    """Asks a server for the student's answers.

    Args:
        config: the server, where it reads its weights, and how often it is given new ones.
        tokenizer: the student's.
        drawing: temperature and longest answer.
        save: writes the student as a model folder.
        cache: where answers are kept, of this training alone: another one's weights are not these.
        first: whether this process is the one that writes.
    """

    def __init__(
        self,
        config: EngineConfig,
        tokenizer: ExampleTokenizer,
        drawing: Drawing,
        save: Callable[[Path], None],
        cache: Path,
        *,
        first: bool = True,
    ) -> None:
        self.config, self.tokenizer, self.drawing, self.save, self.first = config, tokenizer, drawing, save, first
        transport = config.model_dump(include=set(EndpointConfig.model_fields))
        longest = {"temperature": drawing.temperature, "max_tokens": drawing.max_new_tokens}
        template = tokenizer.template
        self.asked, self.by_ids = writer(
            EndpointConfig(**transport, **longest), trial_ids(template), cache, stop_ids=template.stop_ids
        )
        if not self.by_ids:
            raise TeacherError(
                f"{config.base_url} takes no token ids, so it would render the questions itself",
                hint="serve the student by vLLM, or leave distil.on_policy.engine out",
            )
        self.weights_step: int | None = None

    def __call__(self, examples: Sequence[Example], seeds: Sequence[tuple[int, ...]], step: int) -> Drawn:
        """See `training.onpolicy.Draw`."""
        if self.weights_step is None or step - self.weights_step >= self.config.every:
            self._give_weights()
            self.weights_step = step
        # Two rows of one question are two answers, and so are those of other weights: nothing is taken from before.
        requests = [
            Request(
                str(place),
                (),
                sample=hash_of(self.weights_step, *seed),
                tokens=TokenPrompt(tuple(self.tokenizer.prompt_ids(example))),
            )
            for place, (example, seed) in enumerate(zip(examples, seeds, strict=True))
        ]
        answers: dict[int, Rollout] = {}
        for completion in self.asked.complete(requests):
            if completion.value is None:
                raise TeacherError(
                    f"the engine gave no answer to {examples[int(completion.id)].id}: {completion.reason}",
                    hint="run the same command again when it stands: training goes on from the last checkpoint",
                    retryable=True,
                )
            answers[int(completion.id)] = self._rollout(examples[int(completion.id)], completion.value)
        return [answers[place] for place in range(len(examples))], self.weights_step

    def _rollout(self, example: Example, said: Any) -> Rollout:
        """The text in the student's own tokens, without a stop token where the server wrote none."""
        ids = self.tokenizer.encode(example, said.text.strip()).answer_ids
        ids = ids if said.finished or len(ids) == 1 else ids[:-1]
        return Rollout(tuple(ids), (), said.finished)

    def _give_weights(self) -> None:
        if self.first:
            self.save(own_folder(Path(self.config.folder).expanduser()))
            for path, body in RELOAD:
                self._post(path, body)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()

    def _post(self, path: str, body: dict[str, Any]) -> None:
        root = (self.config.base_url or "").rstrip("/").removesuffix("/v1")
        headers = {"Content-Type": "application/json"}
        if key := os.environ.get(self.config.api_key_env):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(root + path, json.dumps(body).encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=self.config.timeout) as answer:
                answer.read()
        except (urllib.error.URLError, OSError) as error:
            raise TeacherError(
                f"{root}{path}: the engine did not take new weights: {error}",
                hint="start it with VLLM_SERVER_DEV_MODE=1 on the folder that distil.on_policy.engine.folder names",
                retryable=True,
            ) from error


def own_folder(folder: Path) -> Path:
    """The folder, which is written anew each time, if it holds nothing or a model.

    Raises:
        ConfigError: it holds something else, which would be lost.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "config.json").is_file():
        raise ConfigError(
            f"distil.on_policy.engine.folder {folder} holds other things than a model, and they would be lost",
            hint="name the folder that the server was started on, a copy of the student of its own",
        )
    return folder


def hash_of(*numbers: int) -> int:
    """A number that stands for some others, the same in every process."""
    mixed = 0
    for number in numbers:
        mixed = (mixed * 1_000_003 + number + 1) % 2**62
    return mixed


def saving(model: Any, template: Any) -> Callable[[Path], None]:
    """Writes a model as it stands as a folder, adapters merged into a copy; it goes on to be trained."""

    def save(folder: Path) -> None:
        plain = merged(copy.deepcopy(model), None) if hasattr(model, "peft_config") else model
        with torch.no_grad():
            kind_of(plain.config).prepare_to_save(plain, template)
            with whole_folder(folder) as part:
                plain.save_pretrained(part)
                template.tokenizer.save_pretrained(part)

    return save
