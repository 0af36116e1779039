"""Changes that should change no answer: errors, orders and letters."""

from foundling.evaluation.probes.consistency.perturbations import WORD, lettered, mistyped, orders

TEXT = "When Kitty's brother walked past the old-fashioned kiln, everybody laughed aloud."


def test_errors_are_in_the_share_of_words_that_was_asked_for() -> None:
    words = [found.group() for found in WORD.finditer(TEXT)]
    assert words == ["brother", "walked", "past", "kiln", "everybody", "laughed", "aloud"]
    for share, count in ((0.01, 1), (0.3, 2), (0.5, 4), (1.0, 7)):
        changed = zip(TEXT.split(), mistyped(TEXT, share, 1).split(), strict=True)
        assert sum(one != other for one, other in changed) == count


def test_an_error_is_one_letter_and_never_the_first() -> None:
    for seed in range(200):
        word = mistyped("walked", 1.0, seed)
        assert word[0] == "w"
        assert word != "walked"
        swapped = sorted(word) == sorted("walked")
        dropped = word in {"walked"[:i] + "walked"[i + 1 :] for i in range(6)}
        doubled = word in {"walked"[:i] + "walked"[i] + "walked"[i:] for i in range(6)}
        assert swapped + dropped + doubled == 1


def test_errors_are_a_function_of_seed_and_text() -> None:
    assert mistyped(TEXT, 0.5, 1) == mistyped(TEXT, 0.5, 1)
    assert len({mistyped(TEXT, 0.5, seed) for seed in range(20)}) > 10
    assert mistyped("Tom is at 12 Hill Farm.", 1.0, 1) == "Tom is at 12 Hill Farm."


def test_orders_are_different_and_keep_all_places() -> None:
    found = orders(4, 24, seed=1)
    assert found[0] == (0, 1, 2, 3)
    assert len(set(found)) == 24
    assert all(sorted(order) == [0, 1, 2, 3] for order in found)
    assert orders(4, 4, seed=1) == found[:4]


def test_options_stand_behind_letters() -> None:
    assert lettered("Who?", ["Tom", "Ida", "Bo"]) == "Who?\nA) Tom\nB) Ida\nC) Bo\nAnswer:"
