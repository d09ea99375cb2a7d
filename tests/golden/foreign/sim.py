"""Stands for a program that is shipped."""
