"""One owner at a time; a dead one is succeeded. Time is simulated: nothing here sleeps."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deblur.errors import LeaseError
from deblur.store.lease import STILL, Lease, check_token, highest_claim
from deblur.store.owner import Owner

ELSEWHERE = Owner("other-host", 7, "1", "boot", "space")


class Time:
    """A clock that only sleeping moves; `during` runs in every sleep."""

    def __init__(self, during: Callable[[float], None] = lambda now: None) -> None:
        self.now, self.during = 0.0, during

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.during(self.now)


def lease(folder: Path, time: Time, owner: Owner = ELSEWHERE) -> Lease:
    return Lease(folder, owner=owner, clock=time.clock, sleep=time.sleep)


def test_a_free_lease_is_taken_at_once(tmp_path: Path) -> None:
    time = Time()
    held = lease(tmp_path, time)
    assert held.acquire() == held.token == 1
    assert time.now == 0


def test_a_released_lease_is_free_and_its_token_is_never_given_again(tmp_path: Path) -> None:
    time = Time()
    for token in (1, 2, 3):
        held = lease(tmp_path, time)
        assert held.acquire() == token
        held.release()
        held.release()
    assert time.now == 0


def test_a_living_owner_is_left_alone(tmp_path: Path) -> None:
    owner = lease(tmp_path, Time())
    owner.acquire()
    time = Time(lambda now: owner.renew() if now % 10 == 0 else None)
    with pytest.raises(LeaseError, match="process 7 on other-host"):
        lease(tmp_path, time).acquire()
    assert time.now == 10  # told at the first heartbeat, not after a minute
    owner.renew()


def test_a_silent_owner_is_succeeded_after_a_minute(tmp_path: Path) -> None:
    owner = lease(tmp_path, Time())
    owner.acquire()
    time = Time()
    assert lease(tmp_path, time).acquire() == 2
    assert time.now == STILL
    with pytest.raises(LeaseError, match="lost"):
        owner.renew()
    owner.release()  # harmless
    check_token(tmp_path, 2)


def test_an_owner_that_wakes_up_cannot_disturb_its_successor(tmp_path: Path) -> None:
    owner, successor = lease(tmp_path, Time()), lease(tmp_path, Time())
    owner.acquire()
    old = (tmp_path / "lease.json").read_bytes()
    successor.acquire()
    (tmp_path / "lease.json").write_bytes(old)  # a heartbeat that was on its way when the owner froze
    with pytest.raises(LeaseError):
        check_token(tmp_path, 1)
    successor.renew()
    assert '"token": 2' in (tmp_path / "lease.json").read_text()


def test_a_process_that_is_gone_is_succeeded_at_once(tmp_path: Path) -> None:
    here = Owner.here()
    if not here.boot:
        pytest.skip("this system doesn't tell when a process started")
    time = Time()
    lease(tmp_path, time, replace(here, started="1")).acquire()  # our number, in an earlier life
    assert lease(tmp_path, time, here).acquire() == 2
    assert time.now == 0


def test_released_while_we_watch(tmp_path: Path) -> None:
    owner = lease(tmp_path, Time())
    owner.acquire()
    time = Time(lambda now: owner.release() if now == 5 else None)
    assert lease(tmp_path, time).acquire() == 2
    assert time.now == 5


@pytest.mark.parametrize("damage", ["", "{", '{"token": 1}', '{"token": 1, "owner": {"host": 1}}'])
def test_a_damaged_lease_is_taken_over_after_a_minute(tmp_path: Path, damage: str) -> None:
    lease(tmp_path, Time()).acquire()
    (tmp_path / "lease.json").write_text(damage)
    time = Time()
    assert lease(tmp_path, time).acquire() == 2
    assert time.now == STILL


def test_two_observers_of_one_dead_owner(tmp_path: Path) -> None:
    lease(tmp_path, Time()).acquire()
    first, second = lease(tmp_path, Time()), lease(tmp_path, Time())
    assert first._claim(2)  # both saw it dead; the first got there before
    assert not second._claim(2)
    assert highest_claim(tmp_path) == 2


def test_an_old_number_gives_no_right(tmp_path: Path) -> None:
    slow = lease(tmp_path, Time())
    for _ in range(3):
        lease(tmp_path, Time()).acquire()
    assert not slow._claim(2)  # freed meanwhile by the third owner
    assert highest_claim(tmp_path) == 3


def test_a_claimant_that_died_before_it_showed_up_is_succeeded(tmp_path: Path) -> None:
    (tmp_path / ".lease-000000000004").write_text("{}")
    time = Time()
    assert lease(tmp_path, time).acquire() == 5
    assert time.now == STILL


@given(st.lists(st.sampled_from(["acquire", "renew", "release"]), max_size=12), st.data())
def test_tokens_grow_and_one_at_most_is_valid(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("lease")
    workers = [lease(folder, Time()) for _ in range(3)]
    last = 0
    for step in steps:
        worker = data.draw(st.sampled_from(workers))
        if step == "acquire":
            token = worker.acquire()  # everybody else is frozen, so this succeeds within the simulated minute
            assert token > last
            last = token
        elif step == "renew" and worker.token == last and last:
            worker.renew()
        elif step == "renew":
            with pytest.raises(LeaseError):
                worker.renew()
        else:
            worker.release()
        valid = {w.token for w in workers if w.token is not None and w.token == highest_claim(folder)}
        assert len(valid) <= 1


def test_held_gives_back(tmp_path: Path) -> None:
    with Lease(tmp_path).held() as held:
        assert held.token == 1
    assert held.token is None
    assert Lease(tmp_path).acquire() == 2


def test_an_owner_knows_itself() -> None:
    here = Owner.here()
    assert here.pid == os.getpid()
    assert not here.is_gone()
    assert not ELSEWHERE.is_gone()  # of another host nothing is certain
    assert str(here).startswith("process ")
