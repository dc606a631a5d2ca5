"""Mapping areas of any size: blocks are had from workers a few at a time, and kept until a product is whole."""
