"""What several parts test with: tiny real models, their tokenizers, and the folder of real data where there is one."""

import gc
import os
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import settings

from support import SHARED

# Workers of a run and commands of a page have one thread each too. Tiny tensors gain nothing from more, and tests run
# side by side: threads that wait for each other on cores that others use cost many times what they compute.
os.environ["OMP_NUM_THREADS"] = "1"

# Collecting tests makes objects that stay; the garbage collector waits for the first test (`one_thread`).
gc.disable()

# The same texts every time and no clock; `HYPOTHESIS_PROFILE=explore` (make test-slow) draws new ones.
settings.register_profile("repeat", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run whole recipes come first.

    Side by side (`-n 2 --dist loadfile`), each file goes to one worker: what it makes once is made once. Those that
    take minutes must not be the last ones, at which all but one worker would wait.
    """
    items.sort(key=lambda item: not (item.path.parent.name in ("cli", "docs") or item.path.stem in WHOLE_RECIPES))


WHOLE_RECIPES = (
    *("test_recipes_shipped", "test_grids_shipped", "test_api"),
    *("test_reduction", "test_kills", "test_screenshots"),
)


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny tensors gain nothing from more, and sums in a fixed order repeat to the last bit."""
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    # The Trainer collects garbage at the end of each run; what was imported need not be looked at every time.
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Nothing of a test lands in the cache of whoever runs it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDERSTUDY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data that nobody here wrote."""
    if not SHARED.is_dir():
        pytest.skip("the folder of real data (../shared/data) is not here")
    return SHARED


@pytest.fixture
def tokenizer():
    """A byte-level BPE of 300 entries with pad, end and start tokens and no chat template."""
    from support.tiny import tokenizer

    return tokenizer(300)


@pytest.fixture
def template(tokenizer):
    """The same, ready to speak to a model."""
    from understudy.tokens.template import Template

    return Template(tokenizer)


@pytest.fixture(params=["tied", "untied"])
def model(request, tokenizer):
    """A Llama of a few thousand parameters, once with one matrix for embedding and head, once with two."""
    from support.tiny import llama

    return llama(len(tokenizer), tied=request.param == "tied")
