"""Which one-time tags the kernel lets in: arming and disarming them in the set `tags`.

The kernel deletes a tag in the act of admitting its datagram. This must not know whose a tag is, nor when to arm it.
"""

from __future__ import annotations

from collections.abc import Sequence

from spa_server.enforce.nftset import Add, Delete, Element, NftSocket, Operation

TAGS = "tags"
TAG_LENGTH = 8
TAGS_A_TRANSACTION = 4096


def arm(nft: NftSocket, tags: Sequence[bytes], timeout_ms: int) -> None:
    """Let each tag admit one datagram within `timeout_ms`; each 4096 go in one transaction (all or none)."""
    for start in range(0, len(tags), TAGS_A_TRANSACTION):
        nft.commit(Add(TAGS, Element(tag, timeout_ms)) for tag in tags[start : start + TAGS_A_TRANSACTION])


def disarm_all(nft: NftSocket) -> None:
    """Take every tag back."""
    nft.flush(TAGS)


def disarm(nft: NftSocket, tags: Sequence[bytes]) -> None:
    """Take tags back; those used or expired are no error."""
    for start in range(0, len(tags), TAGS_A_TRANSACTION):
        part = tuple(dict.fromkeys(tags[start : start + TAGS_A_TRANSACTION]))
        # Added first, because deleting what is not there fails the whole (NFT_MSG_DESTROYSETELEM needs Linux 6.3).
        operations: list[Operation] = [Add(TAGS, Element(tag, timeout_ms=1000)) for tag in part]
        operations += [Delete(TAGS, tag) for tag in part]
        nft.commit(operations)
