"""What a teacher is: requests in, replies or abstentions out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from factory.records import MAY_PASS

if TYPE_CHECKING:
    from factory.teacher.budget import Spending
    from factory.teacher.endpoint import Endpoint


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Request:
    """One question to the teacher; everything in it enters the key of the reply cache."""

    messages: tuple[Message, ...]
    """The part that many requests share comes first, so that a server computes it once."""
    max_tokens: int
    sampling_temperature: float = 0.0
    top_p: float = 1.0
    schema: Mapping[str, Any] | None = None
    """JSON schema the reply must fit. No `maxLength`: it makes llama.cpp's grammar 40 times slower."""
    top_logprobs: int = 0
    """How many alternatives to report for each token; 0 for none."""
    sample: int = 0
    """Index that tells apart requests that are equal in all else; also the sampling seed."""


@dataclass(frozen=True)
class TokenLogprob:
    """One generated token and the alternatives the model considered, natural logarithms."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Reply:
    """What the teacher said. A truncated reply is a reply: see `finish_reason`."""

    text: str
    finish_reason: str
    """`stop`, or `length` when `max_tokens` cut the text off."""
    prompt_tokens: int
    """0 when the server does not count; so too `completion_tokens`."""
    completion_tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()
    """Empty when none were asked for or the server has none."""
    from_cache: bool = False
    key: str = field(default="", compare=False)
    """Where it stands in the reply store; two replies that say the same are equal wherever they stand."""


@dataclass(frozen=True)
class Abstain:
    """The teacher gave no usable answer to one request; its neighbours are not affected."""

    reason: str
    """`bad-request`, `no-logprobs`, `content-filter`, `refusal`, `empty`, `malformed`, `budget`, `unavailable` or
    `deadline`; a parser adds its own words."""
    raw: str = ""
    """What came instead of an answer, for the person who looks into it."""
    key: str = field(default="", compare=False)
    """Where the reply stands in the reply store or, if none came, its failure in the ledger; empty when the budget
    kept it from being asked."""

    @property
    def may_pass(self) -> bool:
        """Whether the same request may be answered another time: what waits for it is not complete."""
        return self.reason in MAY_PASS


OnReply = Callable[[int, "Reply | Abstain"], None]
"""Called as each answer arrives, with the position of its request."""


class Teacher(Protocol):
    """An LLM that answers many requests at once."""

    @property
    def identity(self) -> str:
        """Model and endpoint: what may change an answer, and never a secret. Enters fingerprints."""

    @property
    def spending(self) -> "Spending":
        """What has been asked in this build so far, against the budget."""

    @property
    def endpoint(self) -> "Endpoint":
        """Whom it asks, and how it writes a request for the wire."""

    async def complete(self, requests: Sequence[Request], *, on_reply: OnReply | None = None) -> list[Reply | Abstain]:
        """Answer every request, in order of the requests.

        Raises:
            TeacherUnavailable: The endpoint stayed down or busy; answers received so far are in the cache.
            TeacherRefused: The key or the model was refused.
            ArtifactError: The reply cache or the weights cannot be read or written.
        """

    def note(self, request: Request, abstain: Abstain, replies: Sequence[Reply]) -> None:
        """Write into the ledger that nothing could be made of what was replied.

        Args:
            request: What was asked first.
            abstain: What is wrong.
            replies: All that came; the last one decided.
        """

    def close(self) -> None:
        """End what the teacher started; safe to call twice."""
