"""Recipes: published systems on the studio's parts. A config each, and one file or folder with what simulates
or reads its data, its task, and the reference that its results are held against."""
