"""Only what pyproject.toml cannot say: the C kernel is a cffi extension."""

from setuptools import setup

setup(cffi_modules=["ztpipe/kernel/build.py:ffibuilder"])
