"""The lab: a web page on this machine on which networks are trained, looked into and understood."""

from convscope.lab.server import run_lab

__all__ = ["run_lab"]
