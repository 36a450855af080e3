"""Settings that a run chooses and adjusts itself, such as IntroVAE's `objective.margin=auto`.

An objective reads `controller.value` as it would read a number; in a compiled step it is a 0-d tensor, on which nothing
can branch. The trainer passes every controller the scalars of every step, in order and averaged over processes, and
saves its state in each checkpoint; a law knows nothing of the trainer, of clocks or of processes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from genzoo.duration import Duration
from genzoo.errors import UsageError
from genzoo.objective import Progress

EVERY = 10  # steps between decisions: all scalars up to a multiple of it arrive before the next step begins
HORIZON = 100  # steps that the running averages look back, exponentially
FIRST, SHARE = 200, 0.25  # least steps to observe before the first choice, and the most of a run that these may take
RATE = 0.25  # largest change of a value per decision, in natural logarithm: tenfold in 100 steps
DRIFT = 0.01  # change of the target per decision under pressure: fourfold in 1,390 steps
ARRIVED = 1e-9  # |ln(target / value)| that counts as zero: rounding
BOUND = 4.0  # the target stays within this factor of the first choice


class Controller(Protocol):
    """One setting of an objective that moves during a run."""

    value: float

    def observe(self, at: Progress, scalars: Mapping[str, float]) -> str | None:
        """Takes one step's scalars, `panel/curve` by name; returns one line for the log when something happened.

        Called once for every step, in order. `value` may change only when `at.step + 1` is a multiple of `EVERY`:
        scalars arrive late and by the clock, decisions must not.
        """
        ...

    def state_dict(self) -> dict[str, float]:
        """Returns everything that later decisions depend on."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        """Restores what `state_dict` returned."""
        ...


class Fixed:
    """A number that was given: it never moves."""

    def __init__(self, value: float):
        self.value = value

    def observe(self, at: Progress, scalars: Mapping[str, float]) -> None:
        return None

    def state_dict(self) -> dict[str, float]:
        return {}

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        return None


class Calibration:
    """The weight of the SSE that belongs to a calibrated Gaussian decoder (sigma-VAE, Rybkin et al., ICML 2021).

    A decoder with one variance s^2 for all values has the weight 1 / (2 s^2) on the SSE, and its likelihood is highest
    where s^2 is the mean squared error per value. So, with the average of `error/sse` over HORIZON steps,

        weight = values / (2 SSE)

    at every EVERY-th step of the warm-up. It is held from then on, so that the balance of adversarial training does not
    move with the error. The variance is at least that of rounding to 8 bits, (1 / 255)^2 / 12, and at most that of
    errors of a quarter of the range: else a network that diverges turns the weight of its own error down, and does not
    recover.

    Args:
        values: of one item, e.g. C H W.
        warmup: length of the warm-up; None: the whole run. See `Progress.before`.
        scale: factor on the weight, for objectives that scale the SSE themselves.
    """

    LEAST = 1 / 255**2 / 12
    MOST = 1 / 4**2

    def __init__(self, values: int, warmup: Duration | None, scale: float = 1.0):
        self._values, self._warmup, self._scale = values, warmup, scale
        self._averages = Averages()
        self.value = self._weight(math.inf)  # until the first decision

    def observe(self, at: Progress, scalars: Mapping[str, float]) -> str | None:
        if self._warmup is not None and not at.before(self._warmup):
            return None
        self._averages.add({"error/sse": scalars["error/sse"]})
        if (at.step + 1) % EVERY == 0:
            self.value = self._weight(self._averages.means()["error/sse"])
        return None

    def _weight(self, error: float) -> float:
        return self._scale * 0.5 / min(max(error / self._values, self.LEAST), self.MOST)

    def state_dict(self) -> dict[str, float]:
        return {"value": self.value} | self._averages.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        self.value = state_dict["value"]
        self._averages.load_state_dict(state_dict)


def refuse_fixed(name: str, value: float | str, calibration: float) -> None:
    """Refuses a factor on a weight that is not calibrated.

    Raises:
        UsageError: there is one.
    """
    if value != "auto" and calibration != 1:
        raise UsageError(
            f"objective.calibration={calibration:g} is a factor on objective.{name}=auto, and that is {value}: "
            "leave it out."
        )


@dataclass(frozen=True)
class Law:
    """How `Balance` chooses one setting, in terms of a level m in nats: the KL that generated images are pushed to."""

    name: str  # of the setting, for the log
    start: float  # m until the first choice
    first: Callable[[Mapping[str, float]], float]  # averages after the warm-up -> m
    pressure: Callable[[Mapping[str, float], float], int]  # averages, value -> +1: m is too low, -1: too high, 0: fine
    curves: tuple[str, ...]  # the averages that the log shows; a curve that is not logged is left out
    setting: Callable[[float], float] = lambda level: level  # m -> the setting's value
    least: float = 0.0  # lower bound of the setting


class Balance:
    """Chooses a setting once from the warm-up's curves, then adjusts it by slow, bounded feedback.

    With averages a_t = (1 - 1/HORIZON) a_(t-1) + (1/HORIZON) scalars_t, corrected for their start at zero, at every
    EVERY-th step:

    1. Before the first choice nothing moves. It falls on the last decision before adversarial training starts (with a
       warm-up of fewer than FIRST steps, on the first one after so many, or after SHARE of the run if that is less):
       m0 = law.first(a).
    2. Target: ln r <- clip(ln r + DRIFT * law.pressure(a, value), +-ln BOUND); the value aimed at is
       v* = law.setting(r * m0). r moves only once the value has arrived, so it cannot wind up, and HORIZON steps after
       a change of more than RATE, so it is not judged by the transition.
    3. Value: ln v <- ln v + clip(ln v* - ln v, +-RATE).

    Why it is stable: (3) is a contraction, |ln v* - ln v| falls by RATE per decision to zero and never overshoots, from
    any start. (2) has a dead zone wherever pressure is 0, a loop gain of at most DRIFT per EVERY steps (the averages
    lag by HORIZON steps, in which the target moves by at most DRIFT * HORIZON / EVERY = 10%, so a dead zone wider than
    10% cannot be jumped over), and saturates at BOUND, where it stays.

    Args:
        law: the setting's own part.
        warmup: length of the warm-up; see `Progress.before`.
    """

    # Factor on the first choice's value, always 1 in genzoo: tests and benchmarks/auto start a run too high or too low
    # with it, and observe how it recovers.
    offset = 1.0

    def __init__(self, law: Law, warmup: Duration):
        self.law, self.warmup = law, warmup
        self.value = law.setting(law.start)
        self._averages = Averages()
        self._first: float | None = None
        self._log_ratio, self._direction = 0.0, 0  # ln r, and the pressure of the last move that was logged

    def observe(self, at: Progress, scalars: Mapping[str, float]) -> str | None:
        self._averages.add(scalars)
        if (at.step + 1) % EVERY:
            return None
        if self._first is None:
            starts = not replace(at, step=at.step + EVERY).before(self.warmup)  # before the next decision
            enough = self._averages.steps >= min(FIRST, SHARE * at.steps)
            return self._choose() if starts and enough else None
        return self._adjust()

    def _choose(self) -> str:
        means = self._averages.means()
        self._first = self.law.first(means)
        self.value = max(self.law.least, self.law.setting(self._first) * self.offset)
        return f"{self.law.name} = {self.value:.4g}, chosen for {self._shown(means)} (averages of {HORIZON} steps)"

    def _adjust(self) -> str | None:
        message = None
        if abs(self._gap()) > RATE:
            self._averages = Averages()  # the transition says little about the value at its end
        means, known = self._averages.means(), self._averages.steps >= HORIZON
        if known and abs(self._gap()) < ARRIVED and (pressure := self.law.pressure(means, self.value)):
            limit = math.log(BOUND)
            self._log_ratio = min(limit, max(-limit, self._log_ratio + DRIFT * pressure))
            if pressure != self._direction:  # one line per change of direction
                self._direction = pressure
                message = self._moves(means)
        self.value *= math.exp(min(RATE, max(-RATE, self._gap())))
        return message

    def _moves(self, means: Mapping[str, float]) -> str:
        level = "low" if self._direction > 0 else "high"
        return f"{self.law.name} moves from {self.value:.4g}: its level in nats is too {level} ({self._shown(means)})"

    def _shown(self, means: Mapping[str, float]) -> str:
        return ", ".join(f"{name} {means[name]:.4g}" for name in self.law.curves if name in means)

    def _gap(self) -> float:
        """ln of target over value."""
        assert self._first is not None
        return math.log(self.law.setting(self._first * math.exp(self._log_ratio)) / self.value)

    def state_dict(self) -> dict[str, float]:
        first = {} if self._first is None else {"first": self._first}
        own = {"value": self.value, "log_ratio": self._log_ratio, "direction": self._direction}
        return own | first | self._averages.state_dict()

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        self.value, self._log_ratio = state_dict["value"], state_dict["log_ratio"]
        self._direction, self._first = int(state_dict["direction"]), state_dict.get("first")
        self._averages.load_state_dict(state_dict)


class Averages:
    """Exponential averages of scalars over HORIZON steps; one that is no longer logged keeps its last average."""

    def __init__(self) -> None:
        self.steps = 0
        self._sums: dict[str, float] = {}
        self._weights: dict[str, float] = {}

    def add(self, scalars: Mapping[str, float]) -> None:
        """Takes one step's scalars."""
        self.steps += 1
        for name, value in scalars.items():
            for table, new in ((self._sums, value), (self._weights, 1.0)):
                table[name] = table.get(name, 0.0) + (new - table.get(name, 0.0)) / HORIZON

    def means(self) -> dict[str, float]:
        """Returns the averages by name."""
        return {name: total / self._weights[name] for name, total in self._sums.items()}

    def state_dict(self) -> dict[str, float]:
        sums = {f"sum:{name}": value for name, value in self._sums.items()}
        return {"steps": self.steps} | sums | {f"weight:{name}": value for name, value in self._weights.items()}

    def load_state_dict(self, state_dict: Mapping[str, float]) -> None:
        self.steps = int(state_dict["steps"])
        for table, prefix in ((self._sums, "sum:"), (self._weights, "weight:")):
            table.clear()
            table |= {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
