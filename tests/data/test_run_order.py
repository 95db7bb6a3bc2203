import pytest

from data.randomness import is_flipped, photograph_of


def test_every_epoch_shows_every_photograph_once() -> None:
    shown = [photograph_of(0, index, 17) for index in range(3 * 17)]
    for epoch in range(3):
        assert sorted(shown[epoch * 17 : (epoch + 1) * 17]) == list(range(17))


def test_every_epoch_and_every_seed_has_its_own_order() -> None:
    orders = {
        tuple(photograph_of(seed, epoch * 50 + position, 50) for position in range(50))
        for seed in range(4)
        for epoch in range(4)
    }
    assert len(orders) == 16


def test_the_order_is_the_recorded_one() -> None:
    # Recorded once: a change here changes every run that anyone wants to resume or repeat.
    assert [photograph_of(0, index, 8) for index in range(16)] == [3, 1, 7, 2, 0, 5, 4, 6, 0, 6, 2, 1, 3, 4, 5, 7]


def test_an_image_far_into_the_run_needs_none_of_the_earlier_ones() -> None:
    far = photograph_of(3, 25_000_000, 100)
    assert [photograph_of(3, index, 100) for index in range(24_999_995, 25_000_001)][-1] == far


def test_the_first_photograph_of_an_epoch_is_any_with_equal_chance() -> None:
    counts = [0] * 4
    for epoch in range(2000):
        counts[photograph_of(0, 4 * epoch, 4)] += 1
    assert all(abs(count - 500) < 100 for count in counts)  # five standard deviations


def test_flips_have_the_given_probability_and_its_ends_are_certain() -> None:
    flipped = sum(is_flipped(0, index, 0.25) for index in range(10_000))
    assert abs(flipped - 2500) < 220  # five standard deviations
    assert not any(is_flipped(0, index, 0.0) for index in range(1000))
    assert all(is_flipped(0, index, 1.0) for index in range(1000))


def test_an_image_flipped_at_a_low_probability_is_flipped_at_a_higher_one() -> None:
    for index in range(200):
        assert is_flipped(0, index, 0.3) <= is_flipped(0, index, 0.6)


def test_an_empty_set_and_a_negative_index_are_refused() -> None:
    with pytest.raises(ValueError, match="got 0 photographs and index 0"):
        photograph_of(0, 0, 0)
    with pytest.raises(ValueError, match="got 5 photographs and index -1"):
        photograph_of(0, -1, 5)
