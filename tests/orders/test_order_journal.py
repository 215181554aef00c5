"""The journal: nothing leaves unwritten, a torn tail is cut off, old files hold nothing still needed."""

from __future__ import annotations

import itertools
import json
import os
import stat
import time
from pathlib import Path

import pytest

from bot import journal as module
from bot.journal import Fsync, Journal, JournalConfig, JournalError, order_fields, read
from nadofast import OrderTracker, Signer, TrackedOrder, to_x18
from nadofast.events import FillEvent
from nadofast.orders import OutcomeFacts

SIGNER = Signer("0x" + "01" * 32, chain_id=77001, endpoint_address="0x" + "0d" * 20)
ACCOUNT = "77001:test"


def order(tracker: OrderTracker, nonce: int) -> tuple[TrackedOrder, str]:
    """A registered order and its signature."""
    signed = SIGNER.sign_order(
        product_id=4, price_x18=to_x18("3000.1"), amount_x18=-to_x18("1.5"), expiration_s=1_790_000_000,
        nonce=nonce, appendix=(7 << 100) + 1, client_id=nonce,
    )  # fmt: skip
    return tracker.register(signed), signed.signature


def test_fields_come_back_and_no_signature_is_written(tmp_path: Path) -> None:
    path, tracker = tmp_path / "orders" / "journal", OrderTracker()
    with Journal(path, account=ACCOUNT) as journal:
        written = [order(tracker, nonce) for nonce in range(1, 4)]
        for record, _ in written:
            journal.record(record)
            assert record.digest in path.read_text()  # in the kernel now, not at close
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert not any(signature[2:] in text for _, signature in written)
    other = OrderTracker()
    for (record, _), fields in zip(written, read(path).unfinished, strict=True):
        back = other.restore(**dict(order_fields(fields)))
        assert [getattr(back, n) for n in module._FIELDS] == [getattr(record, n) for n in module._FIELDS]
        assert not back.is_terminal


def test_a_record_made_ahead_is_written_only_when_its_order_leaves(tmp_path: Path) -> None:
    """And it is the record that would have been written then, but for its time."""
    path, tracker, now_ms = tmp_path / "j", OrderTracker(), [1_000]
    with Journal(path, account=ACCOUNT, wall_ns=lambda: now_ms[0] * 1_000_000) as journal:
        made = [order(tracker, nonce)[0] for nonce in range(1, 2 * module.MAX_READY)]
        for one in made:
            journal.prepare(one)
        assert read(path).intents == {}
        now_ms[0] = 2_000
        for one in (made[-1], made[0]):
            journal.record(one)
        assert len(journal._ready) < module.MAX_READY  # what never leaves is not kept for ever
    ahead, late = read(path).unfinished
    assert (ahead["digest"], ahead["at_ms"]) == (made[-1].digest, 1_000)
    assert (late["digest"], late["at_ms"]) == (made[0].digest, 2_000)
    for fields, one in ((ahead, made[-1]), (late, made[0])):
        back = OrderTracker().restore(**dict(order_fields(fields)))
        assert [getattr(back, n) for n in module._FIELDS] == [getattr(one, n) for n in module._FIELDS]


@pytest.mark.parametrize("client_id", [None, 0, 7])
def test_an_intent_is_the_json_of_its_fields(client_id: int | None) -> None:
    """Written by hand for speed: the same bytes as the general way makes of it."""
    signed = SIGNER.sign_order(
        product_id=4, price_x18=1, amount_x18=-(10**30), expiration_s=1, nonce=1 << 63, appendix=1 << 120,
        client_id=client_id,
    )  # fmt: skip
    record = OrderTracker().register(signed)
    fields = {name: getattr(record, name) for name in module._FIELDS}
    fields |= {name: str(fields[name]) for name in module._WIDE}
    assert module._intent_line(record, 5) == module._line({"kind": "intent", "at_ms": 5, **fields})


def test_an_end_is_written_once_it_is_certain(tmp_path: Path) -> None:
    tracker = OrderTracker()
    with Journal(tmp_path / "j", account=ACCOUNT) as journal:
        tracker.on_change(journal.note)
        record, _ = order(tracker, 1)
        journal.record(record)
        tracker.on_cancelled(record.digest, to_x18("0.5"))  # its fills are still on their way
        assert len(read(journal.path).unfinished) == 1
        tracker.on_cancelled(record.digest, to_x18("1.5"))
        denied, _ = order(tracker, 2)
        journal.record(denied)
        tracker.on_outcome(denied.digest, OutcomeFacts(is_denied=True))
    found = read(tmp_path / "j")
    # An end that young may lack a fill that was on its way: it is asked about once more.
    assert [fields["digest"] for fields in found.unfinished] == [record.digest]
    later_ns = 60_000_000_000 + time.time_ns()
    with Journal(tmp_path / "j", account=ACCOUNT, wall_ns=lambda: later_ns) as journal:
        third, _ = order(tracker, 3)
        journal.record(third)
    assert [fields["digest"] for fields in read(tmp_path / "j").unfinished] == [record.digest, third.digest]
    assert found.ends[denied.digest]["state"] == "denied"


@pytest.mark.parametrize("lost", [1, 5, 40, 200])
def test_a_torn_tail_is_cut_off(tmp_path: Path, lost: int) -> None:
    path, tracker = tmp_path / "j", OrderTracker()
    with Journal(path, account=ACCOUNT) as journal:
        records = [order(tracker, nonce)[0] for nonce in (1, 2)]
        for record in records:
            journal.record(record)
    os.truncate(path, path.stat().st_size - lost)
    with Journal(path, account=ACCOUNT) as journal:
        assert journal.found.torn_bytes > 0
        assert list(journal.found.intents) == [records[0].digest]
        third, _ = order(tracker, 3)
        journal.record(third)
    found = read(path)
    assert (list(found.intents), found.damaged) == ([records[0].digest, third.digest], 0)


def test_a_damaged_line_is_counted_and_the_others_stand(tmp_path: Path) -> None:
    path, tracker = tmp_path / "j", OrderTracker()
    with Journal(path, account=ACCOUNT) as journal:
        for nonce in (1, 2, 3):
            journal.record(order(tracker, nonce)[0])
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2].replace(b"price_x18", b"price_x81")
    path.write_bytes(b"".join(lines))
    with Journal(path, account=ACCOUNT) as journal:
        assert (journal.found.damaged, len(journal.found.intents)) == (1, 2)


@pytest.mark.parametrize("name", ["digest", "at_ms", "amount_x18", "client_id", "expiration_s"])
@pytest.mark.parametrize("is_there", [True, False])
def test_a_record_that_is_not_whole_is_damage_however_good_its_checksum(
    tmp_path: Path, name: str, is_there: bool
) -> None:
    """As another version might write it: the orders beside it are still found."""
    path, tracker = tmp_path / "j", OrderTracker()
    records = [order(tracker, nonce)[0] for nonce in (1, 2, 3)]
    with Journal(path, account=ACCOUNT) as journal:
        journal.record_all(records)
    lines = path.read_bytes().splitlines(keepends=True)
    fields = json.loads(lines[2][9:])
    if is_there:
        fields[name] = [fields[name]]
    else:
        del fields[name]
    path.write_bytes(b"".join([*lines[:2], module._line(fields), *lines[3:]]))
    found = read(path)
    assert (list(found.intents), found.damaged) == ([records[0].digest, records[2].digest], 1)
    with Journal(path, account=ACCOUNT) as journal:
        assert journal.found == found


def test_rotation_carries_over_what_has_no_end(tmp_path: Path) -> None:
    minutes = itertools.count(time.time_ns(), 60_000_000_000)
    path, tracker = tmp_path / "j", OrderTracker()
    with Journal(
        path, account=ACCOUNT, config=JournalConfig(max_bytes=2_000, keep=2), wall_ns=lambda: next(minutes)
    ) as journal:
        tracker.on_change(journal.note)
        first, _ = order(tracker, 1)
        journal.record(first)
        for nonce in range(2, 40):
            record, _ = order(tracker, nonce)
            journal.record(record)
            tracker.on_cancelled(record.digest, to_x18("1.5"))
        last, _ = order(tracker, 40)
        journal.record(last)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["j", "j.1", "j.2"]
    assert path.stat().st_size < 4_000
    assert [f["digest"] for f in read(path).unfinished] == [first.digest, last.digest]
    with pytest.raises(JournalError, match="another account"):
        Journal(path, account="77001:other")


def test_what_is_asked_about_at_a_start_does_not_depend_on_rotation(tmp_path: Path) -> None:
    """An end of a moment ago may be without a fill that was on its way: its order is asked about again."""
    now_ms, tracker = [1_000_000], OrderTracker()
    small, large = (
        Journal(
            tmp_path / str(size), account=ACCOUNT, config=JournalConfig(max_bytes=size),
            wall_ns=lambda: now_ms[0] * 1_000_000,
        )
        for size in (2_000, 1 << 30)
    )  # fmt: skip
    with small, large:
        for journal in (small, large):
            tracker.on_change(journal.note)
        asked, ended = [], []
        for nonce in range(1, 60):
            record, _ = order(tracker, nonce)
            for journal in (small, large):
                journal.record(record)
            now_ms[0] += 700
            if nonce % 7:
                tracker.on_cancelled(record.digest, to_x18("1.5"))
                ended.append(record.digest)
            found = [[fields["digest"] for fields in read(one.path).unfinished] for one in (small, large)]
            assert found[0] == found[1], nonce
            asked.append(len(set(found[0]) & set(ended)))
        # Told long after the end, which is not the last word any more.
        half, whole = to_x18("0.5"), to_x18("1.5")
        tracker.on_fill(
            FillEvent(
                product_id=4, timestamp_ns=1, subaccount="0x01", order_digest=ended[0], appendix=1,
                filled_qty_x18=half, remaining_qty_x18=whole - half, original_qty_x18=whole, price_x18=1,
                is_taker=False, is_bid=False, fee_x18=0, submission_idx=1,
            )
        )  # fmt: skip
        found = [[fields["digest"] for fields in read(one.path).unfinished] for one in (small, large)]
        assert ended[0] in found[1]
        assert set(found[0]) == set(found[1])
    assert max(asked) > 3
    assert (tmp_path / "2000.4").exists()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", account=ACCOUNT), pytest.raises(JournalError, match="in use"):
        Journal(tmp_path / "j", account=ACCOUNT)
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "j")
    with pytest.raises(JournalError, match="link"):
        Journal(link, account=ACCOUNT)


def test_what_leaves_together_is_written_in_one_piece_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tracker, write, writes = tmp_path / "j", OrderTracker(), os.write, []
    with Journal(path, account=ACCOUNT) as journal:
        legs = [order(tracker, nonce)[0] for nonce in (1, 2)]
        journal.prepare(legs[0])
        monkeypatch.setattr(os, "write", lambda fd, piece: writes.append(piece) or write(fd, piece))
        journal.record_all(legs)
        journal.record_all(legs)  # they are there
        assert len(writes) == 1
        whole = path.read_bytes()
        assert whole.endswith(writes[0])
        more = [order(tracker, nonce)[0] for nonce in (3, 4)]
        line = len(module._intent_line(more[0], 1_790_000_000_000))
        for taken in (20, line, line + 20):  # all of the first leg, too, is not enough
            monkeypatch.setattr(os, "write", lambda fd, piece, taken=taken: write(fd, piece[:taken]))
            with pytest.raises(OSError, match="part of a record"):
                journal.record_all(more)
            assert path.read_bytes() == whole
        monkeypatch.setattr(os, "write", write)
        journal.record_all(more)
    found = read(path)
    assert (list(found.intents), found.damaged) == ([leg.digest for leg in (*legs, *more)], 0)


def test_a_full_disk_refuses_the_order_and_leaves_no_half_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tracker, write = tmp_path / "j", OrderTracker(), os.write
    with Journal(path, account=ACCOUNT) as journal:
        journal.record(order(tracker, 1)[0])
        whole = path.read_bytes()
        monkeypatch.setattr(os, "write", lambda fd, line: write(fd, line[:20]))
        with pytest.raises(OSError, match="part of a record"):
            journal.record(order(tracker, 2)[0])
        assert path.read_bytes() == whole


@pytest.mark.parametrize(("policy", "syncs"), [(Fsync.NONE, 0), (Fsync.INTERVAL, 1), (Fsync.EVERY, 4)])
def test_when_records_are_forced_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: Fsync, syncs: int
) -> None:
    done: list[int] = []
    clock_ns = [0]
    monkeypatch.setattr(module.os, "fdatasync", done.append)
    monkeypatch.setattr(module.time, "monotonic_ns", lambda: clock_ns[0])
    tracker = OrderTracker()
    with Journal(tmp_path / "j", account=ACCOUNT, config=JournalConfig(fsync=policy)) as journal:
        for nonce in (1, 2, 3):  # the line of the beginning is the first record
            clock_ns[0] += 400_000_000
            journal.record(order(tracker, nonce)[0])
        assert len(done) == syncs


def test_an_end_in_doubt_stays_in_doubt_until_it_is_written_again(tmp_path: Path) -> None:
    """However many starts that takes, and however long they last."""
    path, tracker, now_ns = tmp_path / "j", OrderTracker(), [time.time_ns()]
    with Journal(path, account=ACCOUNT, wall_ns=lambda: now_ns[0]) as journal:
        tracker.on_change(journal.note)
        record, _ = order(tracker, 1)
        journal.record(record)
        tracker.on_cancelled(record.digest, to_x18("1.5"))
    for start in range(2, 5):
        now_ns[0] += 3_600 * 10**9
        with Journal(path, account=ACCOUNT, wall_ns=lambda: now_ns[0]) as journal:
            assert record.digest in [fields["digest"] for fields in journal.found.unfinished]
            journal.record(order(tracker, start)[0])  # a much younger record
    with Journal(path, account=ACCOUNT, wall_ns=lambda: now_ns[0]) as journal:
        journal.note(record)
        assert journal.found.torn_bytes == 0
        now_ns[0] += 3_600 * 10**9
        journal.record(order(tracker, 9)[0])
    assert record.digest not in [fields["digest"] for fields in read(path).unfinished]


def test_a_rotation_without_room_goes_on_in_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tracker = tmp_path / "j", OrderTracker()
    with Journal(path, account=ACCOUNT, config=JournalConfig(max_bytes=1_000)) as journal:
        link = os.link
        monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(28, "no space")))
        records = [order(tracker, nonce)[0] for nonce in range(1, 6)]
        for record in records:
            journal.record(record)
        assert not (tmp_path / "j.1").exists()
        monkeypatch.setattr(os, "link", link)
        records.append(order(tracker, 6)[0])
        journal.record(records[-1])
        assert (tmp_path / "j.1").exists()
    assert [fields["digest"] for fields in read(path).unfinished] == [record.digest for record in records]


def test_a_rotation_that_cannot_begin_goes_on_in_the_old_file(tmp_path: Path) -> None:
    """Somebody has the new file, or no more may be opened: an order that is written down may leave."""
    path, tracker = tmp_path / "j", OrderTracker()
    (tmp_path / "j.new").mkdir()
    with Journal(path, account=ACCOUNT, config=JournalConfig(max_bytes=1_000)) as journal:
        records = [order(tracker, nonce)[0] for nonce in range(1, 9)]
        for record in records:
            journal.record(record)
    assert not (tmp_path / "j.1").exists()
    assert [fields["digest"] for fields in read(path).unfinished] == [record.digest for record in records]


def test_no_order_waits_until_a_new_file_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, tracker = tmp_path / "j", OrderTracker()
    with Journal(path, account=ACCOUNT, config=JournalConfig(max_bytes=1_000)) as journal:
        forced: list[int] = []
        monkeypatch.setattr(os, "fdatasync", forced.append)
        records = []
        while path.stat().st_size <= 1_000:
            records.append(order(tracker, len(records) + 1)[0])
            journal.record(records[-1])
        assert not forced
        tracker.on_change(journal.note)
        tracker.on_cancelled(records[0].digest, to_x18("1.5"))
        assert len(forced) == 1
        assert (tmp_path / "j.1").exists()
    # The one that ended is among them: its end is young.
    assert [fields["digest"] for fields in read(path).unfinished] == [one.digest for one in records]


def test_what_cannot_be_a_journal(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(JournalError, match="directory"):
        Journal(tmp_path / "directory", account=ACCOUNT)


def test_the_memory_of_ends_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ENDS", 3)
    tracker = OrderTracker()
    with Journal(tmp_path / "j", account=ACCOUNT) as journal:
        tracker.on_change(journal.note)
        for nonce in range(1, 8):
            record, _ = order(tracker, nonce)
            journal.record(record)
            tracker.on_cancelled(record.digest, to_x18("1.5"))
        assert len(journal._ends) == 3
    assert len(read(tmp_path / "j").ends) == 7
