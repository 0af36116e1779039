"""Blocks of keys and values: who holds which, and what was read before and can be used again."""

from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

import numpy as np

Key = bytes
"""Names the tokens of a block and all before them."""


def next_key(before: Key, tokens: Sequence[int]) -> Key:
    """The key of the block of these tokens behind the block that has the key `before`."""
    content = before + np.array(tokens, dtype=np.int64).tobytes()
    return blake2b(content, digest_size=16).digest()


class BlockPool:
    """Gives out the numbers of blocks; several sequences may hold one.

    A full block that is published under its key stays findable when nobody holds it any more, until
    its memory is needed: then the one that was held longest ago goes first.

    Args:
        keeps: whether blocks can be found again at all.
    """

    def __init__(self, num_blocks: int, block_size: int, *, keeps: bool = True) -> None:
        self.num_blocks, self.block_size, self.keeps = num_blocks, block_size, keeps
        self._holders = Counter[int]()
        self._free: list[int] = []
        self._untouched = 0  # blocks from this number on were never used
        self._found: dict[Key, int] = {}
        self._keys: dict[int, Key] = {}
        self._idle: OrderedDict[int, None] = OrderedDict()  # published and held by nobody
        self.hits = self.lookups = 0
        """Tokens that were found, of those that were looked for."""

    @property
    def num_tokens(self) -> int:
        """How many tokens the blocks hold in all."""
        return self.num_blocks * self.block_size

    @property
    def num_free(self) -> int:
        """How many blocks can be taken, idle ones included."""
        return self.num_blocks - self.num_held

    @property
    def num_held(self) -> int:
        return len(self._holders)

    @property
    def num_cached(self) -> int:
        """How many idle blocks can be found again."""
        return len(self._idle)

    def blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def take(self) -> int:
        """A block to write, which the caller holds; there must be a free one."""
        if self._free:
            block = self._free.pop()
        elif self._untouched < self.num_blocks:
            block = self._untouched
            self._untouched += 1
        else:
            block, _ = self._idle.popitem(last=False)
            del self._found[self._keys.pop(block)]
        self._holders[block] = 1
        return block

    def extend(self, keys: list[Key], tokens: Sequence[int], stop: int) -> None:
        """Append the keys that lack of the full blocks of the first `stop` tokens."""
        size = self.block_size
        for start in range(len(keys) * size, stop - size + 1, size):
            keys.append(next_key(keys[-1] if keys else b"", tokens[start : start + size]))

    def find(self, keys: Sequence[Key]) -> list[int]:
        """The blocks of the first keys, as many as are there without a gap."""
        blocks = []
        for key in keys:
            block = self._found.get(key)
            if block is None:
                break
            blocks.append(block)
        return blocks

    def hold(self, blocks: Iterable[int]) -> int:
        """Hold blocks that were found; how many of them nobody held before."""
        before = len(self._holders)
        for block in blocks:
            self._holders[block] += 1
            self._idle.pop(block, None)
        return len(self._holders) - before

    def publish(self, block: int, key: Key) -> None:
        """Let a full block be found, unless an equal one is."""
        if self.keeps and key not in self._found and block not in self._keys:
            self._found[key], self._keys[block] = block, key

    def release(self, blocks: Sequence[int]) -> None:
        """Hold these blocks of one sequence no longer."""
        for block in reversed(blocks):  # the end of a text is forgotten before its beginning
            self._holders[block] -= 1
            if self._holders[block]:
                continue
            del self._holders[block]
            if block in self._keys:
                self._idle[block] = None
            else:
                self._free.append(block)
