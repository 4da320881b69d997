import torch

from hw2.diffusion.seeding import image_generator, image_generators
from tests.commands import run_command


def _draw(seed, name):
    return torch.randn(8, generator=image_generator(seed, name)).tolist()


def test_an_images_numbers_depend_on_its_seed_and_its_name():
    assert _draw(0, "00") == _draw(0, "00")
    assert _draw(0, "00") != _draw(1, "00")
    assert _draw(0, "00") != _draw(0, "01")
    assert _draw(1, "1") != _draw(11, "")


def test_generators_come_in_the_order_of_the_names():
    together = [torch.randn(8, generator=g).tolist() for g in image_generators(3, ["a", "b"])]
    assert together == [_draw(3, "a"), _draw(3, "b")]


def test_another_process_draws_the_same_numbers():
    code = (
        "import torch; from hw2.diffusion.seeding import image_generator as g;"
        "print(torch.randn(8, generator=g(7,'x')).tolist())"
    )
    run = run_command("tests.hw2.typed", code)
    assert run.stdout.strip() == str(_draw(7, "x"))


def test_the_global_generator_is_left_alone():
    torch.manual_seed(0)
    expected = torch.randn(3).tolist()
    torch.manual_seed(0)
    _draw(5, "a")
    assert torch.randn(3).tolist() == expected
