"""What may be sent: the fields of OpenAI's requests that a student can honour; what it cannot is refused by name."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from understudy.models.sampling import Sampling


def _sound(text: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("the text has half of a surrogate pair, which is no character")
    return text


Text = Annotated[str, AfterValidator(_sound)]
"""Characters that can be written as UTF-8."""
Stop = Annotated[Text, Field(min_length=1, max_length=200)]
MAX_SEED = 2**63 - 1


class Form(BaseModel):
    """A body; fields that nobody knows are passed over, as OpenAI's clients send new ones."""

    model_config = ConfigDict(extra="ignore", use_attribute_docstrings=True, allow_inf_nan=False)


class TextPart(Form):
    """A part of a turn; texts alone can be read."""

    type: Literal["text"]
    text: Text


class Turn(Form):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Text | list[TextPart]

    @property
    def text(self) -> str:
        """What is said."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(Form):
    """How an answer is streamed."""

    include_usage: bool | None = False
    """Send the counts of tokens behind the answer."""


class Sampled(Form):
    """What both kinds of completions have in common."""

    model: Text | None = Field(default=None, max_length=200)
    """`student`, `teacher`, `undistilled`, an arm, or `cascade`; default: the cascade where there is one."""
    temperature: float | None = Field(default=None, ge=0, le=2)
    """Default: 0, as the student was measured."""
    top_p: float | None = Field(default=None, gt=0, le=1)
    """Draw from the likeliest tokens that together have this probability."""
    n: int | None = Field(default=None, ge=1, le=64)
    """How many answers."""
    seed: int | None = Field(default=None, ge=-MAX_SEED, le=MAX_SEED)
    """The same seed draws the same answer."""
    stop: Stop | list[Stop] | None = None
    """Texts that end an answer, up to four."""
    stream: bool | None = False
    """Send the answer as it is written, as server-sent events."""
    stream_options: StreamOptions | None = None
    """Of a stream."""
    user: Any = None
    """Not looked at."""
    logit_bias: dict[str, Any] | None = None
    """Not supported."""
    frequency_penalty: float | None = None
    """Not supported, but for 0."""
    presence_penalty: float | None = None
    """Not supported, but for 0."""

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end an answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends with the counts of tokens."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, seed: int) -> Sampling:
        """How an answer is drawn under a seed."""
        return Sampling(self.temperature or 0.0, seed, 1.0 if self.top_p is None else self.top_p)

    @model_validator(mode="after")
    def _supported(self) -> Sampled:
        """Nothing is passed over that would change the answer."""
        refused = [name for name in ("logit_bias", "frequency_penalty", "presence_penalty") if getattr(self, name)]
        refused += [name for name in type(self).refused() if getattr(self, name, None)]
        if refused:
            raise ValueError(f"{refused[0]} is not supported: leave it out")
        if len(self.stops) > 4:
            raise ValueError("stop: at most four texts")
        return self

    @classmethod
    def refused(cls) -> tuple[str, ...]:
        """Fields that are known and not supported."""
        return ()


class ChatRequest(Sampled):
    """A conversation that is to be gone on with."""

    messages: list[Turn] = Field(min_length=1, max_length=1000)
    """The turns; the last one is the user's."""
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """Longest answer; default: as long as the run's."""
    max_completion_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """The newer name of the same."""
    logprobs: bool | None = False
    """Tell how likely each token was."""
    top_logprobs: int | None = Field(default=None, ge=0, le=20)
    """And so many of the likeliest in its place."""
    tools: list[Any] | None = None
    """Not supported."""
    functions: list[Any] | None = None
    """Not supported."""
    response_format: dict[str, Any] | None = None
    """Not supported, but for `{"type": "text"}`."""

    @classmethod
    def refused(cls) -> tuple[str, ...]:
        """See the base class."""
        return ("tools", "functions")

    @property
    def longest(self) -> int | None:
        """Longest answer."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def num_top(self) -> int | None:
        """Likeliest tokens that are wanted; None where no token is."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @model_validator(mode="after")
    def _answerable(self) -> ChatRequest:
        """A question at the end, in text, with log-probabilities that fit together."""
        if self.messages[-1].role != "user":
            raise ValueError("messages: the last turn must be the user's")
        if self.response_format and self.response_format.get("type") != "text":
            raise ValueError("response_format: a student answers in text alone")
        if self.top_logprobs and not self.logprobs:
            raise ValueError("top_logprobs needs logprobs: true")
        return self


TokenIds = Annotated[list[Annotated[int, Field(ge=0, le=2**31)]], Field(min_length=1, max_length=1_000_000)]


class CompletionRequest(Sampled):
    """A text, or token ids, to be gone on with; no template is put around it."""

    prompt: (
        Text
        | TokenIds
        | Annotated[list[Text], Field(min_length=1, max_length=64)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=64)]
    )
    """One or several."""
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    """Longest continuation; default: 16."""
    logprobs: int | None = Field(default=None, ge=0, le=20)
    """Tell how likely each token was, and so many of the likeliest in its place."""
    echo: bool | None = None
    """Not supported."""
    suffix: Text | None = None
    """Not supported."""
    best_of: int | None = None
    """Not supported, but for 1."""

    @classmethod
    def refused(cls) -> tuple[str, ...]:
        """See the base class."""
        return ("echo", "suffix")

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt by itself."""
        prompt: Any = self.prompt
        return [prompt] if isinstance(prompt, str) or isinstance(prompt[0], int) else list(prompt)

    @model_validator(mode="after")
    def _one(self) -> CompletionRequest:
        """No best of several."""
        if self.best_of not in (None, 1):
            raise ValueError("best_of is not supported: leave it out")
        return self


class AnswerRequest(Form):
    """A question as a run has it: with a text to read and options, where there are any."""

    question: Text = Field(min_length=1)
    """What is asked."""
    context: Text | None = None
    """A text to read; a student that points at its answers needs one."""
    choices: list[Text] = Field(default_factory=list, max_length=100)
    """Options of a multiple-choice question."""
    model: Text | None = Field(default=None, max_length=200)
    """As of completions."""


class EmbeddingRequest(Form):
    """Texts whose vectors are wanted."""

    model: Text | None = Field(default=None, max_length=200)
    """As of completions; an encoder."""
    input: (
        Text
        | TokenIds
        | Annotated[list[Text], Field(min_length=1, max_length=2048)]
        | Annotated[list[TokenIds], Field(min_length=1, max_length=2048)]
    )
    """One text or several, or their token ids, which are read as they stand."""
    encoding_format: Literal["float", "base64"] | None = "float"
    """How the numbers are written: as JSON, or as little-endian float32 in base64."""
    dimensions: int | None = Field(default=None, ge=1)
    """Not supported, but for the width that the vectors have."""
    user: Any = None
    """Not looked at."""

    @property
    def texts(self) -> list[str | list[int]]:
        """Each text by itself."""
        given: Any = self.input
        return [given] if isinstance(given, str) or isinstance(given[0], int) else list(given)


class FeedbackRequest(Form):
    """What a user thinks of an answer."""

    verdict: Literal["up", "down"]
    """Good, or bad."""
    question: Text = Field(min_length=1, max_length=100_000)
    """What was asked."""
    answer: Text = Field(max_length=100_000)
    """The answer that is judged."""
    model: Text = Field(default="", max_length=200)
    """Whose it is."""
    context: Text | None = Field(default=None, max_length=200_000)
    """What was there to read."""
    choices: list[Text] = Field(default_factory=list, max_length=100)
    """The options."""
    correction: Text | None = Field(default=None, max_length=100_000)
    """The right answer, where the user knows it."""
    id: Text = Field(default="", max_length=100)
    """Of the request that gave the answer."""
    confidence: float | None = Field(default=None, ge=0, le=1)
    """Of the answer, as it was given."""
