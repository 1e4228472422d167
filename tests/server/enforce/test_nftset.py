"""Set elements over netlink, compared with what the nft program says."""

from __future__ import annotations

import errno
import os
import time

import pytest

from spa_server.enforce.netlink import KernelError
from spa_server.enforce.nftset import Add, Delete, Element, NftSocket, key_of
from spa_server.enforce.tags import arm, disarm
from tests.server.enforce.conftest import Site
from tests.stalls import before, in_time

KEY = key_of(bytes((192, 0, 2, 7)), bytes((198, 51, 100, 1)), b"\x06", (8443).to_bytes(2, "big"))


def listed(site: Site, name: str) -> str:
    return site.server.run(["nft", "list", "set", "inet", "spa", name]).stdout


def test_nft_reads_what_was_packed(site: Site) -> None:
    site.close_up()
    site.nft.commit([Add("leases4", Element(KEY, 90_500, "alice-laptop", "web"))])
    # Without /etc/protocols nft names no protocol (seen with 1.0.6 on a minimal Debian).
    text = listed(site, "leases4").replace(" . 6 . ", " . tcp . ")
    assert "192.0.2.7 . 198.51.100.1 . tcp . 8443 timeout 1m30s500ms" in text
    assert 'comment "alice-laptop"' in listed(site, "leases4")


def test_what_nft_wrote_is_read(site: Site) -> None:
    site.close_up()
    element = '2001:db8::7 . 2001:db8:1::1 . udp . 53 timeout 70s comment "by hand"'
    site.server.nft(f"add element inet spa leases6 {{ {element} }}\n")
    (found,) = site.nft.dump("leases6")
    assert (found.comment, found.service, found.timeout_ms) == ("by hand", "", 70_000)
    assert found.key.hex() == f"20010db8{'0' * 22}07" + f"20010db80001{'0' * 19}1" + "11000000" + "00350000"
    assert site.nft.get("leases6", found.key) is not None


def test_get_counts_down_and_knows_absence(site: Site) -> None:
    site.close_up()
    assert site.nft.get("leases4", KEY) is None

    def attempt(timeout_ms: int) -> None:
        begun_s = time.monotonic()
        site.nft.commit([Add("leases4", Element(KEY, timeout_ms))])
        committed_s = time.monotonic()
        with before(begun_s + timeout_ms / 1000):
            found = site.nft.get("leases4", KEY)
            assert found is not None
        assert 0 < found.left_ms <= timeout_ms
        time.sleep(max(0.0, committed_s + timeout_ms / 1000 + 0.02 - time.monotonic()))
        assert site.nft.get("leases4", KEY) is None
        assert site.nft.dump("leases4") == ()

    in_time(attempt, (60, 2000, 20_000))


def test_a_transaction_is_all_or_nothing(site: Site) -> None:
    site.close_up()
    absent = key_of(bytes(4), bytes(4), b"\x06", b"\0\1")
    with pytest.raises(KernelError) as caught:
        site.nft.commit([Add("leases4", Element(KEY, 60_000)), Delete("leases4", absent)])
    assert caught.value.errno == errno.ENOENT
    assert site.nft.dump("leases4") == ()
    site.nft.commit([Add("leases4", Element(KEY, 60_000))])  # the socket is fit for use after a failure
    assert len(site.nft.dump("leases4")) == 1


def test_replacing_takes_the_new_time_and_comment(site: Site) -> None:
    site.close_up()
    for seconds, label in ((60, "first"), (90, "second"), (30, "third")):
        new = Add("leases4", Element(KEY, seconds * 1000, label))
        site.nft.commit([new, Delete("leases4", KEY), new])
        (found,) = site.nft.dump("leases4")
        assert (found.timeout_ms, found.comment) == (seconds * 1000, label)


@pytest.mark.parametrize(
    ("set_name", "key", "number"),
    [("leases4", b"short", errno.EINVAL), ("unknown", KEY, errno.ENOENT)],
)
def test_a_refusal_carries_the_kernels_reason(site: Site, set_name: str, key: bytes, number: int) -> None:
    site.close_up()
    with pytest.raises(KernelError) as caught:
        site.nft.commit([Add(set_name, Element(key, 1000))])
    assert caught.value.errno == number


def test_without_a_perimeter_changes_and_listings_fail(site: Site) -> None:
    with pytest.raises(KernelError, match="No such file"):
        site.nft.commit([Add("leases4", Element(KEY, 1000))])
    with pytest.raises(KernelError, match="No such file"):
        site.nft.dump("leases4")


def test_nothing_to_do_is_done(site: Site) -> None:
    site.nft.commit([])


def test_a_hundred_thousand_tags(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.close_up()
    tags = [os.urandom(8) for _ in range(100_000)]
    begun = time.perf_counter()
    arm(site.nft, tags, 60_000)
    armed_s = time.perf_counter() - begun
    found = {element.key for element in site.nft.dump("tags")}
    assert found == set(tags)
    begun = time.perf_counter()
    disarm(site.nft, tags)
    disarmed_s = time.perf_counter() - begun
    assert site.nft.dump("tags") == ()
    with capsys.disabled():
        print(f"\n100,000 tags: armed in {armed_s:.2f} s, disarmed in {disarmed_s:.2f} s")


def test_one_large_transaction(site: Site) -> None:
    """More than one attribute can hold, and more than the ordinary send buffer."""
    site.close_up()
    site.nft.commit(Add("tags", Element(number.to_bytes(8, "big"), 60_000)) for number in range(20_000))
    assert len(site.nft.dump("tags")) == 20_000


def test_a_full_set_refuses_and_stays_as_it_was(site: Site) -> None:
    site.server.nft("table inet spa { set tags { typeof @th,64,64; flags dynamic,timeout; size 10; }\n}\n")
    arm(site.nft, [bytes(7) + bytes([number]) for number in range(10)], 60_000)
    with pytest.raises(KernelError) as caught:
        arm(site.nft, [bytes(6) + b"\1" + bytes([number]) for number in range(5)], 60_000)
    assert caught.value.errno == errno.ENFILE
    assert len(site.nft.dump("tags")) == 10


def test_two_sockets_do_not_hear_each_other(site: Site) -> None:
    site.close_up()
    with site.server.enter(), NftSocket() as other:
        other.commit([Add("leases4", Element(KEY, 60_000, "other"))])
        site.nft.commit([Add("leases4", Element(KEY[:-4] + b"\0\1\0\0", 60_000, "mine"))])
        assert len(other.dump("leases4")) == len(site.nft.dump("leases4")) == 2
