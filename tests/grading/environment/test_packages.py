import re
import sys

import pytest

from grading.environment.packages import (
    COURSE_REQUIREMENTS,
    CURRENT_REQUIREMENTS,
    NOT_ALLOWED,
    NOT_ON_PYPI,
    course_packages,
    distribution_of,
    install_hint,
    is_standard,
    known_modules,
    requirements_file,
)


@pytest.mark.parametrize(
    ("module", "distribution"),
    [
        ("cv2", "opencv-python"),
        ("PIL.Image", "pillow"),
        ("sklearn.manifold", "scikit-learn"),
        ("yaml", "pyyaml"),
        ("pytorch_lightning.callbacks", "pytorch-lightning"),
        ("mpl_toolkits.axes_grid1", "matplotlib"),
        ("google.protobuf.message", "protobuf"),
        ("google.colab", "google-colab"),
        ("google", None),
        ("my_forgotten_unet", None),
        ("", None),
    ],
)
def test_a_module_leads_to_the_distribution_that_has_it(module, distribution):
    assert distribution_of(module) == distribution


def test_the_table_is_sorted_and_names_no_module_of_python_itself():
    modules = list(known_modules())
    assert modules == sorted(modules, key=lambda name: (name.lower(), name))
    assert len(modules) > 200
    assert not [module for module in modules if is_standard(module)]


def test_every_distribution_has_a_name_that_pip_takes():
    assert all(re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name) for name in known_modules().values())
    assert NOT_ON_PYPI.keys() <= set(known_modules().values())


def test_pypi_has_another_package_under_the_name_clip_so_it_is_never_advised():
    assert install_hint("clip-anytorch") == "pip install clip-anytorch"
    assert not {"clip", "ldm", "apex", "cv2", "sklearn"} & set(known_modules().values())


def test_both_requirements_have_the_packages_of_the_course():
    modern = requirements_file(CURRENT_REQUIREMENTS).read_text()
    other_names = {"clip": "clip-anytorch", "taming-transformers": "taming-transformers-rom1504"}
    for name in course_packages():
        assert re.search(rf"^{other_names.get(name, name)}[>=]", modern, re.MULTILINE), name


def test_the_courses_pins_are_those_of_the_specification():
    assert requirements_file(COURSE_REQUIREMENTS).name == "course.txt"
    pins = course_packages()
    assert (pins["torch"], pins["transformers"], pins["omegaconf"]) == ("==1.11.0", "==4.46.3", "==2.1.1")
    assert pins["clip"] == pins["tqdm"] == ""


def test_no_requirements_name_what_the_homework_forbids():
    assert not NOT_ALLOWED & course_packages().keys()
    assert "diffusers" not in requirements_file(CURRENT_REQUIREMENTS).read_text()


def test_modules_that_newer_pythons_dropped_still_count_as_pythons_own():
    assert is_standard("imp")
    assert is_standard("distutils.version")
    assert is_standard("os.path")
    assert not is_standard("torch")
    assert not [name for name in ("imp", "asyncore", "distutils") if name in sys.stdlib_module_names] or (
        sys.version_info < (3, 12)
    )
