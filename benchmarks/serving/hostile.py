"""Texts that people do not write and programs send: for parity."""

from collections.abc import Sequence

import numpy as np

FIXED = (
    "", " ", "\n\t\r", "\x00", "\x00\x01\x1f\x7f\x85", "\u200b\u200d\ufeff", "\u202eabc\u202c", "a" * 100_000,
    "play jazz " * 10_000, "🎷" * 1000, "👩‍👩‍👧‍👦 jouer", "تشغيل الموسيقى", "הפעל מוזיקה", "音楽を再生して",
    "Ⅷ ﬁ ½ İstanbul ß",
    "e\u0301" * 100, "\ufffd\uffff", "\U0010ffff", "<b>&amp;</b>", "'; DROP TABLE x; --",
    "[CLS] [SEP] [MASK] [PAD] [UNK]", "##ing ##s",
)  # fmt: skip
ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz ", "אבגדהוזחטי ", "ابتثجحخد ", "漢字仮名交文 ", "🎷🌧️👍🏽 ",
    "\x00\x07\x1b\x7f\u200b\u202e ", "0123456789.,-%€ ",
    "ÀÉÎõüßşİığ ",
)  # fmt: skip
N_LONG = 40


def hostile_texts(texts: Sequence[str], n: int) -> list[str]:
    """Draw texts, the same each time.

    Args:
        texts: Real ones, to be broken.
        n: How many, at least as many as `FIXED`.

    Returns:
        Fixed ones first; then real ones with odd characters put in, and runs of one alphabet, some of them long.
    """
    rng = np.random.default_rng(0)
    found = list(FIXED)
    while len(found) < n:
        letters = list(ALPHABETS[int(rng.integers(len(ALPHABETS)))])
        long = len(found) < len(FIXED) + N_LONG
        drawn = "".join(rng.choice(letters, int(rng.integers(0, 3000 if long else 40))))
        if rng.random() < 0.5:
            real = texts[int(rng.integers(len(texts)))]
            cut = int(rng.integers(len(real) + 1))
            drawn = real[:cut] + drawn + real[cut:]
        found.append(drawn)
    return found[:n]
