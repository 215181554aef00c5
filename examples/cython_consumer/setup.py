"""python setup.py build_ext --inplace, with nadofast, Cython and setuptools installed."""

from Cython.Build import cythonize
from setuptools import setup

setup(name="microprice", ext_modules=cythonize("microprice.pyx"))
