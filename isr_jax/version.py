"""The version of this package."""

from importlib.metadata import PackageNotFoundError, version


def package_version() -> str:
    """Returns the version, "unknown" where the source is used without being installed."""
    try:
        return version("isr_jax")
    except PackageNotFoundError:
        return "unknown"
