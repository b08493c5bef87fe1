"""When two texts are the same."""

import re
import unicodedata

APOSTROPHES = re.compile(r"['’`´]")
MARKS = re.compile(r"[.,;!?…\"“”„«»¿¡]")
# Other punctuation carries meaning: `:)` is not `:(`, `C#` is not `C`, `-5` is not `5`.


def fold(text: str) -> str:
    """Reduce a text to what tells it from others: NFKC, no case, no sentence marks, no quotes, single spaces."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    # A text of nothing but marks keeps them: `?` and `!` are two texts.
    return " ".join(MARKS.sub(" ", APOSTROPHES.sub("", plain)).split()) or " ".join(plain.split())
