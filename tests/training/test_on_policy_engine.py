"""Answers by a server that is given new weights: a real server around a real model, which reads its folder again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from support.teacher_server import TeacherServer
from support.tiny import examples, method_config, pair
from support.tiny_on_policy import SHORT, source
from understudy import build
from understudy.errors import ConfigError, TeacherError
from understudy.models.adapters import add_lora
from understudy.models.rollout import Drawing
from understudy.recipe import LoraConfig
from understudy.recipe.on_policy import EngineConfig
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import ExampleTokenizer
from understudy.training.engine import Engine, own_folder, saving


class ReloadingServer(TeacherServer):
    """Reads its weights from a folder whenever it is asked to, as vLLM does."""

    folder: Path

    def answer(self, path: str, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        if path == "/collective_rpc" and body["method"] == "reload_weights":
            fresh = AutoModelForCausalLM.from_pretrained(self.folder)
            self.models[0].load_state_dict(fresh.state_dict())
            self.asked.append((path, body))
            return 200, {}
        if path == "/reset_prefix_cache":
            self.asked.append((path, body))
            return 200, {}
        return super().answer(path, body)


def engine_of(made: Any, server: TeacherServer, folder: Path, **fields: Any) -> Engine:
    config = EngineConfig(model="student", base_url=server.base_url, folder=str(folder / "weights"), **fields)
    tokenizer = ExampleTokenizer(made.template, SHORT)
    save = saving(made.student, made.template)
    return Engine(config, tokenizer, Drawing(1.0, 8), save, folder / "cache")


@pytest.mark.parametrize("lora", [False, True])
def test_the_server_has_the_students_weights_every_so_many_steps(tmp_path, lora):
    made = pair("kd", lora=False)
    if lora:
        made.student = add_lora(made.student, LoraConfig(r=4))
    served = pair("kd", lora=False).student
    with ReloadingServer(served, made.template) as server:
        server.folder = tmp_path / "weights"
        engine = engine_of(made, server, tmp_path, every=3)
        asked, seeds = examples(3), [(0, n) for n in range(3)]
        with torch.no_grad():
            for name, parameter in made.student.named_parameters():
                if "lora_B" in name or "embed" in name:
                    parameter.normal_()
        rollouts, weights = engine(asked, seeds, 4)
        assert weights == 4
        ids = torch.tensor([made.template.prompt_ids([{"role": "user", "content": "why"}])])
        with torch.no_grad():
            torch.testing.assert_close(served(ids).logits, made.student.eval()(ids).logits, atol=1e-4, rtol=1e-4)
        assert engine(asked, seeds, 6)[1] == 4
        assert engine(asked, seeds, 7)[1] == 7
        reloads = [path for path, _ in server.asked if path == "/collective_rpc"]
        assert len(reloads) == 2
        for rollout in rollouts:
            assert rollout.logp == ()
            assert (rollout.ids[-1] in made.template.stop_ids) == rollout.finished


def test_rows_of_an_engine_are_as_old_as_its_weights(tmp_path):
    made = pair("kd", lora=False)
    with ReloadingServer(pair("kd", lora=False).student, made.template) as server:
        server.folder = tmp_path / "weights"
        config = method_config("kd", batch_size=2, on_policy={"share": 1.0, "importance": "prefix"})
        rows = source(made, "kd", config)
        rows.draw = engine_of(made, server, tmp_path, every=2)
        ages = [{row.drawn.age for piece in rows.step_rows(step) for row in piece} for step in range(4)]
        assert ages == [{0}, {1}, {0}, {1}]
        batch = made.collator("kd")([row for piece in rows.step_rows(4) for row in piece])
        assert bool(batch["rollouts"]["logp"].isnan().all())


def test_a_server_that_takes_no_weights_is_named(tmp_path):
    made = pair("kd", lora=False)
    with TeacherServer(pair("kd", lora=False).student, made.template) as server:
        engine = engine_of(made, server, tmp_path)
        with pytest.raises(TeacherError, match="did not take new weights"):
            engine(examples(1), [(0, 0)], 0)


def test_nothing_but_a_model_is_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="they would be lost"):
        own_folder(tmp_path)
    assert own_folder(tmp_path / "new") == tmp_path / "new"


def test_an_engine_needs_a_name_an_address_and_a_folder():
    made = pair("kd", lora=False)
    config = method_config("kd", on_policy={"engine": {"model": "student"}})
    with pytest.raises(ConfigError, match="lacks base_url and folder"):
        build.check_learns_as_it_goes(config, made.template, LocalTeacher.can_give)
