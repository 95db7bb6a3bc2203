"""What is done to pictures to bring them to a model's size, in words."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

Size = tuple[int, int]
"""Width and height in pixels."""


@dataclass
class SizeChanges:
    """Counts pictures by what becomes of them."""

    resolution: int
    """R, width and height that the model takes, in pixels."""
    sizes: Counter[Size] = field(default_factory=Counter)
    """How many pictures there were of each size."""

    def add(self, size: Size) -> None:
        """Counts a picture."""
        self.sizes[size] += 1

    def sentences(self) -> list[str]:
        """One sentence for each kind of loss; none where all pictures had the model's size."""
        wanted, texts = f"{self.resolution}x{self.resolution}", []
        if uneven := self._where(lambda size: size[0] != size[1]):
            side = min(uneven[0])
            texts.append(
                f"{self._count(uneven)} not square: only the central square was kept ({_text(uneven[0])} was cut to "
                f"{side}x{side}); give faces that are aligned"
            )
        if larger := self._where(lambda size: min(size) > self.resolution):
            texts.append(
                f"{self._count(larger)} larger than the model's images: made smaller ({_text(larger[0])} to {wanted}), "
                "so detail of theirs is lost; a model of their size would keep it"
            )
        if smaller := self._where(lambda size: min(size) < self.resolution):
            texts.append(
                f"{self._count(smaller)} smaller than the model's images: enlarged first ({_text(smaller[0])} to "
                f"{wanted})"
            )
        return texts

    def _where(self, is_meant: Callable[[Size], bool]) -> list[Size]:
        """Sizes, the commonest first."""
        return [size for size, _ in self.sizes.most_common() if is_meant(size)]

    def _count(self, sizes: list[Size]) -> str:
        number, total = sum(self.sizes[size] for size in sizes), self.sizes.total()
        return f"{number:,} of {total:,} pictures {'is' if number == 1 else 'are'}"


def _text(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
