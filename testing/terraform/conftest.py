import pytest

from workbench import Bench, Provider


@pytest.fixture
def bare_bench(tmp_path):
    """The modules, with no provider at hand."""
    return Bench(tmp_path / "terraform")


@pytest.fixture
def bench(tmp_path, provider):
    """The modules and the provider that knows the current schema."""
    return Bench(tmp_path / "terraform", provider)


@pytest.fixture(scope="session")
def provider():
    from workbench import MODULES

    with Provider(MODULES) as reached:
        yield reached
