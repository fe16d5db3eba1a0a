"""The version of the package; that of the numbers is initframe.stream.VERSION."""

__version__ = "0.1.0"
