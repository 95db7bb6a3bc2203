from inference.folders import SizeChanges


def test_pictures_of_the_models_size_need_no_word() -> None:
    changes = SizeChanges(64)
    changes.add((64, 64))
    assert changes.sentences() == []


def test_each_kind_of_loss_is_one_sentence_with_its_count_and_an_example() -> None:
    changes = SizeChanges(64)
    for size in ((512, 512), (512, 512), (512, 300), (40, 40), (64, 64)):
        changes.add(size)
    uneven, larger, smaller = changes.sentences()
    assert uneven.startswith("1 of 5 pictures is not square") and "512x300 was cut to 300x300" in uneven
    assert larger.startswith("3 of 5 pictures are larger") and "512x512 to 64x64" in larger
    assert smaller == "1 of 5 pictures is smaller than the model's images: enlarged first (40x40 to 64x64)"
